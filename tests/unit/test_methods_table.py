"""README's table of methods is the presets', and counts what they do."""

import pytest

from devtools import methods
from gsn.presets import PRESETS


def test_readme_has_the_table_as_it_would_be_written_now():
    text = methods.README.read_text()
    assert text == methods.with_table(text), "run `.venv/bin/python -m devtools.methods`"


@pytest.mark.parametrize(
    "name, most",
    [("paper", 50), ("plain", 0), ("fast", 10), ("SynGen", 25), ("Attend&Excite", 85), ("Divide&Bind", 175),
     ("Ours", 50), ("Ours+", 72), ("Ours (SD 3)", 50), ("SynGen+", 75), ("BoxDiff", 85)],
)  # fmt: skip
def test_the_gradients_are_those_of_the_papers_runs(name, most):
    """Refinements' updates and guided steps of 50 DDPM steps, as each paper states them."""
    assert methods.gradients(PRESETS[name]) == most
