"""GSNPromptSet and GSNTIAMScore in graphs: lists of prompts, every source of detections, what is refused."""

import importlib.util
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

PHOTOS = Path(__file__).resolve().parents[2] / "unit" / "metrics" / "photos"
CAT_AND_DOG = "a photo of a [cat] and a [dog]"


def prompt_set(name, index=-1, **settings):
    inputs = {"set": name, "index": index} | {f"set.{key}": value for key, value in settings.items()}
    return {"class_type": "GSNPromptSet", "inputs": inputs}


def score(detector, prompt=CAT_AND_DOG, image=("pictures", 0), case=None, **settings):
    inputs = {"image": list(image), "prompt": prompt, "detector": detector} | ({"case": case} if case else {})
    return {"class_type": "GSNTIAMScore", "inputs": inputs | {f"detector.{k}": v for k, v in settings.items()}}


def pictures(count=1, width=64, height=64, color=0xFF0000):
    inputs = {"width": width, "height": height, "batch_size": count, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}


def found(*images, classes=("cat", "dog", "bird")):
    """The JSON of detections: each image a list of (label, score)."""
    entries = [
        {"image": f"{n}.png", "detections": [{"label": w, "score": s, "box": [0, 0, 0.5, 1]} for w, s in one]}
        for n, one in enumerate(images)
    ]
    head = {"format": "gsn-detections", "version": 1, "detector": "by hand", "classes": list(classes)}
    return json.dumps({**head, "images": entries})


def scored(comfy, node, image=None, **more):
    nodes = {"pictures": image or pictures(), "score": node, **more}
    return comfy.run(nodes, [("score", slot) for slot in range(5)])


def refused(comfy, node, image=None):
    result = scored(comfy, node, image)
    assert not result.ok and result.node_id == "score"
    assert result.error.startswith("GSNTIAMScore: ")
    return result.error


def is_sheet(image):
    return image.shape[0] == 1 and image.shape[-1] == 3 and image.dtype == torch.float32 and image.std() > 0.01


def test_a_set_gives_prompts_cases_texts_and_how_to_get_them_again(comfy):
    nodes = {"1": prompt_set("3 coloured", split="test", count=5, draw=3, index=2)}
    result = comfy.run(nodes, [("1", slot) for slot in range(5)]).check()
    same = comfy.pack("gsn.text.prompt_sets").paper_set("3 coloured", "test", 5, 3)
    case = same.cases[2]
    assert [result["1", slot] for slot in range(5)] == [case.marked, case, case.text, 5, same.source]


def test_an_index_behind_the_end_is_refused(comfy):
    result = comfy.run({"1": prompt_set("2 entities", split="test", count=5, draw=0, index=5)}, ["1"])
    assert result.node_id == "1" and "index is 5, but the set has 5 prompts" in result.error


def test_more_prompts_than_there_are_are_refused(comfy):
    result = comfy.run({"1": prompt_set("demo models, 2 entities", split="test", count=99, index=-1)}, ["1"])
    assert result.node_id == "1" and "99 prompts asked" in result.error and "has 24" in result.error


def test_every_prompt_of_a_set_is_sampled_and_scored_in_one_graph(comfy):
    settings = {"seed": 3, "steps": 2, "cfg": 3.0, "sampler_name": "ddim", "scheduler": "ddim_uniform", "denoise": 1.0}
    wires = {"model": ["m", 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
    nodes = {
        "m": {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}},
        "set": prompt_set("demo models, 2 entities", split="test", count=3),
        "p": {"class_type": "GSNSubjects", "inputs": {"clip": ["m", 1], "text": ["set", 0], "subjects": ""}},
        "n": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["m", 1], "text": ""}},
        "l": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 2}},
        "k": {"class_type": "KSampler", "inputs": settings | wires},
        "pictures": {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": ["m", 2]}},
        "score": score("demo detector", prompt=["set", 0], threshold=0.3),
    }
    result = comfy.run(nodes, [*(("score", slot) for slot in range(5)), "pictures", ("p", 1)]).check()
    cases = comfy.pack("gsn.text.prompt_sets").demo_set("2 entities", "test", 3).cases
    told = json.loads(result["score", 2])
    assert [one["prompt"] for one in told["images"]] == [case.text for case in cases for _ in range(2)]
    assert [one["seed"] for one in told["images"]] == ["image 1", "image 2"] * 3
    assert result["p", 1].labels == cases[-1].subjects  # the marks reach GSNSubjects
    judge = comfy.pack("gsn.metrics.demo_detector").DemoDetector(comfy.pack("gsn.host.demo").FOLDER
                                                                / "gsn_demo_detector.safetensors")  # fmt: skip
    columns = [judge.nouns.index(noun) for noun in cases[-1].subjects]
    last = judge.detect(result["pictures"])[:, columns] >= 0.3  # a kept list is its last batch
    assert [one["found"] for one in told["images"][4:]] == last.tolist()
    right = [all(one["found"]) for one in told["images"]]
    assert result["score"] == pytest.approx(sum(right) / 6)
    assert "1342 of 1342" in result["score", 1]  # how far the detector can be trusted
    assert is_sheet(result["score", 3]) and is_sheet(result["score", 4]) and result.ui["score"]["images"]


