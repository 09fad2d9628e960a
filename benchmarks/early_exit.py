"""One refinement iteration at the shape of SD 1.5, 512 x 512: ours, and the same pass without early exit.

Work of every variant: the same weights' shapes (random values, fp32), one latent [1, 4, 64, 64], 77 tokens, one
forward to the attention maps at 16 x 16, the paper's loss of two subjects, one gradient of the latent.

- ours: through ComfyUI's sampler and the pack's path, which leaves the UNet after the last attention layer it reads;
- autograd: ComfyUI's UNet to its end by plain autograd, with PyTorch's attention;
- comfyui: the same, with the attention that ComfyUI itself takes on this device;
- diffusers: its `UNet2DConditionModel` with an attention processor that keeps the probabilities at 16 x 16, as the
  Attend-and-Excite pipelines do; weights take no gradient.

Every variant runs in a process of its own. Memory is what the process holds at its highest during the iterations,
less what it held before the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("ours", "autograd", "comfyui", "diffusers")
SUBJECT_COLUMNS = (5, 8)
SIGMA = 5.633


@contextmanager
def highest_memory():
    """Yields a list that will hold [bytes at entry, highest bytes meanwhile]."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss] * 2

    def watch():
        while not done.wait(0.005):
            seen[1] = max(seen[1], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def load_comfyui():
    """ComfyUI's library and this pack in one process; ComfyUI goes last on sys.path, behind our folder `nodes`."""
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p != str(ROOT)), os.environ["GSN_COMFYUI"]]
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True


def sd15():
    """ComfyUI's SD 1.5 with random weights, fp32."""
    import comfy.supported_models
    import torch

    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_heads": 8,
        "num_head_channels": -1, "num_res_blocks": [2, 2, 2, 2], "channel_mult": (1, 2, 4, 4),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "context_dim": 768,
        "use_spatial_transformer": True, "use_linear_in_transformer": False, "legacy": False,
        "use_temporal_attention": False, "adm_in_channels": None, "disable_self_attentions": None,
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    small_weights(model.diffusion_model)
    return model


def subjects():
    from gsn.subjects import Subject, Subjects, TextStream

    items = tuple(Subject(str(column), {"clip": (column,)}) for column in SUBJECT_COLUMNS)
    return Subjects("bench", items, (TextStream("clip", 0, 77, tuple(range(1, 10)), (0,), ("x",) * 77),))


def text_and_latent():
    """[1, 77, 768] and [1, 4, 64, 64]: the same for every variant."""
    import torch

    text = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(1))
    return text, torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(2))


def our_iterations(iterations: int) -> tuple[list[float], list[int]]:
    """Seconds of each iteration, and memory, of a refinement inside ComfyUI's sampler."""
    load_comfyui()
    import comfy.model_patcher
    import comfy.samplers
    import torch

    from gsn.host.run import with_plan
    from gsn.interventions import Refine
    from gsn.plan import Action, Plan
    from gsn.steps import Step
    from gsn.subjects import SUBJECTS_KEY
    from gsn.trace import TraceHandle

    memory: list[int] = []
    apply = Refine.apply

    def measured(*args):
        """Watches the memory while the refinement works: the sampler's plain passes are not its cost."""
        with highest_memory() as seen:
            result = apply(*args)
        memory.extend(seen)
        return result

    Refine.apply = measured
    with torch.inference_mode():
        model = sd15()
        patcher = comfy.model_patcher.CoreModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
        handle = TraceHandle()
        plan = Plan(actions=(Action("bench", Refine(iterations=iterations + 1), Step(0, "index")),), traces=(handle,))
        patched = with_plan(patcher, plan)
        text, latent = text_and_latent()
        positive = [[text, {SUBJECTS_KEY: subjects()}]]
        sampler = comfy.samplers.KSampler(patched, 1, patched.load_device, "euler", "normal", 1.0,
                                          patched.model_options)
        sigmas = torch.tensor([SIGMA, 0.0])
        sampler.sample(latent, positive, positive, 1.0, sigmas=sigmas, latent_image=torch.zeros_like(latent),
                       disable_pbar=True)
        at = [record.seconds for record in handle.trace.records]
    # The first iteration warms up; the last record is the evaluation without a gradient after the last update.
    return [b - a for a, b in zip(at[:-2], at[1:-1], strict=True)], memory


