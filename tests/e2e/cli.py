"""The command line, end to end, on the embedded model, the sample pictures and crafted files."""
import json
import os
import re
import shutil
import subprocess
import unittest

from file_formats import (GREY, RGB, RGBA, external_tensor, float_tensor, model, node, npy_bytes, npz_bytes, png_bytes,
                          png_chunk, read_npy, read_png, value_info)
from octavo_command import BINARY, DECODER, ENCODER, HARD_ENCODER, SAMPLES, OctavoTest

COMMANDS = ("segment", "run", "inspect", "bench", "compare")
ASTRONAUT = SAMPLES / "astronaut.png"
FACE = "150,8,292,200"  # the astronaut's head, in pixels of that picture


class CommandTest(OctavoTest):
    def refused(self, *arguments, says=(), **options):
        """Exit code 2, and one line on standard error that says what is wrong."""
        outcome = self.octavo(*arguments, code=2, **options)
        lines = outcome.stderr.splitlines()
        self.assertEqual(len(lines), 1, outcome)
        self.assertTrue(lines[0].startswith("octavo: error: "), outcome)
        self.assertEqual(outcome.stdout, "", outcome)
        for text in (says,) if isinstance(says, str) else says:
            self.assertIn(text, lines[0])
        return lines[0]

    def write(self, name, data):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def add_model(self, name="add.onnx"):
        """z = x + y, with a size that is dynamic."""
        return self.write(name, model([node("Add", ["x", "y"], ["z/out:0"])], [value_info("x", ["n", 3]), value_info("y", [3])],
                                      [value_info("z/out:0", ["n", 3])]))


class Usage(CommandTest):
    def test_version_names_isa_and_onednn(self):
        text = self.octavo("--version").stdout
        self.assertRegex(text, r"^octavo \d+\.\d+\.\d+ \(ISA in use: \w+; oneDNN \d+\.\d+\.\d+\)\n$")

    def test_help_of_every_command_has_examples(self):
        listed = self.octavo("--help").stdout
        for command in COMMANDS:
            self.assertIn(f"  {command} ", listed)
            text = self.octavo(command, "--help").stdout
            self.assertIn("EXAMPLES\n  octavo " + command, text)
            self.assertIn("--json", text)
            self.assertIn("--threads", text)

    def test_no_command_is_bad_usage(self):
        self.assertIn("octavo", self.octavo(code=2).stderr)

    def test_unknown_command_and_flag_have_a_hint(self):
        self.refused("segmnt", says="did you mean 'segment'")
        self.refused("bench", ENCODER, "--iteration", "3", says=("--iteration", "did you mean '--iterations'"))
        self.refused("run", ENCODER, "--frobnicate", says=("unknown flag '--frobnicate'", "octavo run --help"))

    def test_bad_values(self):
        self.refused("inspect", says="MODEL")
        self.refused("bench", ENCODER, "--threads", "many", says="--threads")
        self.refused("bench", ENCODER, "--threads", "-1", says="--threads")
        self.refused("bench", ENCODER, "--precision", "int8", says=("int8", "bf16"))
        self.refused("inspect", ENCODER, "--disable-pass", "nonsense", says="nonsense")
        self.refused("inspect", ENCODER, "--input-shape", "input_image=1x3x512x512", says="input_image")
        self.refused("inspect", ENCODER, "--input-shape", "other=1x3", says="input_image")

    def test_missing_files(self):
        self.refused("inspect", "nowhere.onnx", says="nowhere.onnx")
        self.refused("segment", "nowhere.png", "--box", "0,0,9,9", says="nowhere.png")
        self.refused("segment", ASTRONAUT, "--box", FACE, "--encoder", "nowhere.onnx", says="nowhere.onnx")


