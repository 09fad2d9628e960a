"""One refinement iteration of joint attention at 1024 x 1024, fp32: SD 3 medium's and Flux's block shapes.

Work of all variants: random weights, one latent [1, 16, 128, 128], the paper's loss of two subjects, one gradient of
the latent. sd3: hidden size 1536, 24 heads, 154 text tokens of which 18 are words, maps of all blocks. flux: hidden
size 3072, 24 heads, two single blocks for each double one, 256 text tokens of which 9 are words, maps of the double
blocks, Flux's default. NAME@DEPTH: with so many (double) blocks; without it four.

- ours: the pack's call inside its differentiable context; only the words' columns of the softmax are formed;
- low: the same with all blocks but the last computed again in backward;
- naive: ordinary frozen weights and plain autograd; every block forms its whole matrix of probabilities, as the
  authors' code does;
- step: no iteration but one ordinary pass with PyTorch's attention, as on a GPU, to count in: of both conditionings in
  one batch, as ComfyUI runs SD 3, and of the one that Flux, whose guidance is an input, is run with;
- capture, capture_naive: the maps of one block's queries and keys alone, 4096 image and 154 text tokens, 24 heads of
  64, and the gradient of both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from early_exit import SUBJECT_COLUMNS, highest_memory, in_worker, load_comfyui, small_weights

VARIANTS = {
    "sd3": ("ours", "low", "naive"),
    "sd3_step": ("ours@1", "ours@2", "low@1", "low@2", "step@1", "step@2"),
    "flux_step": ("ours@1", "ours@2", "step@1", "step@2"),
    "capture": ("capture", "capture_naive"),
}
DEPTH = 4
SIGMA = 0.974
WORDS = tuple(range(1, 10))


@dataclass(frozen=True)
class Shape:
    """What the variants know of a model.

    streams: (name, text tokens) along its axis; passes: of one sampling step; part: whose layers are read, "" = all;
    more: of `apply_model`.
    """

    config: Callable
    streams: tuple[tuple[str, int], ...]
    pooled: int
    passes: int
    part: str = ""
    more: dict = field(default_factory=dict)


def _sd3(depth):
    import comfy.supported_models as known

    return known.SD3({
        "patch_size": 2, "in_channels": 16, "out_channels": 16, "depth": 24, "num_blocks": depth, "input_size": None,
        "adm_in_channels": 2048, "pos_embed_max_size": None, "num_patches": None, "pos_embed_scaling_factor": None,
        "context_embedder_config": {"target": "torch.nn.Linear",
                                    "params": {"in_features": 4096, "out_features": 1536}},
    })  # fmt: skip


def _flux(depth):
    import comfy.supported_models as known

    return known.Flux({
        "image_model": "flux", "patch_size": 2, "in_channels": 16, "out_channels": 16, "hidden_size": 3072,
        "num_heads": 24, "depth": depth, "depth_single_blocks": 2 * depth, "mlp_ratio": 4.0, "theta": 10000,
        "axes_dim": [16, 56, 56], "context_in_dim": 4096, "vec_in_dim": 768, "qkv_bias": True, "guidance_embed": True,
        "txt_ids_dims": [],
    })  # fmt: skip


SHAPES = {
    "sd3": Shape(_sd3, (("clip", 77), ("t5", 77)), pooled=2048, passes=2),
    "flux": Shape(_flux, (("t5", 256),), pooled=768, passes=1, part="double", more={"guidance": 3.5}),
}


def model(shape, depth):
    import torch

    config = shape.config(depth)
    config.set_inference_dtype(torch.float32, None)
    made = config.get_model({}, "", device="cpu")
    small_weights(made.diffusion_model)
    return made


def subjects(shape):
    from gsn.text.subjects import Subject, Subjects, TextStream

    streams, offset = [], 0
    for name, length in shape.streams:
        streams.append(TextStream(name, offset, length, WORDS, (0,) if name == "clip" else (), ("x",) * length))
        offset += length
    items = tuple(Subject(str(p), {one.name: (p,) for one in streams}) for p in SUBJECT_COLUMNS)
    return Subjects("bench", items, tuple(streams))


def word_columns(words):
    return tuple(stream.offset + p for stream in words.streams for p in stream.words)


def inputs(shape):
    """(latent, what `apply_model` takes besides) of one image."""
    import torch

    generator = torch.Generator().manual_seed(1)
    text = sum(length for _, length in shape.streams)
    sizes = ((1, 16, 128, 128), (1, text, 4096), (1, shape.pooled))
    latent, text, pooled = (torch.randn(size, generator=generator) for size in sizes)
    return latent, {"c_crossattn": text, "y": pooled} | {k: torch.tensor([v]) for k, v in shape.more.items()}


def paper_loss(probabilities, words):
    from gsn.attention.maps import AttentionMaps, MapProcessing
    from gsn.losses.objective import PAPER

    return PAPER.evaluate(AttentionMaps(probabilities), words, MapProcessing(columns="words")).total.sum()


def our_maps(network, family, layers, columns, position, leaf, sigma, more):
    """[1, h, w, T] of these layers by the pack's call, inside its contexts; more: of `apply_model`."""
    from gsn.host.attention.capture import Collector
    from gsn.host.attention.early_exit import CaptureDone

    collector, options = Collector(layers, columns), {"transformer_options": {}}
    family.attach(options, collector.sink, position, more["c_crossattn"].shape[1])
    with suppress(CaptureDone):
        network.apply_model(leaf, sigma, **more, **options)
    return collector.maps().probabilities


