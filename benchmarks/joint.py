"""One refinement iteration of joint attention: SD3-medium's block shapes, 1024 x 1024, four blocks, fp32.

Work of both variants: random weights of hidden size 1536 and 24 heads, one latent [1, 16, 128, 128], 154 text tokens
of which 18 are words, maps of all blocks, the paper's loss of two subjects, one gradient of the latent.

- ours: the pack's call inside its differentiable context; only the words' columns of the softmax are formed;
- low: the same with all blocks but the last computed again in backward;
- naive: ordinary frozen weights and plain autograd; every block forms its whole matrix of probabilities, as the
  authors' code does;
- step: no iteration but one ordinary pass of both conditionings in one batch, as ComfyUI runs it, to count in;
- capture, capture_naive: the maps of one block's queries and keys alone, 4096 image and 154 text tokens, 24 heads of
  64, and the gradient of both.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from functools import partial

from early_exit import highest_memory, in_worker, load_comfyui, small_weights

VARIANTS = {"sd3": ("ours", "low", "naive", "step"), "capture": ("capture", "capture_naive")}
SIGMA = 0.974


def model():
    import comfy.supported_models as known
    import torch

    config = known.SD3({
        "patch_size": 2, "in_channels": 16, "out_channels": 16, "depth": 24, "num_blocks": 4, "input_size": None,
        "adm_in_channels": 2048, "pos_embed_max_size": None, "num_patches": None, "pos_embed_scaling_factor": None,
        "context_embedder_config": {"target": "torch.nn.Linear",
                                    "params": {"in_features": 4096, "out_features": 1536}},
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    made = config.get_model({}, "", device="cpu")
    small_weights(made.diffusion_model)
    return made


def subjects():
    from gsn.subjects import Subject, Subjects, TextStream

    words = tuple(range(1, 10))
    streams = (TextStream("clip", 0, 77, words, (0,), ("x",) * 77), TextStream("t5", 77, 77, words, (), ("x",) * 77))
    items = tuple(Subject(str(p), {"clip": (p,), "t5": (p,)}) for p in (5, 8))
    return Subjects("bench", items, streams)


def inputs():
    import torch

    generator = torch.Generator().manual_seed(1)
    shapes = ((1, 16, 128, 128), (1, 154, 4096), (1, 2048))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def iterations(maps, z, count):
    """Seconds of each update of z by the gradient of the paper's loss of maps(z); and memory."""
    import torch

    from gsn.losses import PAPER
    from gsn.maps import AttentionMaps, MapProcessing

    seconds = []
    with highest_memory() as memory:
        for _ in range(count + 1):
            began = time.perf_counter()
            leaf = z.detach().clone().requires_grad_(True)
            attention = AttentionMaps(maps(leaf))
            loss = PAPER.evaluate(attention, subjects(), MapProcessing(columns="words")).total.sum()
            (gradient,) = torch.autograd.grad(loss, leaf)
            z = z - 1e-2 * gradient
            seconds.append(time.perf_counter() - began)
    return seconds[1:], memory


def ours(count, recompute=False):
    load_comfyui()
    import torch

    from gsn.host.capture import CaptureDone, Collector
    from gsn.host.differentiable import differentiable
    from gsn.host.families.sd3 import SD3
    from gsn.host.memory import pages
    from gsn.host.walk import walking

    network = model()
    layers = SD3.layers(network)
    z, text, pooled = inputs()
    columns = tuple(stream.offset + p for stream in subjects().streams for p in stream.words)
    walk = walking(SD3.blocks(network), layers[-1].key, recompute)
    with pages(z.device, keep=not recompute), differentiable(network, "bench"), walk as position:

        def maps(leaf):
            collector, options = Collector(layers, columns), {"transformer_options": {}}
            SD3.attach(options, collector.sink, position, 154)
            with suppress(CaptureDone):
                network.apply_model(leaf, torch.tensor([SIGMA]), c_crossattn=text, y=pooled, **options)
            return collector.maps().probabilities

        return iterations(maps, z, count)


def naive(count):
    load_comfyui()
    import torch

    network = model().requires_grad_(False)
    z, text, pooled = inputs()

    def maps(leaf):
        found = []

        def attend(function, q, k, v, heads, *args, **kwargs):
            # [B, N, heads, D] with normed queries, [B, N, heads D] without
            q, k, v = (one.reshape(*one.shape[:2], heads, -1).transpose(1, 2) for one in (q, k, v))
            whole = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            found.append(whole.mean(1)[:, 154:, :154].unflatten(1, (64, 64)))
            return (whole @ v).transpose(1, 2).flatten(2)

        options = {"transformer_options": {"optimized_attention_override": attend}}
        network.apply_model(leaf, torch.tensor([SIGMA]), c_crossattn=text, y=pooled, **options)
        return sum(found) / len(found)

    return iterations(maps, z, count)


def step(count):
    load_comfyui()
    import torch

    seconds = []
    with torch.inference_mode(), highest_memory() as memory:
        network = model()
        z, text, pooled = (torch.cat([one, one.flip(-1)]) for one in inputs())
        for _ in range(count + 1):
            began = time.perf_counter()
            network.apply_model(z, torch.tensor([SIGMA] * 2), c_crossattn=text, y=pooled, transformer_options={})
            seconds.append(time.perf_counter() - began)
    return seconds[1:], memory


def capture(count, naively=False):
    """Maps of the words' columns from one block's queries and keys; seconds and memory of both passes."""
    load_comfyui()
    import torch

    from gsn.host.capture import text_probabilities
    from gsn.host.families import TextAttention

    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn((1, 24, n, 64), generator=generator).requires_grad_(True) for n in (4096, 4250))
    columns = tuple(stream.offset + p for stream in subjects().streams for p in stream.words)
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
    parser.add_argument("variant", choices=[name for names in VARIANTS.values() for name in names])
    parser.add_argument("iterations", type=int)
    options = parser.parse_args()
    functions = {"ours": ours, "low": partial(ours, recompute=True), "naive": naive, "step": step,
                 "capture": capture, "capture_naive": partial(capture, naively=True)}  # fmt: skip
    seconds, (before, highest) = in_worker(functions[options.variant], options.iterations)
    print(json.dumps({"seconds": seconds, "memory": highest - before}))