class Segment(CommandTest):
    def segment(self, picture, *arguments, **options):
        return self.octavo("segment", picture, *arguments, "--json", "-", **options).json

    def test_box(self):
        outcome = self.octavo("segment", ASTRONAUT, "--box", FACE, "-o", "overlay.png", "--mask", "mask.png", "--json", "-")
        report = outcome.json  # nothing but JSON on standard output
        self.assertIn("predicted IoU", outcome.stderr)
        self.assertEqual(report["size"], [512, 512])
        self.assertGreater(report["encoder_ms"], 0)
        self.assertGreater(report["decoder_ms"], 0)
        (mask,) = report["masks"]
        self.assertEqual(mask["prompt"], {"box": [150, 8, 292, 200]})
        self.assertTrue(0.5 < mask["iou_prediction"] < 1.1, mask)

        width, height, channels, pixels = read_png(self.folder / "mask.png")
        self.assertEqual((width, height, channels), (512, 512, 1))
        self.assertEqual(set(pixels), {0, 255})
        self.assertEqual(pixels.count(255), mask["area"])
        rows = [y for y in range(height) if 255 in pixels[y * width:(y + 1) * width]]
        self.assertEqual([mask["bbox"][1], mask["bbox"][3]], [rows[0], rows[-1] + 1])
        # The mask is of what is in the box: most of it lies there.
        inside = sum(pixels[y * width + 150:y * width + 292].count(255) for y in range(8, 200))
        self.assertGreater(inside, 0.9 * mask["area"])

        width, height, channels, overlay = read_png(self.folder / "overlay.png")
        self.assertEqual((width, height, channels), (512, 512, 3))
        self.assertNotEqual(overlay, read_png(ASTRONAUT)[3])

    def test_text_and_default_overlay(self):
        outcome = self.octavo("segment", SAMPLES / "rocket.jpg", "--box", "300,60,360,400")
        self.assertIn("box 300,60,360,400", outcome.stdout)
        self.assertIn("overlay: rocket.overlay.png\n", outcome.stdout)
        self.assertEqual(outcome.stderr, "")
        self.assertTrue((self.folder / "rocket.overlay.png").exists())

    def test_several_prompts_are_labelled_and_independent(self):
        both = self.segment(ASTRONAUT, "--box", FACE, "--box", "375,5,475,290", "--mask", "both.png")
        one = self.segment(ASTRONAUT, "--box", "375,5,475,290", "--mask", "one.png")
        self.assertEqual(len(both["masks"]), 2)
        self.assertAlmostEqual(both["masks"][1]["iou_prediction"], one["masks"][0]["iou_prediction"], places=4)
        labels, alone = read_png(self.folder / "both.png")[3], read_png(self.folder / "one.png")[3]
        self.assertEqual(set(labels), {0, 1, 2})
        different = sum((label == 2) != (value == 255) for label, value in zip(labels, alone))
        self.assertLess(different, 0.001 * len(alone))  # the bound for equal masks

    def test_points_make_one_prompt_or_each_its_own(self):
        points = ("--point", "220,100", "--point", "20,20,0")
        (mask,) = self.segment(ASTRONAUT, *points)["masks"]
        self.assertEqual(mask["prompt"], {"points": [[220, 100, 1], [20, 20, 0]]})
        self.assertIn(mask["mask_index"], (1, 2, 3))
        self.assertEqual(len(self.segment(ASTRONAUT, *points, "--each-point")["masks"]), 2)
        mixed = self.segment(ASTRONAUT, "--point", "220,100", "--box", FACE, "--point", "20,20", "--point", "30,30")["masks"]
        self.assertEqual([list(mask["prompt"]) for mask in mixed], [["points"], ["box"], ["points"]])
        self.assertEqual(len(mixed[2]["prompt"]["points"]), 2)

    def test_hard_encoder_gives_the_same_masks(self):
        plain = self.segment(ASTRONAUT, "--box", FACE, "--mask", "plain.png")
        self.segment(ASTRONAUT, "--box", FACE, "--mask", "hard.png", "--encoder", HARD_ENCODER, "--decoder", DECODER)
        a, b = read_png(self.folder / "plain.png")[3], read_png(self.folder / "hard.png")[3]
        self.assertLess(sum(x != y for x, y in zip(a, b)), 0.001 * len(a))
        self.assertGreater(plain["masks"][0]["area"], 0)

    def test_bfloat16_draws_nearly_the_same_mask(self):
        self.segment(ASTRONAUT, "--box", FACE, "--mask", "a.png")
        report = self.segment(ASTRONAUT, "--box", FACE, "--mask", "b.png", "--precision", "bf16")
        self.assertEqual(report["precision"], "bf16")
        a, b = read_png(self.folder / "a.png")[3], read_png(self.folder / "b.png")[3]
        intersection = sum(x != 0 and y != 0 for x, y in zip(a, b))
        union = sum(x != 0 or y != 0 for x, y in zip(a, b))
        self.assertGreater(intersection, 0.97 * union)  # 8 bits of mantissa move a mask's rim only

    def test_one_thread_gives_the_same_bits(self):
        for name in ("a", "b"):
            self.octavo("run", ENCODER, ASTRONAUT, "--preprocess", "sam", "--threads", "1", "-o", name)
        self.assertEqual((self.folder / "a/image_embeddings.npy").read_bytes(),
                         (self.folder / "b/image_embeddings.npy").read_bytes())

    def test_prompts_that_do_not_fit(self):
        self.refused("segment", ASTRONAUT, says=("no prompt", "--box", "--point"))
        self.refused("segment", ASTRONAUT, "--box", "600,600,700,700", says="512x512")
        self.refused("segment", ASTRONAUT, "--box", "-50,-50,-10,-10")
        self.refused("segment", ASTRONAUT, "--box", "300,300,100,100", says="300")
        self.refused("segment", ASTRONAUT, "--box", "10,10,10,10")
        self.refused("segment", ASTRONAUT, "--box", "nan,0,10,10")
        self.refused("segment", ASTRONAUT, "--box", "1,2,3", says="x0,y0,x1,y1")
        self.refused("segment", ASTRONAUT, "--box", "1,2,3,4,5", says="x0,y0,x1,y1")
        self.refused("segment", ASTRONAUT, "--box", "a,b,c,d", says="x0,y0,x1,y1")
        self.refused("segment", ASTRONAUT, "--point", "900,20")
        self.refused("segment", ASTRONAUT, "--point", "5,5,7", says="label")
        self.refused("segment", ASTRONAUT, "--point", "5", says="x,y")

    def test_box_over_the_edge_is_clamped_with_a_warning(self):
        outcome = self.octavo("segment", ASTRONAUT, "--box=-40,-20,292,200", "--json", "-")
        self.assertEqual(len(re.findall("^octavo: warning: ", outcome.stderr, re.M)), 1, outcome)
        self.assertEqual(len(outcome.json["masks"]), 1)
        self.octavo("segment", ASTRONAUT, "--box", "-40,-20,292,200")  # as its own word, too

    def test_an_encoder_in_the_decoders_place(self):
        self.refused("segment", ASTRONAUT, "--box", FACE, "--decoder", ENCODER)
        self.refused("segment", ASTRONAUT, "--box", FACE, "--encoder", DECODER)

    def test_unwritable_outputs(self):
        self.write("file", b"")
        self.refused("segment", ASTRONAUT, "--box", FACE, "-o", "file/overlay.png", says="'file")
        self.refused("segment", ASTRONAUT, "--box", FACE, "-o", "nowhere/overlay.png", says="'nowhere")
        self.refused("segment", ASTRONAUT, "--box", FACE, "--mask", "/proc/mask.png", says="/proc")