def iterations(shape, maps, z, count):
    """Seconds of each update of z by the gradient of the paper's loss of maps(z); and memory."""
    import torch

    seconds, words = [], subjects(shape)
    with highest_memory() as memory:
        for _ in range(count + 1):
            began = time.perf_counter()
            leaf = z.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(paper_loss(maps(leaf), words), leaf)
            z = z - 1e-2 * gradient
            seconds.append(time.perf_counter() - began)
    return seconds[1:], memory


def ours(shape, depth, count, recompute=False):
    load_comfyui()
    import torch

    from gsn.host.families import family_of
    from gsn.host.gradient.checkpointing import track_blocks
    from gsn.host.gradient.differentiable import differentiable
    from gsn.host.sampling.memory import pages

    network = model(shape, depth)
    family = family_of(network, "bench")
    layers = [layer for layer in family.layers(network) if shape.part in ("", layer.key[0])]
    z, more = inputs(shape)
    of_words, sigma = word_columns(subjects(shape)), torch.tensor([SIGMA])
    blocks = track_blocks(family.blocks(network), layers[-1].key, recompute)
    with pages(z.device, keep=not recompute), differentiable(network, "bench"), blocks as position:
        return iterations(
            shape, lambda leaf: our_maps(network, family, layers, of_words, position, leaf, sigma, more), z, count
        )


def naive(shape, depth, count):
    load_comfyui()
    import torch

    network = model(shape, depth).requires_grad_(False)
    z, more = inputs(shape)
    text = more["c_crossattn"].shape[1]

    def maps(leaf):
        found = []

        def attend(function, q, k, v, heads, *args, **kwargs):
            # [B, N, heads, D] with normed queries, [B, N, heads D] without
            q, k, v = (one.reshape(*one.shape[:2], heads, -1).transpose(1, 2) for one in (q, k, v))
            whole = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            found.append(whole.mean(1)[:, text:, :text].unflatten(1, (64, 64)))
            return (whole @ v).transpose(1, 2).flatten(2)

        options = {"transformer_options": {"optimized_attention_override": attend}}
        network.apply_model(leaf, torch.tensor([SIGMA]), **more, **options)
        return sum(found) / len(found)

    return iterations(shape, maps, z, count)


def step(shape, depth, count):
    load_comfyui(pytorch_attention=True)
    import torch

    seconds = []
    with torch.inference_mode(), highest_memory() as memory:
        network = model(shape, depth)
        z, more = inputs(shape)
        z, *rest = (torch.cat([one, one.flip(-1)][: shape.passes]) for one in (z, *more.values()))
        more = dict(zip(more, rest, strict=True))
        for _ in range(count + 1):
            began = time.perf_counter()
            network.apply_model(z, torch.tensor([SIGMA] * shape.passes), **more, transformer_options={})
            seconds.append(time.perf_counter() - began)
    return seconds[1:], memory


def capture(count, naively=False):
    """Maps of the words' columns from one block's queries and keys; seconds and memory of both passes."""
    load_comfyui()
    import torch

    from gsn.host.attention.softmax import text_probabilities
    from gsn.host.families import TextAttention

    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn((1, 24, n, 64), generator=generator).requires_grad_(True) for n in (4096, 4250))
    columns = word_columns(subjects(SHAPES["sd3"]))
    seconds = []
    with highest_memory() as memory:
        for _ in range(count + 1):
            began = time.perf_counter()
            if naively:
                maps = (q @ k.transpose(-1, -2) / 8).softmax(-1).mean(1)[..., columns]
            else:
                call = TextAttention(q, k, slice(0, 154), (64, 64), 1 / 8)
                maps = text_probabilities(call, columns)[..., columns]
            torch.autograd.grad(maps.square().sum(), (q, k))
            seconds.append(time.perf_counter() - began)
    return seconds[1:], memory


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=list(SHAPES))
    parser.add_argument("variant", choices=sorted({name for names in VARIANTS.values() for name in names}))
    parser.add_argument("iterations", type=int)
    options = parser.parse_args()
    name, _, depth = options.variant.partition("@")
    of_model = SHAPES[options.shape], int(depth or DEPTH)
    functions = {"ours": partial(ours, *of_model), "low": partial(ours, *of_model, recompute=True),
                 "naive": partial(naive, *of_model), "step": partial(step, *of_model),
                 "capture": capture, "capture_naive": partial(capture, naively=True)}  # fmt: skip
    seconds, (before, highest) = in_worker(functions[name], options.iterations)
    print(json.dumps({"seconds": seconds, "memory": highest - before}))