def test_detections_from_json_by_place_threshold_and_colour(comfy):
    text = found([("cat", 0.95), ("dog", 0.3)], [("cat", 0.6)], [("dog", 0.9)])
    node = score("JSON", prompt="a photo of a [red cat] and a [dog]", detections=text, threshold=0.25)
    result = scored(comfy, node, pictures(3)).check()
    told = json.loads(result["score", 2])
    assert [one["found"] for one in told["images"]] == [[True, True], [True, False], [False, True]]
    assert [one["bound"] for one in told["images"]] == [[True, None], [True, None], [False, None]]
    assert [one["success"] for one in told["images"]] == [True, False, False]
    assert result["score"] == pytest.approx(1 / 3)
    first = told["summaries"][0]
    assert [one["successes"] for one in first["by_position"]] == [2, 2]
    assert first["bound_by_position"][0]["successes"] == 2 and first["bound_by_position"][1] is None
    rates = {one["threshold"]: one["tiam"] for one in told["summaries"]}
    assert rates[0.25] == pytest.approx(1 / 3) and rates[0.4] == 0 and rates[0.9] == 0
    assert "first subject: 66.7 %" in result["score", 1] and "by hand, threshold 0.25" in result["score", 1]


def test_the_wrong_colour_is_no_success(comfy):
    text = found([("cat", 0.9)])
    node = score("JSON", prompt="a photo of a [green cat]", detections=text, threshold=0.25)
    told = json.loads(scored(comfy, node).check()["score", 2])
    assert told["images"][0] | {"prompt": "", "seed": ""} == {
        "prompt": "", "seed": "", "found": [True], "bound": [False], "success": False,
    }  # fmt: skip


def test_pictures_of_several_sizes_share_a_sheet(comfy):
    module = comfy.pack("gsn.host.scores.tiam")
    case = comfy.pack("gsn.text.prompt_sets").marked_case(CAT_AND_DOG)
    other = comfy.pack("gsn.text.prompt_sets").marked_case("a photo of a [bird]")
    batches = [torch.rand(1, 64, 96, 3), torch.rand(2, 128, 64, 3)]
    text = found([("cat", 0.9), ("dog", 0.9)], [], [("bird", 0.9)])
    result = module.score_pictures(batches, [case, other], "JSON", 0.5, detections=text)
    assert result.summaries[0].tiam == pytest.approx((1 + 0.5) / 2)  # a mean over prompts, not over images
    assert is_sheet(comfy.pack("gsn.pictures.tiam").verdicts(result.seen, 0.5))