class Pictures(CommandTest):
    SIZE = 48

    def levels(self):
        """A bright square on a dark ground that slopes a little, one value per pixel."""
        side = self.SIZE
        return [[200 + x % 8 if 12 <= x < 36 and 12 <= y < 36 else 20 + (x + y) // 4 for x in range(side)] for y in range(side)]

    def mask(self, name, data):
        self.write(name, data)
        out = name + ".mask.png"
        self.octavo("segment", name, "--box", "10,10,38,38", "--mask", out)
        return read_png(self.folder / out)

    def png(self, color, depth, pixel):
        rows = [b"".join(pixel(level) for level in row) for row in self.levels()]
        return png_bytes(self.SIZE, self.SIZE, color, depth, rows)

    def test_every_kind_of_png_gives_the_same_mask(self):
        reference = self.mask("rgb.png", self.png(RGB, 8, lambda v: bytes([v, v, v])))
        self.assertEqual(reference[:3], (self.SIZE, self.SIZE, 1))
        self.assertEqual(reference, self.mask("grey.png", self.png(GREY, 8, lambda v: bytes([v]))))
        self.assertEqual(reference, self.mask("rgba.png", self.png(RGBA, 8, lambda v: bytes([v, v, v, 128]))))
        # Sixteen bits keep their high byte.
        self.assertEqual(reference, self.mask("grey16.png", self.png(GREY, 16, lambda v: bytes([v, 77]))))
        self.assertEqual(reference, self.mask("rgb16.png", self.png(RGB, 16, lambda v: bytes([v, 9]) * 3)))
        self.assertEqual(reference, self.mask("rgba16.png", self.png(RGBA, 16, lambda v: bytes([v, 3]) * 4)))

    def test_broken_pictures(self):
        good = self.png(RGB, 8, lambda v: bytes([v, v, v]))
        jpeg = (SAMPLES / "rocket.jpg").read_bytes()
        huge = (b"\x89PNG\r\n\x1a\n"
                + png_chunk(b"IHDR", (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])) + png_chunk(b"IDAT", b"x")
                + png_chunk(b"IEND", b""))
        broken = {"empty.png": b"", "empty.jpg": b"", "text.png": b"not a picture\n", "half.png": good[:len(good) // 2],
                  "header.jpg": jpeg[:200], "half.jpg": jpeg[:len(jpeg) // 2], "huge.png": huge,
                  "crc.png": good[:60] + b"\xff" + good[61:]}
        for name, data in broken.items():
            with self.subTest(name):
                self.write(name, data)
                self.refused("segment", name, "--box", "1,1,20,20", says=name)
        self.refused("segment", "huge.png", "--box", "1,1,20,20", says="60000")
        self.refused("segment", self.folder, "--box", "1,1,20,20")

    def test_a_huge_header_is_refused_before_memory_is_taken(self):
        huge = (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])))
        self.write("huge.png", huge)
        probe = ("import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode;"
                 "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        answer = subprocess.run(["python3", "-c", probe, BINARY, "segment", "huge.png", "--box", "1,1,9,9"], cwd=self.folder,
                                capture_output=True, text=True, check=True).stdout.split()
        self.assertEqual(answer[0], "2")
        if "asan" not in str(BINARY):  # shadow memory counts too
            self.assertLess(int(answer[1]), 200_000)  # KiB; the picture alone would be 10.8 GB


