"""The support tables say only what passed."""

import ast

import pytest

from lab.tools import support

PASSED = """
test_maps_and_gradient[flux_dev-1] test_maps_and_gradient[flux_dev-2] test_maps_and_gradient[flux_dev-3]
test_maps_and_gradient[sd15-1] test_maps_and_gradient[sd15-3]
test_a_patch_before_and_after_ours[NAGuidance-flux_dev0] test_a_patch_before_and_after_ours[TCFG-sd3]
test_a_patch_before_and_after_ours[NAGuidance-sd15_0]
test_tokens_put_before_the_text_are_refused[flux_dev]
"""
MEASURED = {
    "test_gradient_in_half_precision[flux_dev-bf16]": {"relative_error": "0.0134"},
    "test_quantised_weights_give_the_gradient_of_their_rounded_values[sd15-mxfp8]": {"relative_error": "0.021"},
    "test_each_is_refused_by_name_with_its_reason": {"WAN21": "it makes video", "SVD": "it makes video"},
}
FAILED = ("test_maps_and_gradient[sd15-2]", "test_a_patch_before_and_after_ours[NAGuidance-flux_dev1]")


@pytest.fixture
def page(tmp_path):
    cases = [(name, "") for name in PASSED.split()]
    for name, values in MEASURED.items():
        properties = "".join(f'<property name="{key}" value="{value}"/>' for key, value in values.items())
        cases.append((name, f"<properties>{properties}</properties>"))
    cases += [(name, "<failure/>") for name in FAILED]
    lines = "".join(f'<testcase name="{name}">{inside}</testcase>' for name, inside in cases)
    (tmp_path / "r.xml").write_text(f"<testsuites><testsuite>{lines}</testsuite></testsuites>")
    return support.page(support.report(tmp_path / "r.xml"))


def number_of(page, test):
    (line,) = (line for line in page.split("\n") if line.startswith("| [") and f"`{test}`" in line)
    return line.split(" | ")[0].strip("| ")


def cells(page, section):
    """Row -> column -> cell of a section's table."""
    part = page.split(f"## {section}\n")[1].split("\n## ")[0]
    head, _, *rows = ([one.strip() for one in line.split("|")[1:-1]] for line in part.split("\n") if line[:1] == "|")
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_cells_come_from_passed_tests(page):
    families = cells(page, "Families")
    assert tuple(families) == support.MODELS
    assert families["flux_dev"]["maps, gradient"] == number_of(page, "test_maps_and_gradient") == "[1]"
    assert families["flux_dev"]["bf16"].startswith("1.3 % [") and families["flux_dev"]["fp16"] == "-"
    assert families["sd15"]["maps, gradient"] == "-"  # one of its three tests failed
    assert set(families["hidream"].values()) == {"hidream", "-"}
    (packed,) = (row for name, row in cells(page, "Weights in fp8 and in ComfyUI's quantised formats").items()
                 if name == "mxfp8")  # fmt: skip
    assert packed["sd15"].startswith("2.1 % [") and "flux_dev" not in packed


def test_what_is_used_together(page):
    rows = cells(page, "Together with other nodes")
    number = number_of(page, "test_a_patch_before_and_after_ours")
    assert rows["`TCFG`"] == {"with": "`TCFG`", "sd15": "-", "sd3_clip": number, "flux_dev": "-"}
    assert rows["`NAGuidance`"]["sd15"] == number
    assert rows["`NAGuidance`"]["flux_dev"] == "-"  # one of its two tests failed
    refused = number_of(page, "test_tokens_put_before_the_text_are_refused")
    assert rows["tokens before the text, from another pack"]["flux_dev"] == f"refused {refused}"


def test_what_is_refused(page):
    number = number_of(page, "test_each_is_refused_by_name_with_its_reason")
    assert f"| SVD, WAN21 | it makes video | {number} |" in page


def test_the_tests_are_there():
    for proof in support.PROOFS:
        tree = ast.parse((support.ROOT / "tests" / "comfy" / f"{proof.file}.py").read_text())
        assert proof.test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, proof
