#!/usr/bin/env python3
"""octavo demo, which `make demo` runs: quantizes the embedded encoders and judges their masks."""
import json
import os
import pathlib
import tempfile
import unittest

from octavo_command import octavo


class Demo(unittest.TestCase):
    def test_results_are_those_of_the_files_it_wrote(self):
        with tempfile.TemporaryDirectory(dir=os.environ.get("OCTAVO_WORK")) as folder:
            report = pathlib.Path(folder, "demo.json")
            outcome = octavo("demo", "-o", folder, "--threads", 1, "--json", report)  # beside other tests: no barriers
            self.assertEqual(outcome.code, 0, str(outcome))
            overlays = pathlib.Path(outcome.stdout.splitlines()[-2])
            self.assertEqual(overlays, pathlib.Path(folder, "overlays.png"))
            self.assertEqual(overlays.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
            rows = {(row["encoder"], row["form"]): row for row in json.loads(report.read_text())["results"]}
            self.assertEqual(len(rows), 6)
            for (encoder, form), row in rows.items():
                self.assertEqual(row["bytes"], pathlib.Path(row["file"]).stat().st_size)
                if form == "FP32":
                    self.assertEqual(row["mask_iou"], 1)
                    self.assertEqual(row["int8_macs_share"], 0)
                    continue
                self.assertGreaterEqual(row["int8_macs_share"], 0.97)
                # int8 weights are a quarter of float ones; scales and the graph are the rest.
                self.assertLess(row["bytes"], 0.30 * rows[encoder, "FP32"]["bytes"])
            # What the project is for: naive INT8 loses the masks of the model with outliers, ours does not.
            self.assertLess(rows["hard", "naive INT8"]["mask_iou"], 0.8)
            self.assertGreater(rows["hard", "Octavo INT8"]["mask_iou"], 0.97)
            self.assertGreater(rows["plain", "Octavo INT8"]["mask_iou"], 0.98)


if __name__ == "__main__":
    unittest.main()