class Run(CommandTest):
    def test_named_inputs_and_odd_output_names(self):
        add = self.add_model()
        self.write("x.npy", npy_bytes([2, 3], [1, 2, 3, 4, 5, 6]))
        self.write("y.npy", npy_bytes([3], [10, 20, 30]))
        report = self.octavo("run", add, "--input", "x=x.npy", "--input", "y=y.npy", "-o", "deep/er", "--json", "-").json
        self.assertEqual(report["outputs"][0]["name"], "z/out:0")
        self.assertEqual(report["outputs"][0]["dims"], [2, 3])
        self.assertEqual(report["outputs"][0]["file"], "deep/er/z_out_0.npy")
        self.assertEqual(read_npy(self.folder / "deep/er/z_out_0.npy"), ([2, 3], [11, 22, 33, 14, 25, 36]))

    def test_npz_holds_every_input(self):
        add = self.add_model()
        self.write("sample.npz", npz_bytes({"x": ([1, 3], [1, 2, 3]), "y": ([3], [1, 1, 1])}))
        self.octavo("run", add, "sample.npz", "-o", "out")
        self.assertEqual(read_npy(self.folder / "out/z_out_0.npy"), ([1, 3], [2, 3, 4]))

    def test_reference_engine_agrees_on_the_decoder(self):
        random = __import__("random").Random(3)
        self.write("e.npy", npy_bytes([1, 128, 32, 32], [random.gauss(0, 1) for _ in range(128 * 1024)]))
        self.write("c.npy", npy_bytes([2, 2, 2], [10, 20, 200, 220, 30, 40, 90, 100]))
        self.write("l.npy", npy_bytes([2, 2], [2, 3, 2, 3]))
        inputs = ("--input", "image_embeddings=e.npy", "--input", "point_coords=c.npy", "--input", "point_labels=l.npy")
        for engine in ("octavo", "reference"):
            self.octavo("run", DECODER, *inputs, "-o", engine, "--engine", engine)
        for name in ("masks", "iou_predictions"):
            dims_a, a = read_npy(self.folder / f"octavo/{name}.npy")
            dims_b, b = read_npy(self.folder / f"reference/{name}.npy")
            self.assertEqual(dims_a, dims_b)
            noise = sum((x - y) ** 2 for x, y in zip(a, b))
            self.assertLess(noise, 1e-9 * sum(y * y for y in b))  # 90 dB

    def test_inputs_that_do_not_fit(self):
        add = self.add_model()
        self.write("x.npy", npy_bytes([2, 3], [1, 2, 3, 4, 5, 6]))
        self.write("wide.npy", npy_bytes([2, 4], [0] * 8))
        self.write("double.npy", npy_bytes([3], [1, 2, 3], "<f8"))
        self.write("cut.npy", npy_bytes([3], [1, 2, 3])[:-4])
        self.write("text.npy", b"hello")
        self.refused("run", add, "--input", "x=x.npy", says=("missing inputs", "y float32 3"))
        self.refused("run", add, "--input", "x=wide.npy", says=("wide.npy", "2x4"))
        self.refused("run", add, "--input", "x=x.npy", "--input", "y=double.npy", says=("double.npy", "float64", "float32"))
        self.refused("run", add, "--input", "y=cut.npy", says="cut.npy")
        self.refused("run", add, "--input", "y=text.npy", says="text.npy")
        self.refused("run", add, "--input", "w=x.npy", says=("w=x.npy", "x float32"))
        self.refused("run", add, "--input", "x=x.npy", "--input", "x=x.npy", says=("x=x.npy", "a second time"))
        self.refused("inspect", add, "--input-shape", "x=1x3", "--input-shape", "x=2x3", says="a second time")
        one = self.write("one.onnx", model([node("Relu", ["x"], ["y"])], [value_info("x", ["n", 3])], [value_info("y", ["n", 3])]))
        self.refused("run", one, "--input", "x=x.npy", "--input", "q=x.npy", says=("q=x.npy", "x float32"))
        self.refused("run", ENCODER, ASTRONAUT, says="--preprocess")
        self.refused("run", ENCODER, ASTRONAUT, "--preprocess", "nonsense", says="nonsense")

    def test_unwritable_folder(self):
        add = self.add_model()
        self.write("s.npz", npz_bytes({"x": ([1, 3], [1, 2, 3]), "y": ([3], [1, 1, 1])}))
        self.write("file", b"")
        self.refused("run", add, "s.npz", "-o", "file", says="file")
        self.refused("run", add, "s.npz", "-o", "file/below", says="file/below")
        self.refused("run", add, "s.npz", "-o", "/proc/nowhere", says="/proc/nowhere")


