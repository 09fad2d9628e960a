"""The adapter of TensorFlow Lite detectors, with the real MediaPipe on a made file."""

import importlib.util
import zipfile

import pytest
import torch

from gsn.metrics import efficientdet
from gsn.metrics.efficientdet import EfficientDet, label_list

from .toy_tflite import toy_detector


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    pytest.importorskip("mediapipe", reason="the optional extra is absent: pip install mediapipe")
    path = tmp_path_factory.mktemp("tflite") / "toy.tflite"
    path.write_bytes(toy_detector(["cat", "dog", "traffic light"]))
    return path


def packed(path, text):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("labelmap.txt", text)
    return path


def test_scores_boxes_and_labels_come_from_the_file(toy):
    images = torch.zeros(2, 40, 60, 3)
    images[0, ..., 0], images[0, ..., 1], images[1, ..., 2] = 1.0, 0.4, 0.2
    with EfficientDet(toy) as detector:
        assert detector.classes == ("cat", "dog", "traffic light")
        first, second = detector.detections(images)
    assert [(one.label, round(one.score, 3)) for one in first] == [("cat", 1.0), ("dog", 0.4)]
    assert first[0].box == (0, 0, 0.5, 0.5) and first[1].box == (0, 0.5, 0.5, 1)
    assert [(one.label, round(one.score, 3), one.box) for one in second] == [("traffic light", 0.2, (0.5, 0, 1, 1))]


def test_a_file_that_is_no_detector_is_refused(toy, tmp_path):
    with pytest.raises(ValueError, match="junk.tflite is no object detector"):
        EfficientDet(packed(tmp_path / "junk.tflite", "cat\n"))


def test_the_labels_are_read_without_the_runtime(tmp_path):
    assert label_list(packed(tmp_path / "a.tflite", "person\n???\n bicycle \n\n")) == ("person", "bicycle")


@pytest.mark.parametrize("content", [b"TFL3 without labels", b""])
def test_a_file_without_labels_is_refused(tmp_path, content):
    path = tmp_path / "bare.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bare.tflite carries no list of labels"):
        label_list(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.tflite"):
        EfficientDet(tmp_path / "none.tflite")


@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is not None, reason="MediaPipe is installed")
def test_a_missing_runtime_is_named_with_how_to_get_it(tmp_path):
    with pytest.raises(ImportError, match="pip install mediapipe"):
        EfficientDet(packed(tmp_path / "a.tflite", "cat\n"))


def test_the_threshold_of_scoring_lies_above_what_is_kept():
    from gsn.metrics.tiam import THRESHOLDS

    assert min(THRESHOLDS) > efficientdet.LEAST_SCORE
