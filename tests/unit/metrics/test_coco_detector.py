"""The COCO detector that ships finds what its original in TensorFlow.js finds."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsn.metrics import coco_detector
from gsn.metrics.coco_detector import CocoDetector
from gsn.metrics.tiam import THRESHOLDS, score_image

PHOTOS = Path(__file__).parent / "photos"
# What TensorFlow.js 4.22 makes of the same pixels by the npm package's own graph: the best anchors.
ORIGINAL = {
    "cat": [("cat", 0.9116, (0.0032, 0.0061, 0.9037, 0.9955))],
    "cup": [("cup", 0.9210, (0.2873, 0.0469, 0.7001, 0.6217)),
            ("dining table", 0.3039, (0.0110, 0.0121, 0.9907, 0.9912))],
}  # fmt: skip


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("onnxruntime", reason="the optional extra is absent: pip install onnxruntime")
    return CocoDetector()


def photo(name, size=None):
    opened = Image.open(PHOTOS / f"{name}.jpg").convert("RGB")
    return np.asarray(opened.resize(size) if size else opened, np.float32) / 255


@pytest.mark.parametrize("name", ORIGINAL)
def test_it_finds_what_the_original_finds(detector, name):
    (found,) = detector.detections(photo(name)[None])
    best = {}
    for one in found:
        best.setdefault(one.label, one)
    for label, score, box in ORIGINAL[name]:
        assert best[label].score == pytest.approx(score, abs=0.01)  # its weights are kept in half precision
        assert best[label].box == pytest.approx(box, abs=0.005)
    assert [one.label for one in found if one.score > 0.4] == [name]  # one box of one thing, not one for each anchor


def test_pictures_of_a_batch_are_looked_at_one_by_one(detector):
    both = np.stack([photo("cat", (200, 150)), photo("cup", (200, 150))])
    cat, cup = detector.detections(both)
    assert (cat[0].label, cup[0].label) == ("cat", "cup")
    assert detector.detections(both[1:]) == [cup]
    for found in (cat, cup):
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True) and min(scores) >= 0.05
        assert all(0 <= one.box[0] < one.box[2] <= 1 and 0 <= one.box[1] < one.box[3] <= 1 for one in found)


def test_nothing_is_found_in_an_empty_picture(detector):
    (found,) = detector.detections(np.full((1, 128, 128, 3), 0.5, np.float32))
    assert all(one.score < min(THRESHOLDS) for one in found)


def test_tiam_of_a_photo(detector):
    (found,) = detector.detections(photo("cat")[None])
    assert score_image(["cat"], [None], found, photo("cat"), 0.5).success
    assert score_image(["cat", "dog"], [None, None], found, photo("cat"), 0.5).found == (True, False)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no\.onnx; it comes with the pack"):
        CocoDetector(tmp_path / "no.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        CocoDetector()


def test_the_file_and_its_licence_lie_together():
    assert "Apache License" in (coco_detector.FILE.parent / "LICENSE").read_text()
