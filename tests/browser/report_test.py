#!/usr/bin/env python3
"""report.html in a browser: what it shows is what report.json says, and nothing in it is taken for markup."""
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import chromium
from octavo_command import DECODER, HARD_ENCODER, octavo

HOSTILE = ["<img src=x onerror=\"window.hacked=1\">", "</script><script>window.hacked=1</script>", "'\"><svg onload=window.hacked=1>",
           "<!--<script>", "a\u2028b", "${window.hacked=1}", "&lt;b&gt;", "%NONCE%", "/*SCRIPT*/"]


def layers(count):
    made = []
    for i in range(count):
        tensor = f"values {i % 100}"
        made.append({"node": f"block.{i}/MatMul", "op": "MatMul", "precision": ["int8", "int8", "bf16", "fp32"][i % 4], "macs": 1000 * (i % 37 + 1),
                     "parameters": 10 * i, "dims": [1, 197, 384], "ms": {"FP32": 0.2 + i % 13 / 50, "Octavo INT8": 0.1 + i % 7 / 50},
                     "sensitivity": 10 ** (-(i * 7919 % 4001) / 1000), "reason": f"reason {i}", "remedies": [f"remedy {i}"],
                     "operands": [{"kind": "activation", "tensor": tensor, "dtype": "uint8", "scale": 0.03125, "zero_point": 32,
                                   "clip": [-1.0, 6.96875], "sqnr_db": 30.5, "clipped_share": 0.00125, "reason": "mse"}]})
    tensors = {f"values {k}": {"range": [-2.5, 8.0], "histogram": {"low": -2.5, "high": 8.0, "counts": [k + j for j in range(48)]}} for k in range(100)}
    return made, tensors


def synthetic(count=60, name="model"):
    made, tensors = layers(count)
    subject = {"name": name, "summary": {"sentence": "Kept: of course.", "kept": True}, "score": {"name": "mask IoU", "unit": "", "goal": 0.99},
               "samples": [f"{i}.jpg" for i in range(20)],
               "forms": [{"name": "FP32", "file": "a.onnx", "bytes": 4000000, "milliseconds": {"median": 10, "p10": 9, "p90": 12}},
                         {"name": "Octavo INT8", "file": "b.onnx", "bytes": 1000000, "milliseconds": {"median": 4, "p10": 3.9, "p90": 5}, "score": 0.995,
                          "mean_bound": 0.993, "p5": 0.98, "sqnr_db": 36.25, "int8_macs_share": 0.97, "scores": [[0.98 + i / 1000, 0.99] for i in range(20)]}],
               "front": {"goal": {"mean": 0.99}, "fp32_ms": 10.0, "int8_ms": 3.5, "chosen": 1, "walked": [
                   {"raised": 0, "last": "", "score": 0.97, "ms": 3.5, "on_front": True}, {"raised": 1, "last": "block.3/MatMul", "score": 0.995, "ms": 4.0, "on_front": True},
                   {"raised": 2, "last": "block.4/MatMul", "score": 0.994, "ms": 4.5, "on_front": False}]},
               "sensitivity": {"what": "share of noise"}, "layers": made, "tensors": tensors, "outputs": [{"name": "y", "sqnr_db": 36.25, "cosine": 0.9999}],
               "remedies": [{"name": "equalize", "kept": True, "sqnr_db": 36.0, "gain_db": 2.0, "reason": "gains"}], "recipe": {"file": "b.recipe.json", "decisions": {"weights": []}}}
    return {"octavo_report": 1, "command": "quantize", "run": {"version": "0.1.0", "time": "2026-01-01T00:00:00Z", "seconds": 12.5, "seed": 5,
            "command_line": ["octavo", "quantize", "a b.onnx"], "machine": {"cpu": "a CPU", "isa": "avx2", "cores": 4, "threads": 2, "memory_bytes": 2 ** 33, "system": "Linux"}},
            "images": {}, "subjects": [subject], "notes": []}


