"""Makes a TensorFlow Lite detector of three boxes whose scores are the picture's mean red, green and blue.

It is a real file with real metadata, run by the real MediaPipe; only its weights are nothing.
"""

import sys
import types

import numpy as np

VERSION_MODULE = "mediapipe.tasks.cc.metadata.python._pywrap_metadata_version"
BOXES = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 1, 1]]  # y0, x0, y1, x1


def toy_detector(labels):
    """The file's bytes. Its label list names the three boxes' classes."""
    import flatbuffers
    from mediapipe.tasks.metadata import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description, graph.name = 3, b"toy", b"main"
    model.buffers, graph.tensors = [schema.BufferT()], []

    def tensor(name, shape, data=None):
        one, buffer = schema.TensorT(), schema.BufferT()
        one.name, one.shape, one.buffer = name.encode(), list(shape), len(model.buffers)
        one.type = schema.TensorType.INT32 if data is not None and data.dtype == np.int32 else schema.TensorType.FLOAT32
        buffer.data = None if data is None else np.frombuffer(data.tobytes(), np.uint8)
        model.buffers.append(buffer)
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    image = tensor("image", (1, 8, 8, 3))
    axes = tensor("axes", (2,), np.array([1, 2], np.int32))
    boxes = tensor("boxes", (1, 3, 4), np.array([BOXES], np.float32))
    classes = tensor("classes", (1, 3), np.array([[0, 1, 2]], np.float32))
    scores = tensor("scores", (1, 3))
    count = tensor("count", (1,), np.array([3], np.float32))
    code, mean = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    code.version = 1
    mean.inputs, mean.outputs = [image, axes], [scores]
    mean.builtinOptionsType, mean.builtinOptions = schema.BuiltinOptions.ReducerOptions, schema.ReducerOptionsT()
    graph.operators, graph.inputs, graph.outputs = [mean], [image], [boxes, classes, scores, count]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return with_metadata(bytearray(builder.Output()), labels)


def with_metadata(model, labels):
    # MediaPipe's wheel has the writer, but not the compiled module that works out the least version of a reader.
    version = types.ModuleType(VERSION_MODULE)
    version.GetMinimumMetadataParserVersion = lambda metadata: "1.0.0"
    parents = [VERSION_MODULE.rsplit(".", n)[0] for n in (3, 2, 1)]
    made = {name: types.ModuleType(name) for name in parents} | {VERSION_MODULE: version}
    made[parents[-1]]._pywrap_metadata_version = version
    sys.modules.update(made)
    try:
        from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer, object_detector

        writer = object_detector.MetadataWriter.create_for_models_with_nms(
            model, [0.0], [255.0], metadata_writer.Labels().add(labels)
        )
        return bytes(writer.populate()[0])
    finally:
        for name in made:
            del sys.modules[name]