class Inspect(CommandTest):
    def test_encoder(self):
        outcome = self.octavo("inspect", ENCODER, "--layers", "--json", "-")
        report = outcome.json
        self.assertEqual(report["inputs"][0]["name"], "input_image")
        self.assertEqual(report["inputs"][0]["declared_dims"], [None, 3, 256, 256])
        self.assertEqual(report["inputs"][0]["dims"], [1, 3, 256, 256])
        self.assertEqual(report["outputs"][0]["dims"], [1, 128, 32, 32])
        self.assertAlmostEqual(report["parameters"], 4.9e6, delta=0.1e6)  # the model's card
        self.assertEqual(report["macs"], sum(layer["macs"] for layer in report["layers"]))
        self.assertGreater(report["macs"], 1e8)
        self.assertEqual(len(report["notes"]), 1)
        fused = {op["op"]: op["after"] for op in report["ops"] if op["after"] > 0}
        self.assertGreater(fused.get("octavo.LinearAttention", 0), 0, report["ops"])
        self.assertNotIn("Tanh", fused)
        self.assertTrue(any(p["rewrites"] > 0 for p in report["passes"]))
        self.assertEqual(report["largest_activation"]["bytes"] % 4, 0)

    def test_disabled_pass_finds_nothing(self):
        report = self.octavo("inspect", ENCODER, "--json", "-").json
        working = [p["name"] for p in report["passes"] if p["rewrites"] > 0]
        (name,) = [name for name in working if "linear" in name]
        without = self.octavo("inspect", ENCODER, "--disable-pass", name, "--json", "-").json
        self.assertNotIn(name, [p["name"] for p in without["passes"] if p["rewrites"] > 0])
        self.assertNotIn("octavo.LinearAttention", [op["op"] for op in without["ops"]])

    def test_shapes_scale_the_cost(self):
        one = self.octavo("inspect", ENCODER, "--json", "-").json
        four = self.octavo("inspect", ENCODER, "--input-shape", "4x3x256x256", "--json", "four.json")
        self.assertIn("MACs", four.stdout)
        self.assertEqual(json.loads((self.folder / "four.json").read_text())["macs"], 4 * one["macs"])

    def test_plan_names_kernels(self):
        plan = self.octavo("inspect", DECODER, "--plan", "--json", "-").json["plan"]
        self.assertTrue(plan["steps"])
        self.assertTrue(all(step["kernel"] for step in plan["steps"]))


