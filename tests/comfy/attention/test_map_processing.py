"""How maps are made: AttentionCapture's settings before a preset's, a preset's before the model's, in any order."""

import json

import pytest

from ..graphs import capture, graph, refine

OWN = {"columns": "words", "contrast": 30.0, "blur": 0.0}


@pytest.fixture
def made(comfy, monkeypatch):
    """made(patch) -> how the maps of the refinement were made."""
    refine, found = comfy.pack("gsn.interventions.refine").Refine, []
    apply = refine.apply

    def watched(self, latent, forwards, context):
        found.append(context.processing)
        return apply(self, latent, forwards, context)

    monkeypatch.setattr(refine, "apply", watched)
    content = {"moves": [{"do": "refine", "at": "2", "iterations": 1, "loss": [{"loss": "iou"}]}], "maps": OWN}
    (comfy.base / "input" / "maps.json").write_text(json.dumps(content))

    def of(patch):
        found.clear()
        comfy.run(graph(patch), ["out"]).check()
        (processing,) = found
        return processing.columns, processing.contrast, processing.blur

    return of


PRESET = ("GSNPreset", {"preset": "paper", "file": "maps.json"})


def test_whose_word_counts(made):
    assert made([PRESET]) == ("words", 30.0, 0.0)
    assert made([capture(contrast=70.0), PRESET]) == ("words", 70.0, 0.0)
    assert made([PRESET, capture(columns="padded", blur=1.0)]) == ("padded", 30.0, 1.0)


def test_another_nodes_refinement_is_made_as_ever(made, comfy):
    text = (comfy.base / "input" / "maps.json").read_text().replace('"iterations": 1', '"iterations": 0')
    (comfy.base / "input" / "maps.json").write_text(text)
    assert made([PRESET, refine(iterations=1)]) == ("padded", 100.0, 0.5)


def test_contrast_0_is_refused(comfy):
    result = comfy.run(graph([capture(contrast=0.0)]), ["out"])
    assert not result.ok and "AttentionCapture: contrast is 0; give more than 0" in result.error
