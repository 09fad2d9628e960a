"""The support table says only what passed."""

from devtools.support import report, table

REPORT = """<testsuites><testsuite>
<testcase name="test_maps_and_gradient[flux-1]"/><testcase name="test_maps_and_gradient[flux-2]"/>
<testcase name="test_maps_and_gradient[flux-3]"/>
<testcase name="test_maps_and_gradient[sd3-1]"/><testcase name="test_maps_and_gradient[sd3-2]"><failure/></testcase>
<testcase name="test_gradient_in_half_precision[flux-bf16]"><properties>
<property name="relative_error" value="0.0134"/></properties></testcase>
</testsuite></testsuites>"""


def test_cells_come_from_passed_tests(tmp_path):
    (tmp_path / "r.xml").write_text(REPORT)
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ") for line in table(report(tmp_path / "r.xml")).split("\n")
    }
    assert rows["flux"][1] == "yes" and rows["flux"][5] == "1.3 %" and rows["flux"][6] == "-"
    assert rows["sd3"][1] == "-"  # one of its three tests failed
