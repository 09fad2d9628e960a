"""The test nodes: some make models, one makes a text, one remembers what it was given."""

import functools
import sys

import torch
from comfy_api.latest import io

from .build import DTYPES, FAMILIES, build_clip, build_controlnet, build_model, build_transformer, build_vae
from .lent import lent
from .zoo import TOYS

KEPT: dict[str, object] = {}  # ToyKeep's memory; the harness empties it before each run


class ToyModel(io.ComfyNode):
    """A toy with a text encoder. `made`: a test's own model instead."""

    made = None

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
        clip, vae = _text_and_pictures(family, seed)
        model = cls.made or lent(build_model, family, seed, dtype, False, DTYPES[compute])
        return io.NodeOutput(model, clip.clone(), vae)


@functools.cache
def _text_and_pictures(family, seed):
    """Text encoder and autoencoder, made once: they take longer than the network, and nothing changes them."""
    return build_clip(family, seed), build_vae(family, seed)


class ToyTransformer(io.ComfyNode):
    """A toy of the zoo; `ordinary` weights are what plain autograd needs. `made`: a test's own model instead."""

    made = None

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyTransformer",
            category="testing",
            inputs=[
                io.Combo.Input("name", options=list(TOYS)),
                io.Combo.Input("dtype", options=list(DTYPES), default="fp32", optional=True),
                io.Combo.Input("compute", options=["fp32", "fp16", "bf16"], default="fp32", optional=True),
                io.Boolean.Input("ordinary", default=False, optional=True),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, name, dtype="fp32", compute="fp32", ordinary=False):
        return io.NodeOutput(cls.made or lent(build_transformer, name, 0, dtype, ordinary, DTYPES[compute]))


class ToyText(io.ComfyNode):
    """A random text of the right shape; its words are columns 1 to 8 of each stream's first chunk and of its last.

    The subjects are column 3 of the first chunk and column 6 of the last, in every stream.
    described_in: a stream whose column 2 is a word that describes the first one.
    """

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyText",
            category="testing",
            inputs=[
                io.Combo.Input("name", options=list(TOYS)),
                io.Int.Input("seed", default=1),
                io.Int.Input("chunks", default=1, optional=True),
                io.Boolean.Input("subjects", default=True, optional=True),
                io.String.Input("described_in", default="", optional=True),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, name, seed, chunks=1, subjects=True, described_in=""):
        toy, values = TOYS[name], _pack("gsn.text.subjects")
        generator = torch.Generator().manual_seed(seed)
        streams, offset = [], 0
        for stream, columns in toy.streams:
            last = columns * (chunks - 1)
            words = tuple(sorted({start + p for start in (0, last) for p in range(1, 9)}))
            pieces = tuple(f"w{p}" if p in words else "<pad>" for p in range(columns * chunks))
            streams.append(values.TextStream(stream, offset, columns * chunks, words, (), pieces))
            offset += columns * chunks
        words = (values.Subject("teal", {described_in: (2,)}),) if described_in else ()
        items = tuple(
            values.Subject(label, {stream: (columns * chunk + p,) for stream, columns in toy.streams}, attributes)
            for label, chunk, p, attributes in (("cat", 0, 3, words), ("dog", chunks - 1, 6, ()))
        )
        found = values.Subjects("a cat and a dog", items if subjects else (), tuple(streams))
        options = {**toy.extras(generator, offset), values.SUBJECTS_KEY: found}
        return io.NodeOutput([[torch.randn(1, offset, toy.width, generator=generator), options]])


def _pack(name):
    """A module of the loaded pack: ComfyUI names it after its folder."""
    return next(module for key, module in sys.modules.items() if key.endswith(f".{name}"))


class ToyControlNet(io.ComfyNode):
    """With the autoencoder that makes the hint's latents, where the family's ControlNets take those."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyControlNet",
            category="testing",
            inputs=[
                io.Int.Input("seed", default=0),
                io.Combo.Input("family", options=["sd15", "sd3", "flux_dev"], default="sd15", optional=True),
            ],
            outputs=[io.ControlNet.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, seed, family="sd15"):
        return io.NodeOutput(build_controlnet(family, seed), build_vae("sd15" if family == "sd15" else "sd3"))


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
