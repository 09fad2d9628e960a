"""EfficientDet-Lite or another TensorFlow Lite detector from a file of the user's, run by MediaPipe.

MediaPipe (Apache-2.0) is an optional extra: `pip install mediapipe`. No weights come with it, so the file is the
user's: any .tflite detector that carries its label list, such as Google's efficientdet_lite0.tflite to lite4
(Apache-2.0, trained on COCO). MediaPipe reads both kinds of file, those that decode their boxes themselves and those
that leave it to the runtime. Without a file there is coco_detector.py.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .detections import Detection

LEAST_SCORE = 0.05  # kept below it: nothing; a threshold for scoring lies above
_PLACEHOLDER = "???"  # stands in label lists for numbers that COCO does not use


def label_list(path: str | Path) -> tuple[str, ...]:
    """The classes of a .tflite detector, from the list packed into the file. Raises ValueError, OSError."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as packed:
            lists = [name for name in packed.namelist() if name.endswith(".txt")]
            lines = packed.read(lists[0]).decode("utf-8").splitlines() if lists else []
    except (zipfile.BadZipFile, UnicodeDecodeError):
        lines = []
    labels = [line.strip() for line in lines if line.strip() and line.strip() != _PLACEHOLDER]
    if not labels:
        raise ValueError(
            f"{path.name} carries no list of labels, so what it finds has no name. Take a detector with metadata, such"
            " as efficientdet_lite0.tflite"
        )
    return tuple(labels)


class EfficientDet:
    """`detections` of pictures; `classes` is all it can find. A context manager: it holds a runtime until it closes.

    Raises:
        ImportError: MediaPipe is not installed.
        ValueError: no detector in the file, or one without labels.
        FileNotFoundError: no file.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no detector file {path}")
        self.classes = label_list(path)
        try:
            import mediapipe  # pyright: ignore[reportMissingImports]
            from mediapipe.tasks.python import BaseOptions, vision  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(
                f"reading {path.name} needs MediaPipe: install it with 'pip install mediapipe' in ComfyUI's Python"
            ) from error
        options = vision.ObjectDetectorOptions(
            base_options=BaseOptions(model_asset_buffer=path.read_bytes()), score_threshold=LEAST_SCORE
        )
        self._mediapipe: Any = mediapipe
        try:
            self._net: Any = vision.ObjectDetector.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path.name} is no object detector that MediaPipe can run: {error}") from None

    def __enter__(self) -> EfficientDet:
        return self

    def __exit__(self, *_: object) -> None:
        self._net.close()

    def detections(self, images: Any) -> list[tuple[Detection, ...]]:
        """Of pictures [B, H, W, 3] in 0..1: per picture what scores `LEAST_SCORE` or more, overlaps suppressed."""
        pixels = (np.asarray(images, np.float32)[..., :3].clip(0, 1) * 255).round().astype(np.uint8)
        return [self._look(np.ascontiguousarray(picture)) for picture in pixels]

    def _look(self, picture: np.ndarray) -> tuple[Detection, ...]:
        height, width = picture.shape[:2]
        form = self._mediapipe.ImageFormat.SRGB
        result = self._net.detect(self._mediapipe.Image(image_format=form, data=picture))
        out = []
        for one in result.detections:
            box, kind = one.bounding_box, one.categories[0]
            edges = np.array([box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height])
            x0, y0, x1, y1 = (edges / (width, height, width, height)).clip(0, 1).tolist()
            out.append(Detection(kind.category_name, float(kind.score), (x0, y0, x1, y1)))
        return tuple(out)
