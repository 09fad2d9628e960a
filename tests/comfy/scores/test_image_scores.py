"""GSNImageScores through ComfyUI's own executor, with tiny models in the models folder."""

import json
from pathlib import Path

import pytest
import torch

from ...unit.metrics import tiny_scorers

SWITCHES = ("clip_score", "similarities", "text_text", "aesthetic")
FOLDERS = {"clip": "clip-vit-base-patch16", "blip": "blip-image-captioning-base",
           "aesthetic": "aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE"}  # fmt: skip
MEANS = ("clip_score", "full_prompt", "minimum_object", "text_text", "aesthetic")  # in the order of the outputs


@pytest.fixture(scope="module")
def models(comfy):
    import folder_paths

    root = Path(folder_paths.models_dir) / "gsn_metrics"
    for name, folder in FOLDERS.items():
        getattr(tiny_scorers, name)(root / folder)
    return root


@pytest.fixture
def no_models(comfy, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    return tmp_path / "gsn_metrics"


def graph(on=SWITCHES, **inputs):
    settings = {"prompt": "a photo of a cat and a dog", "objects": "cat, dog"} | {name: name in on for name in SWITCHES}
    nodes = {"image": {"class_type": "EmptyImage", "inputs": {"width": 40, "height": 32, "batch_size": 2, "color": 9}}}
    nodes["s"] = {"class_type": "GSNImageScores", "inputs": {"images": ["image", 0], **settings, **inputs}}
    return nodes


def run(comfy, slots=range(7), **more):
    return comfy.run(graph(**more), [("s", slot) for slot in slots])


def test_every_score_per_picture_and_as_a_mean(comfy, models):
    result = run(comfy).check()
    content = json.loads(result["s", 1])
    assert list(content["mean"]) == list(MEANS) and len(content["images"]) == 2
    assert [result["s", 2 + n] for n in range(5)] == [content["mean"][name] for name in MEANS]
    assert all(row["caption"] in result["s", 0] for row in content["images"])


def test_the_numbers_are_those_of_the_pure_room(comfy, models):
    metrics = comfy.pack("gsn.metrics.image_scores"), comfy.pack("gsn.metrics.clip_encoder")
    encoder = metrics[1].ClipEncoder.load(models / FOLDERS["clip"])
    picture = torch.tensor([0, 0, 9]).expand(2, 32, 40, 3) / 255
    own = metrics[0].score_images(picture, "a photo of a cat and a dog", ["cat", "dog"], encoder)
    found = json.loads(run(comfy).check()["s", 1])["images"]
    for name in MEANS[:3]:
        assert [row[name] for row in found] == pytest.approx(own.values[name], abs=1e-5)


def test_what_was_not_asked_for_needs_no_model_and_stops_what_follows(comfy, models):
    for folder in ("blip", "aesthetic"):
        (models / FOLDERS[folder]).rename(models / folder)
    try:
        result = run(comfy, on=("clip_score",))
        assert result.ok and ("s", 2) in result.outputs  # the mean CLIP score
        assert not {("s", slot) for slot in range(3, 7)} & set(result.outputs)
        renamed = run(comfy, on=("aesthetic",), slots=[6], aesthetic_folder="aesthetic", prompt="").check()
        assert isinstance(renamed["s", 6], float)
    finally:
        for folder in ("blip", "aesthetic"):
            (models / folder).rename(models / FOLDERS[folder])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"on": ()}, "no score is switched on"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"clip_folder": "../elsewhere"}, "lies outside"),
        ({"clip_folder": FOLDERS["blip"]}, "holds a model of the kind 'blip'"),
    ],
)
def test_refusals_name_the_node(comfy, models, more, words):
    result = run(comfy, **more)
    assert not result.ok and "GSNImageScores" in result.error and words in result.error, result.error


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_missing_model_says_which_files_go_where(comfy, no_models, switch):
    folder = no_models / FOLDERS["aesthetic" if switch == "aesthetic" else "clip"]
    result = run(comfy, on=(switch,))
    assert not result.ok and "GSNImageScores" in result.error
    assert "config.json, model.safetensors or pytorch_model.bin" in result.error and str(folder) in result.error


def test_a_folder_of_extra_model_paths_is_looked_into(comfy, no_models, models, monkeypatch, tmp_path):
    import folder_paths

    tiny_scorers.clip(tmp_path / "mine" / FOLDERS["clip"])
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "gsn_metrics", ([str(tmp_path / "mine")], set()))
    assert run(comfy, on=("clip_score",), slots=[2]).check()["s", 2] >= 0
