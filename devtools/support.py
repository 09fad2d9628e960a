"""docs/support.md: which model families work, every cell from a test that passed just now.

`dev.py support` runs the tests that prove something of a family and writes the table from their report; a cell
is never written by hand.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

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
# The UNets and the CLIP and T5 texts are tested one by one: row -> column -> test ids.
OTHERS = {
    "sd15": {
        "maps, gradient": ("test_forward_is_equal_and_gradient_is_plain_autograds", "test_finite_differences"),
        "low memory": ("test_low_gives_the_same_picture[1]", "test_low_gives_the_same_picture[2]"),
        "fp16": ("test_every_storage_gives_a_gradient_and_leaves_nothing[fp16]",),
        "bf16": ("test_every_storage_gives_a_gradient_and_leaves_nothing[bf16]",),
        "fp8 weights": ("test_every_storage_gives_a_gradient_and_leaves_nothing[fp8]",),
        "offload": ("test_offloaded_weights_in_reused_buffers_give_the_exact_gradient",),
    }
}
_T5 = ("test_t5_streams",)
_SD3 = ("test_a_subjects_columns_carry_its_word[sd3]",)
SUBJECTS = {
    "sd15": ("test_a_subjects_columns_carry_its_word[sd15]",),
    "sd3_clip": _SD3,
    "sd3_both": _T5,
    "sd35_medium": _T5,
    "sd35_large": _T5,
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
    "tests/comfy/test_memory.py",
    "tests/comfy/test_differentiable.py",
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
    rows = list(OTHERS) + [name for name in _names(passed, first) if name not in OTHERS]
    lines = ["| model | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row} | " + " | ".join(cell(passed, row, column) for column in COLUMNS) + " |")
    lines += ["", "| column | proved by |", "|---|---|"]
    lines += [f"| {column} | `{test}` |" for column, (test, _) in COLUMNS.items()]
    lines += [f"| {column} of {row} | {', '.join(f'`{one}`' for one in tests)} |"
              for row, cells in OTHERS.items() for column, tests in cells.items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def cell(passed, row, column):
    if column == "subjects" and row in SUBJECTS:
        tests = SUBJECTS[row]
    elif row in OTHERS:
        tests = OTHERS[row].get(column, ())
    else:
        test, endings = COLUMNS[column]
        tests = [f"{test}[{row}{ending}]" for ending in endings]
    if not tests or any(test not in passed for test in tests):
        return "-"
    error = passed[tests[0]].get("relative_error")
    return "yes" if error is None else f"{100 * float(error):.1f} %"


def _names(passed, test):
    ids = (re.fullmatch(rf"{test}\[(.+)-1\]", name) for name in passed)
    return [found[1] for found in ids if found]


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={path}", *PROVING]
        code = subprocess.run(command, cwd=ROOT).returncode
        (ROOT / "docs" / "support.md").write_text(HEAD + table(report(path)))
    return code


if __name__ == "__main__":
    sys.exit(main())