class ReportPage(chromium.BrowserTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="octavo-report-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def page_of(self, report, name="synthetic", **options):
        (self.folder / f"{name}.json").write_text(json.dumps(report))
        outcome = octavo("report", self.folder / f"{name}.json", "--html", self.folder / f"{name}.html")
        self.assertEqual(outcome.code, 0, outcome)
        return self.open(f"file://{self.folder / name}.html", **options)

    def check_clean(self, page):
        self.assertEqual(page.errors(), [])
        self.assertEqual([url for url in page.requests() if not url.startswith("file://")], [])
        self.assertFalse(page.run("document.documentElement.scrollWidth > innerWidth + 1"), "the page is wider than its window")

    def test_light_dark_phone_and_print(self):
        backgrounds = {}
        for name, options in (("light", {}), ("dark", {"dark": True}), ("phone", {"width": 390, "height": 844, "touch": True})):
            page = self.page_of(synthetic(), **options)
            page.wait("document.querySelector('.layer h3') !== null")
            backgrounds[name] = page.run("getComputedStyle(document.body).backgroundColor")
            page.screenshot(f"report-{name}")
            self.check_clean(page)
            for chart in ("#h-scores ~ svg", "#h-front ~ svg"):
                left, _, width, height = page.run(f"(() => {{ const b = document.querySelector('{chart}').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; }})()")
                self.assertGreater(width, 250)
                self.assertGreater(height, 80)
        self.assertNotEqual(backgrounds["light"], backgrounds["dark"])
        self.assertEqual(backgrounds["light"], backgrounds["phone"])
        page = self.page_of(synthetic(), dark=True)
        pdf = page.pdf("report-print").read_bytes()
        self.assertTrue(pdf.startswith(b"%PDF"))
        page.set_media("print", True)
        self.assertEqual(page.run("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)")
        self.assertEqual(page.run("getComputedStyle(document.querySelector('input[type=search]')).display !== 'none' && document.querySelector('input[type=search]').offsetParent !== null"), False)

    def test_a_layer_tells_its_figures_by_mouse_touch_and_keyboard(self):
        page = self.page_of(synthetic())
        told = lambda: page.run("document.querySelector('.layer').innerText")
        page.hover(".cell[data-position='17']")
        page.wait("document.querySelector('.layer').dataset.node === 'block.17/MatMul'")
        text = told()
        for expected in ("int8", "18.0 k", "1 × 197 × 384", "FP32 0.28 ms, Octavo INT8 0.16 ms", "remedy 17", "reason 17", "values 17",
                         "-2.5 to 8", "-1 to 6.969 in uint8", "0.03125, zero point 32", "0.1250 %", "30.5 dB"):
            self.assertIn(expected, text)
        bars = page.run("[...document.querySelectorAll('.layer .histogram rect title')].map((t) => t.textContent)")
        self.assertEqual(len(bars), 48)
        self.assertTrue(bars[3].startswith("20 values from -1.844 to "), bars[3])  # 17 + 3; -2.5 + 3 * 10.5 / 48
        self.assertIn("clipped at -1 and 6.969", page.run("document.querySelector('.histogram').getAttribute('aria-label')"))
        page.screenshot("report-layer")
        page.click(".cell[data-position='20']")
        page.mouse("mouseMoved", 5, 5)
        page.wait("document.querySelector('.layer').dataset.node === 'block.20/MatMul'")
        for key, code, node in (("ArrowRight", 39, 21), ("ArrowLeft", 37, 20), ("End", 35, 59), ("Home", 36, 0)):
            page.run("document.querySelector('.strip').focus()")
            page.key(key, code)
            page.wait(f"document.querySelector('.layer').dataset.node === 'block.{node}/MatMul'")
        self.assertEqual(page.run("document.activeElement.getAttribute('aria-activedescendant')"), "layer-0")
        self.check_clean(page)
        phone = self.page_of(synthetic(), width=390, height=844, touch=True)
        phone.run("document.querySelector('.strip').scrollLeft = 0")
        phone.wait("document.querySelector('.cell[data-position=\"3\"]') !== null")
        phone.tap(".cell[data-position='3']")
        phone.wait("document.querySelector('.layer').dataset.node === 'block.3/MatMul'")
        self.check_clean(phone)

    def test_everything_has_a_text_alternative_and_keyboard_focus(self):
        page = self.page_of(synthetic())
        self.assertEqual(page.run("[...document.querySelectorAll('svg')].filter((s) => !s.getAttribute('aria-label')).length"), 0)
        self.assertEqual(page.run("[...document.querySelectorAll('button, select, input, [tabindex=\"0\"]')].filter((e) => e.tabIndex < 0).length"), 0)
        self.assertEqual(page.run("[...document.querySelectorAll('input, select')].filter((e) => !e.getAttribute('aria-label') && !e.closest('label')).length"), 0)
        self.assertIn("chosen: 1 raised, last block.3/MatMul", page.run("document.querySelector('#h-front ~ svg').getAttribute('aria-label')"))

    def test_hostile_names_are_text(self):
        report = synthetic(12)
        subject = report["subjects"][0]
        for i, name in enumerate(HOSTILE):
            subject["layers"][i].update(node=name, op=name, reason=name, why_float=name, remedies=[name])
            subject["layers"][i]["operands"][0].update(tensor=name, reason=name)
            subject["tensors"][name] = {"range": [0, 1], "histogram": {"low": 0, "high": 1, "counts": [1, 2]}}
            subject["forms"].append({"name": name, "file": name, "score": 0.5, "scores": [[0.5]], "milliseconds": {"median": 3}})
            subject["outputs"].append({"name": name})
            subject["remedies"].append({"name": name, "reason": name})
            report["notes"].append(name)
            report["run"]["command_line"].append(name)
        subject["name"] = HOSTILE[1]
        subject["summary"]["sentence"] = HOSTILE[0] + HOSTILE[1]
        subject["sensitivity"]["what"] = HOSTILE[2]
        subject["recipe"] = {"file": HOSTILE[1], "decisions": {HOSTILE[0]: HOSTILE[1]}}
        page = self.page_of(report, "hostile")
        page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        for position in range(12):
            page.hover(f".cell[data-position='{position}']")
        time.sleep(0.2)
        self.assertIsNone(page.run("window.hacked === undefined ? null : window.hacked"))
        self.assertEqual(page.run("document.querySelectorAll('main img, main script, svg svg').length"), 0)
        self.assertIn(HOSTILE[0] + HOSTILE[1], page.run("document.querySelector('h1').textContent"))
        text = page.run("document.querySelector('main').textContent")
        for name in HOSTILE:
            self.assertIn(name, text)
        page.screenshot("report-hostile")
        self.check_clean(page)

    def test_ten_thousand_layers(self):
        page = self.page_of(synthetic(10000), "large")
        page.wait("document.querySelector('.layer h3') !== null")
        drawn = "document.querySelectorAll('.cell').length"
        self.assertLess(page.run(drawn), 150)
        self.assertLess(page.run("document.querySelectorAll('*').length"), 3000)
        page.run("document.querySelector('.strip').focus()")
        page.key("End", 35)
        page.wait("document.querySelector('.layer').dataset.node === 'block.9999/MatMul'")
        self.assertEqual(page.run("document.querySelector('.cell.chosen').dataset.position"), "9999")
        self.assertLess(page.run(drawn), 150)
        # A hundred pages of scrolling, each drawn before the next.
        seconds = page.run("""(async () => { const strip = document.querySelector('.strip'), start = performance.now();
            for (let i = 0; i < 100; ++i) { strip.scrollLeft = i * 1200; await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); }
            return (performance.now() - start) / 1000; })()""")
        self.assertLess(page.run(drawn), 150)
        page.run("(() => { const s = document.querySelector('input[type=search]'); s.value = 'block.4321/'; s.dispatchEvent(new Event('input')); })()")
        page.wait("document.querySelector('.layer').dataset.node === 'block.4321/MatMul'")
        self.assertEqual(page.run(drawn), 1)
        self.check_clean(page)
        print(f"10,000 layers: 100 scrolls in {seconds:.2f} s")


class DemoReport(chromium.BrowserTest):
    """Of models that are quantized here: the page's pictures and numbers are those of report.json."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="octavo-demo-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        outcome = octavo("demo", "-o", cls.folder, "--threads", 1)
        assert outcome.code == 0, outcome
        cls.report = json.loads((cls.folder / "report.json").read_text())

    def test_size(self):
        bytes = (self.folder / "report.html").stat().st_size
        print(f"the demo's report: {bytes} bytes")
        self.assertLess(bytes, 3e6)

    def test_pictures_and_slider(self):
        for dark in (False, True):
            page = self.open(f"file://{self.folder}/report.html", dark=dark)
            ready = "document.querySelectorAll('.picture').length === 4 && document.querySelectorAll('.picture:not([data-ready])').length === 0"
            page.wait(ready)
            page.run("document.querySelectorAll('#subjects button')[1].click()")  # the hard encoder
            page.wait(ready)
            page.screenshot(f"demo-{'dark' if dark else 'light'}")
            self.assertEqual(page.errors(), [])
        subject = self.report["subjects"][1]
        self.assertEqual(page.run("document.querySelector('h1').textContent"), subject["summary"]["sentence"])
        worst = subject["pictures"][0]
        naive = next(mask for mask in worst["masks"] if mask["form"] == "naive INT8")
        ious = [next(m for m in p["masks"] if m["form"] == "Octavo INT8")["iou"] for p in subject["pictures"]]
        self.assertEqual(ious, sorted(ious))
        label = page.run("document.querySelector('.picture canvas').getAttribute('aria-label')")
        self.assertIn(f"naive INT8 against FP32: IoU {naive['iou']:.4f}", label)
        # Naive INT8 on the left, so that there is much to mark.
        page.run("(() => { const s = document.querySelector('.picture select'); s.value = '1'; s.dispatchEvent(new Event('change')); })()")
        marked = """(() => { const c = document.querySelector('.picture canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] > 190 && d[i + 1] < 60 && d[i + 2] > 90 || d[i] > 220 && d[i + 1] > 140 && d[i + 1] < 190 && d[i + 2] < 40 ? 1 : 0; return n; })()"""
        left, top, width, height = page.box(".picture .stage")
        counts = []
        middle = (worst["prompt"]["box"][0] + worst["prompt"]["box"][2]) / 2 / 512
        for share in (0.98, middle, 0.02):
            page.drag((left + width / 2, top + height / 2), (left + width * share, top + height / 2))
            counts.append(page.run(marked))
            self.assertAlmostEqual(page.run("Number(document.querySelector('.picture input[type=range]').value)"), 100 * share, delta=1.5)
        self.assertGreater(counts[0], counts[1])
        self.assertGreater(counts[1], counts[2])
        different = naive["different"] * 512 * 512
        self.assertGreater(counts[0], 0.85 * different)
        self.assertLess(counts[0], 1.15 * different + 200)
        page.run("document.querySelector('.picture input[type=range]').focus()")
        page.key("End", 35)
        page.wait("document.querySelector('.picture input[type=range]').value === '100'")
        self.assertAlmostEqual(page.run(marked), counts[0], delta=0.1 * counts[0] + 50)
        page.screenshot("demo-slider", whole=False)
        self.assertEqual(page.errors(), [])

    def test_hover_shows_what_the_report_says(self):
        page = self.open(f"file://{self.folder}/report.html")
        subject = self.report["subjects"][0]
        for position in (0, len(subject["layers"]) // 2, len(subject["layers"]) - 1):
            layer = subject["layers"][position]
            page.hover(f".cell[data-position='{position}']")
            page.wait(f"document.querySelector('.layer').dataset.node === {json.dumps(layer['node'])}")
            text = page.run("document.querySelector('.layer').innerText")
            self.assertIn(layer["precision"], text)
            self.assertIn(" × ".join(map(str, layer["dims"])), text)
            for operand in layer["operands"]:
                self.assertIn(operand["tensor"], text)
                if operand["kind"] == "activation":
                    self.assertIn(f"zero point {operand['zero_point']}", text)
        self.assertEqual(page.errors(), [])


if __name__ == "__main__":
    chromium.main()
