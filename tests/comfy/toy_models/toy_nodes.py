"""The test nodes: two make models, one remembers what it was given."""

from comfy_api.latest import io

from .build import DTYPES, FAMILIES, build_clip, build_controlnet, build_model, build_vae

KEPT: dict[str, object] = {}  # ToyKeep's memory; the harness empties it before each run


class ToyModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyModel",
            category="testing",
            inputs=[
                io.Combo.Input("family", options=list(FAMILIES)),
                io.Int.Input("seed", default=0),
                io.Combo.Input("dtype", options=list(DTYPES), default="fp32", optional=True),
                io.Combo.Input("compute", options=["fp32", "fp16", "bf16"], default="fp32", optional=True),
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, family, seed, dtype="fp32", compute="fp32"):
        model = build_model(family, seed, dtype, compute_dtype=DTYPES[compute])
        return io.NodeOutput(model, build_clip(family, seed), build_vae(family, seed))


class ToyControlNet(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyControlNet",
            category="testing",
            inputs=[io.Int.Input("seed", default=0)],
            outputs=[io.ControlNet.Output()],
        )

    @classmethod
    def execute(cls, seed):
        return io.NodeOutput(build_controlnet(seed))


class ToyKeep(io.ComfyNode):
    """Stores any value under a name, so that a test sees the Python object a socket carried."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyKeep",
            category="testing",
            inputs=[io.AnyType.Input("value"), io.String.Input("key")],
            outputs=[],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **kwargs):
        return float("nan")  # never cached: a second run of the same prompt must keep its values again

    @classmethod
    def execute(cls, value, key):
        KEPT[key] = value
        return io.NodeOutput()