class Bench(CommandTest):
    def test_json(self):
        outcome = self.octavo("bench", ENCODER, "--threads", "1", "--iterations", "3", "--warmup", "1", "--per-layer", "--json", "-")
        report = outcome.json
        for key in ("median_ms", "p10_ms", "p90_ms", "min_ms", "gmacs_per_s", "peak_share", "load_ms", "compile_ms", "first_ms",
                    "peak_rss_mb"):
            self.assertGreater(report[key], 0, key)
        self.assertLessEqual(report["p10_ms"], report["median_ms"])
        self.assertLessEqual(report["median_ms"], report["p90_ms"])
        self.assertLess(report["peak_share"], 1)
        self.assertEqual((report["threads"], report["precision"], report["iterations"]), (1, "fp32", 3))
        self.assertTrue(report["isa"])
        self.assertTrue(all(layer["ms"] >= 0 for layer in report["layers"]))
        self.assertIn("median", outcome.stderr)

    def test_persistent_mode(self):
        outcome = self.octavo("bench", DECODER, "--threads", "1", "--on-stdin", stdin=b"2\n3\n")
        ready, two, three = [json.loads(line) for line in outcome.stdout.splitlines()]
        self.assertTrue(ready["ready"])
        self.assertEqual((len(two["ms"]), len(three["ms"])), (2, 3))
        outcome = self.octavo("bench", DECODER, "--on-stdin", stdin=b"x\n", code=2)
        self.assertIn("octavo: error: --on-stdin", outcome.stderr)

    def test_given_input(self):
        add = self.add_model()
        self.write("x.npy", npy_bytes([4, 3], [0] * 12))
        report = self.octavo("bench", add, "--input", "x=x.npy", "--iterations", "2", "--json", "-").json
        self.assertEqual(report["macs"], 0)


