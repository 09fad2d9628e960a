"""README's table of settings says what gsn/methods/model_presets.py does."""

from pathlib import Path

import pytest

from gsn.methods.model_presets import MODEL_PRESETS

ROOT = Path(__file__).resolve().parents[3]
ROWS = {  # the first name of a row -> what it is about
    "SD 1.x": "sd1",
    "SD 2.x": "sd2",
    "SDXL": "sdxl",
    "Playground 2.5": "playground",
    "PixArt Alpha": "ddpm transformer",
    "SD3": "sd3",
    "Flux.1": "flux",
    "Z-Image": "transformer",
    "Cosmos-Predict2 (text to image)": "cosmos",
    "demo model": "demo",
    "MM-DiT demo model": "demo mmdit",
}


def table():
    """The cells of each row, by the row's first name."""
    text = (ROOT / "README.md").read_text().split("## Settings by family")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {cells[0].split(",")[0]: cells for cells in rows[2:]}


def test_every_kind_of_model_has_its_row():
    assert set(table()) == set(ROWS) and set(ROWS.values()) == set(MODEL_PRESETS)


def close(text, *levels):
    return [float(one) for one in text.split(" to ")] == pytest.approx(levels, rel=1e-3)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_auto_does(name):
    preset, (_, refine, guide, read, source) = MODEL_PRESETS[ROWS[name]], table()[name]
    assert close(refine, preset.refine_sigma) and close(guide, *preset.guide_sigmas)
    size = {1 / 4: "1/4", 1.0: "the latent's size", None: ""}[preset.ratio]
    part = {"in": "encoder half", "double": "double blocks", "auto": ""}[preset.blocks]
    wanted = ", ".join(one for one in (size, part) if one) or "all blocks"
    assert read.removesuffix(" of the latent's size") == wanted
    assert ("untested" in source.split(";")[0]) == ("untested" in preset.source)
