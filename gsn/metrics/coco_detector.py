"""The COCO detector that ships: SSDLite MobileNetV2 in detector/coco_ssdlite.onnx, run by ONNX Runtime.

ONNX Runtime (MIT) is an optional extra: `pip install onnxruntime`. The file (detector/README.md says where it is from,
and how far to trust it) takes pictures of any size, resizes them to 300 x 300 itself, and suppresses overlapping boxes
of a class; it keeps scores of 0.05 and more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .detections import COCO, Detection

FILE = Path(__file__).resolve().parents[2] / "detector" / "coco_ssdlite.onnx"


class CocoDetector:
    """`detections` of pictures; `classes` is all it can find.

    Raises:
        ImportError: ONNX Runtime is not installed.
        FileNotFoundError: no file.
    """

    classes = COCO

    def __init__(self, path: Path = FILE):
        if not path.is_file():
            raise FileNotFoundError(f"there is no detector file {path}; it comes with the pack, so install that again")
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "the COCO detector needs ONNX Runtime: install it with 'pip install onnxruntime' in ComfyUI's Python"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # several workers of a study share the processor, and sums keep their order
        self._net: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def detections(self, images: Any) -> list[tuple[Detection, ...]]:
        """Of pictures [B, H, W, 3] in 0..1: per picture what was kept, the surest first."""
        pictures = np.asarray(images, np.float32)[..., :3].clip(0, 1)
        return [self._look(picture[None]) for picture in pictures]

    def _look(self, picture: np.ndarray) -> tuple[Detection, ...]:
        boxes, scores, kept = self._net.run(["boxes", "scores", "kept"], {"image": picture})
        out = []
        for _, label, anchor in kept:
            y0, x0, y1, x1 = boxes[0, anchor].clip(0, 1).tolist()
            out.append(Detection(COCO[label], float(scores[0, label, anchor]), (x0, y0, x1, y1)))
        return tuple(sorted(out, key=lambda one: -one.score))