class Compare(CommandTest):
    def setUp(self):
        super().setUp()
        (self.folder / "data").mkdir()
        shutil.copy(SAMPLES / "rocket.jpg", self.folder / "data/rocket.jpg")
        shutil.copy(SAMPLES / "coffee.png", self.folder / "data/coffee.png")
        self.data = ("--data", "data", "--preprocess", "sam")

    def test_a_model_equals_itself(self):
        report = self.octavo("compare", ENCODER, ENCODER, *self.data, "--threads", "1", "--json", "-").json
        self.assertEqual(report["samples"], 2)
        (output,) = report["outputs"]
        self.assertEqual(output["name"], "image_embeddings")
        self.assertEqual(output["sqnr_db"], 999)
        self.assertEqual(output["max_abs_error"], 0)
        self.assertAlmostEqual(output["cosine"], 1)

    def test_bfloat16_goal_missed_is_a_finding(self):
        common = ("compare", ENCODER, ENCODER, *self.data, "--precision-b", "bf16", "--limit", "1", "--json", "-")
        report = self.octavo(*common, "--min-sqnr", "35").json
        self.assertTrue(35 <= report["outputs"][0]["sqnr_db"] < 90, report)
        missed = self.octavo(*common, "--min-sqnr", "120", code=1)
        self.assertFalse(missed.json["met"])
        self.assertIn("below --min-sqnr", missed.stderr)

    def test_per_layer(self):
        report = self.octavo("compare", ENCODER, HARD_ENCODER, *self.data, "--limit", "1", "--per-layer", "--json", "-").json
        self.assertGreater(report["outputs"][0]["sqnr_db"], 60)  # one function, other scales inside
        same = self.octavo("compare", ENCODER, ENCODER, *self.data, "--limit", "1", "--per-layer", "--threads", "1",
                           "--json", "-").json
        self.assertGreater(len(same["layers"]), 20)
        self.assertTrue(all(layer["sqnr_db"] == 999 for layer in same["layers"]), same["layers"])

    def test_outputs_from_files(self):
        for name in ("rocket.jpg", "coffee.png"):
            self.octavo("run", ENCODER, f"data/{name}", "--preprocess", "sam", "--threads", "1", "-o", f"b/{name[:-4]}")
        common = ("compare", ENCODER, *self.data, "--threads", "1")
        report = self.octavo(*common, "--outputs-b", "b", "--json", "-").json
        self.assertEqual(report["outputs"][0]["sqnr_db"], 999)
        # One sample: the folder itself will do. Samples come by name, so the first is coffee.
        one = self.octavo(*common, "--limit", "1", "--outputs-b", "b/coffee", "--json", "-").json
        self.assertEqual(one["outputs"][0]["sqnr_db"], 999)
        other = self.octavo(*common, "--limit", "1", "--outputs-b", "b/rocket", "--json", "-").json
        self.assertLess(other["outputs"][0]["sqnr_db"], 30)
        shutil.rmtree(self.folder / "b/rocket")
        self.refused(*common, "--outputs-b", "b", says="b/rocket")
        self.refused(*common, "--outputs-b", "nowhere", says="nowhere")

    def test_npz_samples_and_names_that_differ(self):
        a = self.add_model("a.onnx")
        b = self.write("b.onnx", model([node("Sub", ["p", "q"], ["r"])], [value_info("p", ["n", 3]), value_info("q", [3])],
                                       [value_info("r", ["n", 3])]))
        self.write("samples/one.npz", npz_bytes({"x": ([1, 3], [3, 4, 0]), "y": ([3], [0, 0, 0.1])}))
        self.write("samples/two.npz", npz_bytes({"x": ([2, 3], [0] * 6), "y": ([3], [0, 0, 0])}))
        report = self.octavo("compare", a, b, "--data", "samples", "--json", "-").json
        self.assertEqual(len(report["notes"]), 3)  # two inputs and one output matched by position
        # Signal 9 + 16 + 0.01, noise (0.1 - -0.1)^2 = 0.04: 10 log10(25.01 / 0.04) = 27.96 dB.
        self.assertAlmostEqual(report["outputs"][0]["sqnr_db"], 27.96, places=2)
        self.assertAlmostEqual(report["outputs"][0]["max_abs_error"], 0.2, places=6)

    def test_bad_usage(self):
        self.refused("compare", ENCODER, *self.data, says="--outputs-b")
        self.refused("compare", ENCODER, ENCODER, "--outputs-b", "b", *self.data)
        self.refused("compare", ENCODER, ENCODER, "--data", "data", says="--preprocess")
        self.refused("compare", ENCODER, ENCODER, "--data", "nowhere", "--preprocess", "sam", says="nowhere")
        (self.folder / "none").mkdir()
        self.refused("compare", ENCODER, ENCODER, "--data", "none", "--preprocess", "sam", says="none")
        self.refused("compare", ENCODER, DECODER, *self.data)


