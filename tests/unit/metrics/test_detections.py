"""The format of detections: what is read back, and what is said of a file that is wrong."""

import json
import tracemalloc

import numpy as np
import pytest

from gsn.metrics.detections import (
    COCO,
    WHOLE,
    Detection,
    DetectionSet,
    check_classes,
    from_boxes,
    from_scores,
    parse_detections,
    read_detections,
    to_json,
)


def file(*detections, **changes):
    whole = {"format": "gsn-detections", "version": 1, "detector": "x", "classes": ["cat", "dog"],
             "images": [{"image": "1.png", "detections": list(detections)}]}  # fmt: skip
    return json.dumps(whole | changes)


def entry(**changes):
    return {"label": "cat", "score": 0.5, "box": [0, 0, 0.5, 1]} | changes


def test_what_is_written_is_read_back():
    rng = np.random.default_rng(0)
    masks = [rng.random((5, 7)) > 0.5, np.zeros((3, 2), bool), np.ones((2, 3), bool), np.eye(4, dtype=bool)]
    found = tuple(Detection("cat", 0.1 * n, (0.1, 0.2, 0.3 + n / 10, 1.0), mask) for n, mask in enumerate(masks))
    whole = DetectionSet("mine", ("cat", "dog"), {"a.png": found, "b.png": (), "c.png": (Detection("dog", 1.0),)})
    again = parse_detections(to_json(whole))
    assert again == whole
    for one, mask in zip(again.images["a.png"], masks, strict=True):
        assert np.array_equal(one.mask, mask)


def test_masks_run_down_the_columns_as_cocos():
    """The example of pycocotools' mask.py: M = [0 0 1 1 1 0 1] has the runs 2, 3, 1, 1."""
    mask = {"size": [7, 1], "counts": [2, 3, 1, 1]}
    found = parse_detections(file(entry(mask=mask))).images["1.png"][0].mask
    assert found[:, 0].astype(int).tolist() == [0, 0, 1, 1, 1, 0, 1]
    mask = {"size": [2, 3], "counts": [0, 3, 3]}
    assert parse_detections(file(entry(mask=mask))).images["1.png"][0].mask.tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON .* in line 1"),
        ("[]", '"format": "gsn-detections"'),
        (file(version=2), '"version": 1'),
        (file(classes=[]), '"classes" must be'),
        (file(classes=["cat", 3]), '"classes" must be'),
        (file(images={}), '"images" must be a list'),
        (file(images=[{"image": "a.png"}]), "image 1: needs"),
        (file(images=[{"image": "a.png", "detections": []}] * 2), "'a.png' is listed twice"),
        (file("cat"), "image '1.png', detection 1: must be an object"),
        (file(entry(), entry(label="cow")), "image '1.png', detection 2: label 'cow' is not in the file's \"classes\""),
        (file(entry(label=["cat"])), "label .* is not in"),
        (file(entry(score=1.5)), "score 1.5 is not"),
        (file(entry(score=None)), "score None is not"),
        (file(entry(score=True)), "score True is not"),
        (file(entry(score=float("nan"))), "score nan is not"),
        (file(entry(box=[0, 0, 120, 80])), "fractions of the picture, not pixels"),
        (file(entry(box=[0.5, 0, 0.5, 1])), "x0 < x1"),
        (file(entry(box=[0, 0, float("nan"), 1])), "x0 < x1"),
        (file(entry(box=[0, 0, 1])), "not four numbers"),
        (file(entry(mask={"size": [2, 2], "counts": [3]})), "runs cover 3 pixels, its size is 2 x 2"),
        (file(entry(mask={"size": [0, 2], "counts": []})), "mask must be"),
        (file(entry(mask={"size": [2, 2], "counts": [2.0, 2]})), "mask must be"),
        (file(entry(mask=[1])), "mask must be"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text, message, tmp_path):
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"found.json.*{message}"):
        read_detections(path)


def test_a_file_of_other_bytes_is_named(tmp_path):
    path = tmp_path / "found.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="found.json: not UTF-8"):
        read_detections(path)


def test_a_box_a_little_outside_is_cut_off():
    assert parse_detections(file(entry(box=[-0.01, 0, 0.5, 1.01]))).images["1.png"][0].box == (0, 0, 0.5, 1)


def test_unknown_classes_are_named_with_the_nearest():
    check_classes(["cat", "couch"], COCO)
    with pytest.raises(ValueError, match="my net has no class 'motorbike'.*80 classes, nearest: motorcycle"):
        check_classes(["cat", "motorbike"], COCO, "my net")
    with pytest.raises(ValueError, match="its classes: cat"):
        check_classes(["zzz"], ["cat"])


def test_boxes_of_comfyuis_detector_become_fractions():
    box = {"x": 16.0, "y": -4.0, "width": 32.0, "height": 100.0, "label": "cat", "score": 0.75}
    inside = Detection("cat", 0.75, (0.25, 0, 0.75, 1))
    assert from_boxes([[box], []], 2, 64, 80) == [(inside,), ()]
    assert from_boxes([box], 1, 64, 80) == [(inside,)] == from_boxes(box, 1, 64, 80)  # a flat list, a single box
    assert from_boxes([[]], 1, 64, 80) == [()]


def test_a_classifier_gives_one_detection_for_each_class():
    scores = np.array([[0.25, 0.75], [0.5, 0.0]])
    first, second = from_scores(scores, ["cat", "dog"])
    assert first == (Detection("cat", 0.25, WHOLE), Detection("dog", 0.75, WHOLE)) and second[0].score == 0.5


@pytest.mark.parametrize("masks", [[[20_000, 20_000]], 30 * [[4096, 4096]]], ids=["one", "many"])
def test_masks_that_are_short_to_write_and_huge_to_hold_are_refused_before_they_are_made(masks):
    """One of 216 characters used to take 382 MB."""
    found = [
        {"label": "cat", "score": 0.9, "box": [0, 0, 1, 1], "mask": {"size": size, "counts": [0, size[0] * size[1]]}}
        for size in masks
    ]
    text = json.dumps({"format": "gsn-detections", "version": 1, "detector": "d", "classes": ["cat"],
                       "images": [{"image": "a.png", "detections": found}]})  # fmt: skip
    tracemalloc.start()
    with pytest.raises(ValueError, match="pixels in all"):
        parse_detections(text)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10**6


def test_nesting_without_end_is_no_file_of_detections():
    with pytest.raises(ValueError, match="nested deeper"):
        parse_detections(10**5 * "[" + 10**5 * "]")
