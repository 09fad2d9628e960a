"""docs/support.md: which model families work, every cell from a test that passed just now.

`dev.py support` runs the tests that prove something of a family and writes the table from their report; a cell
is never written by hand.
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

from .checks import in_parallel
from .environment import ROOT

_PROMPTS = ("-plain", "-long", "-in the template too", "-emphasis", "-upper case")


def _reading(*encoders):
    """The tests that prove that the prompts of these text encoders are read."""
    return tuple(f"test_each_subject_owns_its_columns[{name}{prompt}]" for name in encoders for prompt in _PROMPTS)


# Column title -> (test function, what follows the family's name in the test's id).
COLUMNS = {
    "maps, gradient": ("test_maps_and_gradient", ("-1", "-2", "-3")),
    "low memory": ("test_recomputed_blocks_give_the_same_gradient", ("",)),
    "loss falls": ("test_loss_falls_over_ten_iterations", ("",)),
    "off is off": ("test_off_is_equal", ("",)),
    "bf16": ("test_gradient_in_half_precision", ("-bf16",)),
    "fp16": ("test_gradient_in_half_precision", ("-fp16",)),
    "fp16, 50 iterations": ("test_fifty_iterations_in_fp16_stay_finite", ("",)),
    "fp8 weights": ("test_fp8_weights", ("",)),
    "quantised": ("test_quantised_weights_give_the_gradient_of_their_rounded_values", ("-fp8_scaled", "-int8")),
    "offload": ("test_lent_weights_give_the_exact_gradient", ("",)),
    "subjects": ("test_each_subject_owns_its_columns", _PROMPTS),
}
# Models of one text encoder are tested once: row -> test ids.
_T5 = ("test_t5_streams",)
_SD1, _SD2, _SDXL, _SD3 = (
    (f"test_a_subjects_columns_carry_its_word[{name}]",) for name in ("sd15", "sd2", "sdxl", "sd3")
)
SUBJECTS = {
    **dict.fromkeys(("sd15", "sd15_inpaint", "sd15_edit", "sd_xs"), _SD1),
    **dict.fromkeys(("sd2", "sd21_v", "sd2_inpaint", "sd21_unclip_l", "sd21_unclip_h", "sd_xs_09"), _SD2),
    **dict.fromkeys(("sdxl", "sdxl_zero_snr_v", "sdxl_inpaint", "sdxl_edit", "cosxl", "playground"), _SDXL),
    **dict.fromkeys(("ssd_1b", "segmind_vega", "koala_700m", "koala_1b"), _SDXL),
    "sd3_clip": _SD3,
    "sd3_both": _T5,
    "sd35_medium": _T5,
    "sd35_large": _T5,
    "flux_fill": _reading("flux_dev"),
    "flux_schnell": _reading("flux_dev"),
    "chroma_radiance": _reading("chroma"),
    "pixart_alpha": _reading("chroma"),
    "pixart_sigma": _reading("chroma"),
    "flux2": _reading("flux2", "flux2_klein", "flux2_klein_8b"),
    "lumina2": _reading("lumina2", "lumina2_gemma3"),
    "ideogram4": _reading("ideogram4", "ideogram4_vision"),
    "anima": ("test_anima_has_a_column_for_each_t5_token",),
    "hunyuan_dit1": _reading("hunyuan_dit"),
}
PROVING = (
    "tests/comfy/test_families.py",
    "tests/comfy/test_precision.py",
    "tests/comfy/test_offload.py",
    "tests/comfy/test_language_models.py",
    "tests/comfy/test_subjects_node.py",
)
HEAD = """# Which models work

Written by `python dev.py support` from tests that passed in the same run; nothing is claimed outside this table.
Every row is a tiny instance of ComfyUI's own classes with random weights, sampled by ComfyUI's own executor (the
names are the toys' in `tests/comfy/toy_models/`). **No real weights were used**: the table says that maps and
gradients are right, not that pictures get better. A number is the gradient's relative error against float32.
A dash means not tested; models that are refused, with the reason, are in `gsn/host/families/refused.py`.

"""


def report(path):
    """Test id -> its properties, of the tests that passed."""
    found = {}
    for case in xml.parse(path).iter("testcase"):
        if not any(case.find(bad) is not None for bad in ("failure", "error", "skipped")):
            found[case.get("name")] = {p.get("name"): p.get("value") for p in case.iter("property")}
    return found


def table(passed):
    """The table in Markdown."""
    first = COLUMNS["maps, gradient"][0]
    rows = _names(passed, first)
    lines = ["| model | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row} | " + " | ".join(cell(passed, row, column) for column in COLUMNS) + " |")
    lines += ["", "| column | proved by |", "|---|---|"]
    lines += [f"| {column} | `{test}` |" for column, (test, _) in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def cell(passed, row, column):
    if column == "subjects" and row in SUBJECTS:
        tests = SUBJECTS[row]
    else:
        test, endings = COLUMNS[column]
        tests = [f"{test}[{row}{ending}]" for ending in endings]
    if any(test not in passed for test in tests):
        return "-"
    error = passed[tests[0]].get("relative_error")
    return "yes" if error is None else f"{100 * float(error):.1f} %"


def _names(passed, test):
    ids = (re.fullmatch(rf"{test}\[(.+)-1\]", name) for name in passed)
    return [found[1] for found in ids if found]


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.xml"
        parallel, env = in_parallel(dict(os.environ))
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={path}", *parallel, *PROVING]
        code = subprocess.run(command, cwd=ROOT, env=env).returncode
        (ROOT / "docs" / "support.md").write_text(HEAD + table(report(path)))
    return code


if __name__ == "__main__":
    sys.exit(main())