class HostileModels(CommandTest):
    def test_not_onnx(self):
        self.write("text.onnx", b"This is not a model.\n" * 100)
        self.write("empty.onnx", b"")
        self.write("zeros.onnx", bytes(4096))
        self.write("picture.onnx", ASTRONAUT.read_bytes())
        for name in ("text.onnx", "empty.onnx", "zeros.onnx", "picture.onnx"):
            with self.subTest(name):
                self.refused("inspect", name, says=name)
        self.refused("inspect", self.folder)

    def test_truncated_at_every_twentieth(self):
        for original in (DECODER, ENCODER):
            length = original.stat().st_size
            copy = self.folder / "cut.onnx"
            shutil.copy(original, copy)
            for twentieth in range(19, -1, -1):
                with self.subTest(model=original.name, twentieth=twentieth):
                    os.truncate(copy, length * twentieth // 20)
                    self.refused("inspect", copy, says="cut.onnx")

    def external_model(self, **entries):
        weights = external_tensor("w", [3], **entries)
        return model([node("Add", ["x", "w"], ["y"])], [value_info("x", [1, 3])], [value_info("y", [1, 3])], [weights])

    def test_external_data(self):
        data = npy_bytes([3], [1, 2, 3])[-12:]
        self.write("models/w.bin", data)
        self.write("models/short.bin", data[:8])
        self.write("secret.bin", data)
        (self.folder / "models/link.bin").symlink_to(self.folder / "secret.bin")
        self.write("models/good.onnx", self.external_model(location="w.bin", offset=0, length=12))
        self.write("x.npy", npy_bytes([1, 3], [1, 1, 1]))
        self.octavo("run", "models/good.onnx", "x.npy", "-o", "out")
        self.assertEqual(read_npy(self.folder / "out/y.npy"), ([1, 3], [2, 3, 4]))
        hostile = {
            "short file": dict(location="short.bin", offset=0, length=12),
            "short length": dict(location="w.bin", offset=0, length=8),
            "past the end": dict(location="w.bin", offset=8, length=12),
            "negative": dict(location="w.bin", offset=-4, length=12),
            "overflow": dict(location="w.bin", offset=2**63 - 4, length=12),
            "no number": dict(location="w.bin", offset="x", length=12),
            "absolute": dict(location=str(self.folder / "secret.bin"), offset=0, length=12),
            "parent": dict(location="../secret.bin", offset=0, length=12),
            "hidden parent": dict(location="a/../../secret.bin", offset=0, length=12),
            "link out": dict(location="link.bin", offset=0, length=12),
            "missing": dict(location="nowhere.bin", offset=0, length=12),
            "no location": dict(offset=0, length=12),
            "device": dict(location="/dev/zero", offset=0, length=12),
        }
        for name, entries in hostile.items():
            with self.subTest(name):
                self.write("models/hostile.onnx", self.external_model(**entries))
                self.refused("inspect", "models/hostile.onnx", says=("hostile.onnx", "w"))

    def test_broken_graphs(self):
        x, y = value_info("x", [1, 3]), value_info("y", [1, 3])
        short = float_tensor("w", [3], [1, 2])
        huge = float_tensor("w", [1 << 40, 1 << 40], [1])
        broken = {
            "a missing initializer": (model([node("Add", ["x", "w"], ["y"])], [x], [y]), "w"),
            "a cycle": (model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])], [x],
                              [y]), ""),
            "an output that nothing makes": (model([node("Relu", ["x"], ["z"])], [x], [y]), "y"),
            "a value made twice": (model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])], [x], [y]), "y"),
            "too little data": (model([node("Add", ["x", "w"], ["y"])], [x], [y], [short]), "w"),
            "a size that overflows": (model([node("Add", ["x", "w"], ["y"])], [x], [y], [huge]), "w"),
            "an unknown op": (model([node("Frobnicate", ["x"], ["a"], "first"), node("Frobnicate", ["a"], ["y"], "second")],
                                    [x], [y]), "Frobnicate"),
            "a foreign domain": (model([node("Relu", ["x"], ["y"], domain="com.example")], [x], [y]), "com.example"),
        }
        for name, (data, says) in broken.items():
            with self.subTest(name):
                self.write("broken.onnx", data)
                self.refused("inspect", "broken.onnx", says=("broken.onnx", says))
        self.write("broken.onnx", broken["an unknown op"][0])
        line = self.refused("run", "broken.onnx", "x.npy")
        self.assertIn("first", line)
        self.assertIn("second", line)

    def test_shapes_that_do_not_fit_name_the_node(self):
        w = float_tensor("w", [4, 2], [0] * 8)
        self.write("bad.onnx", model([node("MatMul", ["x", "w"], ["y"], "the_product")], [value_info("x", [1, 3])],
                                     [value_info("y", [1, 2])], [w]))
        line = self.refused("inspect", "bad.onnx", says=("bad.onnx", "the_product"))
        self.assertEqual(line.count("bad.onnx"), 1)


class Resave(CommandTest):
    def test_a_saved_model_gives_the_same_bits(self):
        for flags in ((), ("--external-data",)):
            self.octavo("resave", ENCODER, "copy.onnx", *flags)
            self.assertEqual((self.folder / "copy.onnx.data").exists(), bool(flags))
            report = self.octavo("compare", ENCODER, "copy.onnx", "--data", SAMPLES, "--limit", "1", "--preprocess", "sam",
                                 "--threads", "1", "--json", "-").json
            self.assertEqual(report["outputs"][0]["sqnr_db"], 999)
        self.write("file", b"")
        self.refused("resave", DECODER, "file/copy.onnx", says="'file")


if __name__ == "__main__":
    unittest.main(verbosity=2)