def comfyui_iterations(iterations: int, pytorch_attention: bool) -> tuple[list[float], list[int]]:
    """The same work as somebody would write it first: no early exit, ordinary weights, autograd keeps what it likes."""
    load_comfyui()
    import torch
    from comfy.ldm.modules.attention import attention_pytorch

    from gsn.host.capture import Collector, choose_layers
    from gsn.host.families.unet import UNET
    from gsn.plan import CaptureSpec
    from gsn.presets import MODEL_PRESETS

    model = sd15()
    layers = choose_layers(UNET, model, CaptureSpec(), MODEL_PRESETS["sd1"])
    text, z = text_and_latent()

    def maps(leaf):
        collector, options = Collector(layers), {}
        collector.last = None
        UNET.attach(options, collector.sink)
        if pytorch_attention:
            chosen = {"optimized_attention_override": lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)}
            options["transformer_options"] |= chosen
        model.apply_model(leaf * SIGMA, torch.tensor([SIGMA]), c_crossattn=text, **options)
        return collector.maps()

    return plain_updates(maps, z, iterations)


def plain_updates(maps, z, iterations: int) -> tuple[list[float], list[int]]:
    """Seconds of each update of z by the gradient of the paper's loss of maps(z); and memory."""
    import torch

    from gsn.losses import PAPER
    from gsn.maps import MapProcessing

    seconds = []
    with highest_memory() as memory:
        for _ in range(iterations + 1):
            began = time.perf_counter()
            leaf = z.detach().requires_grad_(True)
            processing = MapProcessing(columns="padded", stream="average")
            (gradient,) = torch.autograd.grad(PAPER.evaluate(maps(leaf), subjects(), processing).total.sum(), leaf)
            z = z - 1e-2 * gradient
            seconds.append(time.perf_counter() - began)
    return seconds[1:], memory


def diffusers_iterations(iterations: int) -> tuple[list[float], list[int]]:
    """The same work by diffusers' UNet and plain autograd."""
    sys.path.insert(0, str(ROOT))
    import torch
    from diffusers import UNet2DConditionModel

    from gsn.maps import AttentionMaps

    found = []

    class Keep:
        """softmax attention that keeps what it is asked for, as diffusers' AttnProcessor does."""

        def __init__(self, cross: bool):
            self.cross = cross

        def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
            text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            query, key, value = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
            query, key, value = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (query, key, value))
            if self.cross and query.shape[2] == 256:
                weights = (query @ key.transpose(-1, -2) * attn.scale).softmax(-1)
                found.append(weights.mean(1))
                out = weights @ value
            else:
                out = torch.nn.functional.scaled_dot_product_attention(query, key, value)
            return attn.to_out[0](out.transpose(1, 2).flatten(2))

    unet = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8
    ).requires_grad_(False).eval()  # fmt: skip
    unet.set_attn_processor({name: Keep("attn2" in name) for name in unet.attn_processors})
    text, z = text_and_latent()

    def maps(leaf):
        found.clear()
        unet(leaf, 821, text)
        return AttentionMaps(torch.stack(found).mean(0).unflatten(1, (16, 16)))

    return plain_updates(maps, z, iterations)


def small_weights(module) -> None:
    """Random values that keep activations near unit size; norms stay as they are built."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        if p.ndim > 1:
            p.data.normal_(generator=generator).mul_(p[0].numel() ** -0.5)
        else:
            p.data.zero_()
    for one in module.modules():
        if isinstance(one, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            one.weight.data.fill_(1)


def run_variant(name: str, iterations: int) -> dict:
    run = {
        "ours": our_iterations,
        "autograd": partial(comfyui_iterations, pytorch_attention=True),
        "comfyui": partial(comfyui_iterations, pytorch_attention=False),
        "diffusers": diffusers_iterations,
    }[name]
    seconds, (before, highest) = run(iterations)
    return {"seconds": seconds, "memory": highest - before}


def summary(found: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    """Each variant's medians over all rounds."""
    return {
        name: {"seconds": statistics.median(s for one in runs for s in one["seconds"]),
               "extra_mb": statistics.median(one["memory"] for one in runs) / 1e6}
        for name, runs in found.items()
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("iterations", type=int)
    options = parser.parse_args()
    print(json.dumps(run_variant(options.variant, options.iterations)))