def rt_detr(comfy):
    """ComfyUI's own detector, all its layers with fresh weights."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    from torch import nn

    torch.manual_seed(0)
    config = comfy.supported_models.RT_DETR_v4({"image_model": "RT_DETR_v4", "disable_unet_model_creation": False})
    config.set_inference_dtype(torch.float32, None)
    net = config.get_model({}, device="cpu")
    for layer in net.modules():
        kind = next((k for k in (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm) if isinstance(layer, k)), None)
        if isinstance(layer, nn.MultiheadAttention):
            layer._reset_parameters()
        elif kind:
            kind.reset_parameters(layer)
    return comfy.model_patcher.ModelPatcher(net, torch.device("cpu"), torch.device("cpu"))


def test_boxes_of_comfyuis_own_detector(comfy, monkeypatch):
    comfy.extra("nodes_rtdetr")
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", rt_detr(comfy))
    seen = {"model": ["rt", 0], "image": ["pictures", 0], "threshold": 0.5, "class_name": "all", "max_detections": 20}
    nodes = {
        "rt": {"class_type": "ToyTransformer", "inputs": {"name": next(iter(comfy.toy.TOYS))}},
        "pictures": pictures(2, 96, 64),
        "boxes": {"class_type": "RTDETR_detect", "inputs": seen},
    }
    session = comfy.session()  # the detector takes its seconds only once
    boxes = session.run(nodes, ["boxes"]).check()["boxes"]
    label = boxes[0][0]["label"]  # of random weights: something
    absent = next(name for name in ("toothbrush", "zebra", "kite") if name not in {one["label"] for one in boxes[0]})
    nodes["score"] = score("RT-DETR boxes", prompt=f"a photo of a [{label}] and a [{absent}]", boxes=["boxes", 0],
                           threshold=0.5)  # fmt: skip
    told = json.loads(session.run(nodes, [("score", 2)]).check()["score", 2])
    assert [one["found"] for one in told["images"]] == [[True, False]] * 2
    assert told["detector"] == "RT-DETR" and "own threshold" in told["note"]
    nodes["score"]["inputs"]["detector.threshold"] = 1.0
    told = json.loads(session.run(nodes, [("score", 2)]).check()["score", 2])
    assert [one["found"] for one in told["images"]] == [[False, False]] * 2


def test_boxes_of_other_pictures_are_refused(comfy):
    module = comfy.pack("gsn.host.scores.detectors")
    box = {"x": 0, "y": 0, "width": 9, "height": 9, "label": "cat", "score": 0.9}
    batch = torch.zeros(2, 64, 64, 3)
    with pytest.raises(ValueError, match="boxes for 1 pictures, but 2"):
        module.boxes_found([[[box]]], [batch])
    with pytest.raises(ValueError, match="no label and score"):
        module.boxes_found([[[{"x": 0, "y": 0, "width": 9, "height": 9}], []]], [batch])
    with pytest.raises(ValueError, match="no class 'unicorn'"):
        module.boxes_found([[[box | {"label": "unicorn"}], []]], [batch])


def test_a_class_that_the_detector_does_not_know_is_refused(comfy):
    told = refused(comfy, score("demo detector", prompt="a photo of a [cat] and a [kitten]", threshold=0.5))
    assert "no class 'kitten'" in told and "12 classes" in told
    other = found([("cat", 0.9)], classes=("cat", "hund"))
    told = refused(comfy, score("JSON", detections=other, threshold=0.5))
    assert "no class 'dog'" in told and "by hand" in told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detections": found([("cat", 0.9)], [])}, "the detections are of 2 images"),
        ({"detections": '{"format": "other"}'}, "not a file of detections"),
        ({"detections": "{"}, "not JSON"),
        ({"detections": "../secret.json"}, "no file in ComfyUI's input folder"),
        ({"detections": ""}, "no file in ComfyUI's input folder"),
        ({"detections": found([]), "prompt": "a photo of a cat"}, "no subject is marked"),
        ({"detections": found([]), "prompt": "a photo of a [cat"}, "never closed"),
        ({"detections": found([], classes=["mauve cat"]), "prompt": "[mauve cat]", "case": None}, ""),
    ],
)
def test_bad_input_is_refused_and_named(comfy, settings, message):
    node = score("JSON", threshold=0.5, **settings)
    if message:
        assert message in refused(comfy, node)
    else:  # an unknown colour is part of the class's name, which this detector happens to know
        scored(comfy, node).check()


def test_corrupt_pictures_and_the_wrong_number_of_prompts_are_refused(comfy):
    module = comfy.pack("gsn.host.scores.tiam")
    case = comfy.pack("gsn.text.prompt_sets").marked_case(CAT_AND_DOG)
    broken = torch.zeros(1, 8, 8, 3)
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="batch 2 of the pictures is corrupt"):
        module.score_pictures([torch.zeros(1, 8, 8, 3), broken], [case], "JSON", 0.5, detections=found([], []))
    with pytest.raises(ValueError, match="2 labels for 3 batches"):
        module.score_pictures([torch.zeros(1, 8, 8, 3)] * 3, [case], "JSON", 0.5, labels=["plain", "paper"])
    with pytest.raises(ValueError, match="2 prompts for 1 batches"):
        module.score_pictures([torch.zeros(1, 8, 8, 3)], [case, case], "JSON", 0.5, detections=found([]))


def test_a_list_of_ones_own_is_read_again_when_it_changes(comfy):
    path = comfy.base / "input" / "mine.csv"
    path.write_text("prompt,classes\none [tabby],cat\n")
    text = found([("cat", 0.9)])
    nodes = {
        "set": prompt_set("my own list", file="mine.csv"),
        "pictures": pictures(),
        "score": score("JSON", prompt=["set", 0], case=["set", 1], detections=text, threshold=0.5),
    }
    session = comfy.session()
    first = session.run(nodes, [("set", 2), "score"]).check()
    assert first["set", 2] == "one tabby" and first["score"] == 1
    path.write_text("prompt,classes\nanother [tabby] now,dog\n")
    second = session.run(nodes, [("set", 2), "score"]).check()
    assert second["set", 2] == "another tabby now" and second["score"] == 0
    path.write_text("prompt,classes\nno mark,\n")
    third = session.run(nodes, ["set"])
    assert third.node_id == "set" and "mine.csv" in third.error and "line 2" in third.error


def test_detections_in_a_file_are_read_again_when_it_changes(comfy):
    path = comfy.base / "input" / "found.json"
    nodes = {"pictures": pictures(), "score": score("JSON", detections="found.json", threshold=0.5)}
    session = comfy.session()
    path.write_text(found([("cat", 0.9), ("dog", 0.9)]))
    assert session.run(nodes, ["score"]).check()["score"] == 1
    path.write_text(found([("cat", 0.95)]))
    assert session.run(nodes, ["score"]).check()["score"] == 0


@pytest.mark.parametrize(
    ("detector", "runtime"), [("COCO detector", "onnxruntime"), ("TensorFlow Lite file", "mediapipe")]
)
def test_a_detector_without_its_runtime_is_refused_before_anything_runs(comfy, monkeypatch, detector, runtime):
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == runtime else there(name, *a))
    folder = comfy.base / "models" / "detection"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "small.tflite", "w") as file:
        file.writestr("labelmap.txt", "cat\ndog\n")
    settings = {"file": "small.tflite"} if runtime == "mediapipe" else {}
    result = scored(comfy, score(detector, threshold=0.5, **settings))
    assert not result.ok and result.node_id == "score" and result.error_type == "invalid_prompt"
    assert f"GSNTIAMScore: {detector} needs" in result.error and f"pip install {runtime}" in result.error


def test_a_detector_that_does_not_exist_is_refused_before_anything_runs(comfy):
    unknown, none = score("eye", threshold=0.5), score("", threshold=0.5)
    del none["inputs"]["detector"]
    for node in (unknown, none):
        result = scored(comfy, node)
        assert not result.ok and result.error_type == "invalid_prompt"
        assert "GSNTIAMScore: detector must be one of: COCO detector, RT-DETR boxes" in result.error


def test_photos_by_the_detector_that_ships(comfy):
    pytest.importorskip("onnxruntime")
    for name in ("cat.jpg", "cup.jpg"):
        shutil.copy(PHOTOS / name, comfy.base / "input" / name)
    nodes = {"cat": {"class_type": "LoadImage", "inputs": {"image": "cat.jpg"}},
             "cup": {"class_type": "LoadImage", "inputs": {"image": "cup.jpg"}},
             "pictures": {"class_type": "ImageBatch", "inputs": {"image1": ["cat", 0], "image2": ["cup", 0]}},
             "score": score("COCO detector", prompt="a photo of a [cat]", threshold=0.5)}  # fmt: skip
    result = comfy.run(nodes, [("score", slot) for slot in range(5)]).check()
    assert result["score", 0] == 0.5 and is_sheet(result["score", 3])
    told = json.loads(result["score", 2])
    assert told["detector"] == "COCO detector" and "24 %" in told["note"]
    unknown = refused(comfy, score("COCO detector", prompt="a photo of a [castle]", threshold=0.5))
    assert "has no class 'castle'" in unknown


def test_a_detector_file_that_is_not_there_is_named(comfy):
    with pytest.raises(FileNotFoundError, match=r"'no.tflite' in models/detection"):
        comfy.pack("gsn.host.scores.detectors").file_found("no.tflite", [])


def test_a_score_of_something_unknown_is_named(comfy):
    names = SimpleNamespace(subjects=("cat",), colours=("mauve",), text="a mauve cat")
    with pytest.raises(ValueError, match="the colour 'mauve' cannot be told"):
        comfy.pack("gsn.host.scores.tiam").score_pictures(
            [torch.zeros(1, 8, 8, 3)], [names], "JSON", 0.5, detections=found([("cat", 0.9)])
        )
