"""The tables that `lab.tools.methods` writes are the presets' and the measurements', and count what the methods do."""

import pytest

from gsn.methods.presets import PRESETS
from lab.tools import methods


@pytest.mark.parametrize("path", [methods.README, methods.STUDY, methods.BENCHMARKS], ids=lambda path: path.stem)
def test_a_page_has_the_table_as_it_would_be_written_now(path):
    text = path.read_text()
    assert "<!-- /" in text and text == methods.with_tables(text), "run `.venv/bin/python -m lab.tools.methods`"


def test_a_real_models_factor_is_its_gradients_times_one_of_them():
    r = methods.in_steps("sd15")
    assert methods.factor(PRESETS["Ours"], "SD 1.4") == pytest.approx(1 + r)  # 50 gradients beside 50 steps
    assert methods.factor(PRESETS["Ours (SD 3)"], "SD 3") == pytest.approx(1 + methods.in_steps("sd3_step") * 50 / 28)
    assert methods.factor(PRESETS["Ours (SD 3)"], "SD 1.4") is None
    assert methods.factor(PRESETS["SAGA"], "SD 1.4") == pytest.approx(1 + r * 500 / 16 / 50)  # one for 16 images
    assert methods.factor(PRESETS["SAGA+"], "SD 1.4") == pytest.approx(1 + r * (500 / 16 + 19) / 50)


@pytest.mark.parametrize(
    "name, most",
    [("paper", 50), ("plain", 0), ("fast", 10), ("SynGen", 25), ("Attend&Excite", 85), ("Divide&Bind", 175),
     ("Ours", 50), ("Ours+", 72), ("Ours (SD 3)", 50), ("SynGen+", 75), ("BoxDiff", 85)],
)  # fmt: skip
def test_the_gradients_are_those_of_the_papers_runs(name, most):
    """Refinements' updates and guided steps of 50 DDPM steps, as each paper states them."""
    assert methods.gradients(PRESETS[name]) == most
