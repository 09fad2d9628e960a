"""One refinement iteration of a UNet at 512 x 512: ours, and the same work by others.

Work of every variant: the same weights' shapes (random values, fp32), one latent [1, 4, 64, 64], 77 tokens, one
forward to the attention maps at 16 x 16, a loss of two subjects, one gradient of the latent.

- ours: through ComfyUI's sampler and the pack's path, which leaves the UNet after the last attention layer it reads;
- low: the same with blocks recomputed;
- all: ours, reading every layer at 16 x 16; SDXL's default are those of the encoder half;
- limit: ComfyUI's UNet left at the same layer, ordinary frozen weights, PyTorch's attention, nothing else;
- autograd: ComfyUI's UNet to its end by plain autograd, with PyTorch's attention;
- comfyui: the same, with the attention that ComfyUI itself takes on this device;
- pipeline: an iteration of diffusers' StableDiffusionAttendAndExcitePipeline by its own methods: its attention
  processors, its loss, its gradient; for SDXL, which it does not know, the same methods on diffusers' SDXL UNet;
- step: no iteration but one ordinary step of ComfyUI's euler, both conditionings in one batch, with PyTorch's attention
  as on a GPU, to count in.

Every variant runs in a process of its own. Memory is what the process holds at its highest during the iterations,
less what it held before the first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = {
    "sd15": ("ours", "low", "limit", "autograd", "comfyui", "pipeline", "step"),
    "sdxl": ("ours", "low", "all", "pipeline", "step"),
}
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


def load_comfyui(pytorch_attention: bool = False):
    """ComfyUI's library and this pack in one process; ComfyUI goes last on sys.path, behind our folder `nodes`.

    pytorch_attention: what ComfyUI takes by itself on a GPU, and not on a processor.
    """
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p != str(ROOT)), os.environ["GSN_COMFYUI"]]
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    args.use_pytorch_cross_attention = pytorch_attention


_LAYOUT = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "legacy": False,
    "use_spatial_transformer": True, "use_temporal_attention": False, "disable_self_attentions": None,
}  # fmt: skip
_SD15 = _LAYOUT | {
    "num_heads": 8, "num_head_channels": -1, "num_res_blocks": [2, 2, 2, 2], "channel_mult": (1, 2, 4, 4),
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "context_dim": 768,
    "use_linear_in_transformer": False, "adm_in_channels": None,
}  # fmt: skip
_SDXL = _LAYOUT | {
    "num_heads": -1, "num_head_channels": 64, "num_res_blocks": [2, 2, 2], "channel_mult": (1, 2, 4),
    "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "context_dim": 2048,
    "use_linear_in_transformer": True, "num_classes": "sequential", "adm_in_channels": 2816,
}  # fmt: skip
_TEXT_WIDTH = {"sd15": 768, "sdxl": 2048}
_PRESET = {"sd15": "sd1", "sdxl": "sdxl"}


def layout(shape: str) -> dict:
    """The UNet's configuration as ComfyUI's detection would give it."""
    return dict(_SD15 if shape == "sd15" else _SDXL)


def network(shape: str):
    """ComfyUI's SD 1.5 or SDXL with random weights, fp32."""
    import comfy.supported_models as known
    import torch

    config = (known.SD15 if shape == "sd15" else known.SDXL)(layout(shape))
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    small_weights(model.diffusion_model)
    return model


def subjects():
    from gsn.text.subjects import Subject, Subjects, TextStream

    items = tuple(Subject(str(column), {"clip": (column,)}) for column in SUBJECT_COLUMNS)
    return Subjects("bench", items, (TextStream("clip", 0, 77, tuple(range(1, 10)), (0,), ("x",) * 77),))


def text_and_latent(shape: str):
    """[1, 77, width] and [1, 4, 64, 64]: the same for every variant."""
    import torch

    text = torch.randn(1, 77, _TEXT_WIDTH[shape], generator=torch.Generator().manual_seed(1))
    return text, torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(2))


def loaded(shape: str):
    """The network as a loader returns it."""
    import comfy.model_patcher
    import torch

    return comfy.model_patcher.CoreModelPatcher(network(shape), torch.device("cpu"), torch.device("cpu"))


def conditioning(shape: str, text, more: dict) -> list:
    import torch

    return [[text, more | ({"pooled_output": torch.zeros(1, 1280)} if shape == "sdxl" else {})]]


def sample(patcher, latent, sigmas: list[float], both: list, cfg: float, callback=None) -> None:
    import comfy.samplers
    import torch

    sampler = comfy.samplers.KSampler(patcher, 1, patcher.load_device, "euler", "normal", 1.0, patcher.model_options)
    sampler.sample(latent, *both, cfg, sigmas=torch.tensor(sigmas), latent_image=torch.zeros_like(latent),
                   callback=callback, disable_pbar=True)  # fmt: skip


def sampling_steps(shape: str, iterations: int) -> tuple[list[float], list[int]]:
    """Seconds of each ordinary step between two others, and memory."""
    load_comfyui(pytorch_attention=True)
    import torch

    at: list[float] = []
    with torch.inference_mode():
        patcher = loaded(shape)
        text, latent = text_and_latent(shape)
        both = [conditioning(shape, one, {}) for one in (text, text.flip(1))]
        sigmas = torch.linspace(SIGMA, 0.0, iterations + 2).tolist()
        with highest_memory() as memory:
            sample(patcher, latent, sigmas, both, 7.5, lambda *_: at.append(time.perf_counter()))
    return [b - a for a, b in zip(at[:-1], at[1:], strict=True)], memory


def our_iterations(shape: str, iterations: int, memory: str, blocks: str = "auto") -> tuple[list[float], list[int]]:
    """Seconds of each iteration, and memory, of a refinement inside ComfyUI's sampler."""
    load_comfyui()
    import torch

    from gsn.attention.block_ranges import parse_blocks
    from gsn.host.sampling.attach import with_plan
    from gsn.interventions.refine import Refine
    from gsn.methods.plan import Action, CaptureSpec, Plan
    from gsn.methods.steps import Step
    from gsn.text.subjects import SUBJECTS_KEY
    from gsn.trace import TraceHandle

    held: list[int] = []
    apply = Refine.apply

    def measured(*args):
        """Watches the memory while the refinement works: the sampler's plain passes are not its cost."""
        with highest_memory() as seen:
            result = apply(*args)
        held.extend(seen)
        return result

    Refine.apply = measured
    with torch.inference_mode():
        patcher = loaded(shape)
        handle = TraceHandle()
        capture = CaptureSpec(parse_blocks(blocks), None if blocks == "auto" else 1 / 4, memory=memory)
        action = Action("bench", Refine(iterations=iterations + 1), Step(0, "index"))
        patched = with_plan(patcher, Plan(capture, (action,), (handle,)))
        text, latent = text_and_latent(shape)
        sample(patched, latent, [SIGMA, 0.0], [conditioning(shape, text, {SUBJECTS_KEY: subjects()})] * 2, cfg=1.0)
        at = [record.seconds for record in handle.trace.records]
    # The first iteration warms up; the last record is the evaluation without a gradient after the last update.
    return [b - a for a, b in zip(at[:-2], at[1:-1], strict=True)], held


def comfyui_iterations(shape: str, iterations: int, pytorch_attention: bool, leave: bool):
    """The same work as somebody would write it first: ordinary frozen weights, autograd keeps what it likes."""
    load_comfyui()
    import torch
    from comfy.ldm.modules.attention import attention_pytorch

    from gsn.host.attention.capture import Collector
    from gsn.host.attention.early_exit import CaptureDone
    from gsn.host.attention.layers import choose_layers
    from gsn.host.families import Position
    from gsn.host.families.unet import UNET
    from gsn.methods.model_presets import MODEL_PRESETS
    from gsn.methods.plan import CaptureSpec

    model = network(shape).requires_grad_(False)
    layers = choose_layers(UNET, model, CaptureSpec(), MODEL_PRESETS[_PRESET[shape]])
    text, z = text_and_latent(shape)

    def maps(leaf):
        collector, options = Collector(layers), {}
        collector.last = collector.last if leave else None
        UNET.attach(options, collector.sink, Position(), 77)
        if pytorch_attention:
            chosen = {"optimized_attention_override": lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)}
            options["transformer_options"] |= chosen
        with suppress(CaptureDone):
            model.apply_model(leaf * SIGMA, torch.tensor([SIGMA]), c_crossattn=text, **options)
        return collector.maps()

    return plain_updates(maps, z, iterations)


def plain_updates(maps, z, iterations: int) -> tuple[list[float], list[int]]:
    """Seconds of each update of z by the gradient of the paper's loss of maps(z); and memory."""
    import torch

    from gsn.attention.maps import MapProcessing
    from gsn.losses.objective import PAPER

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


def pipeline_iterations(shape: str, iterations: int) -> tuple[list[float], list[int]]:
    """diffusers' Attend-and-Excite by its own methods, on a UNet of the same shape."""
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.pipelines.deprecated.stable_diffusion_attend_and_excite import (
        pipeline_stable_diffusion_attend_and_excite as reference,
    )

    if shape == "sd15":
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, block_out_channels=(320, 640, 1280, 1280), attention_head_dim=8
        )  # fmt: skip
        extra = {}
    else:
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=2048, block_out_channels=(320, 640, 1280),
            attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time", addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )  # fmt: skip
        condition = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.tensor([[512, 512, 0, 0, 512, 512]])}
        extra = {"added_cond_kwargs": condition}
    pipeline = object.__new__(reference.StableDiffusionAttendAndExcitePipeline)
    pipeline.__dict__["unet"] = unet.requires_grad_(False).eval()
    pipeline.__dict__["attention_store"] = reference.AttentionStore((16, 16))
    pipeline.register_attention_control()
    text, z = text_and_latent(shape)
    seconds = []
    with highest_memory() as memory:
        for _ in range(iterations + 1):
            began = time.perf_counter()
            z = z.detach().requires_grad_(True)
            unet(z, 821, encoder_hidden_states=text, **extra)
            largest = pipeline._aggregate_and_get_max_attention_per_token(list(SUBJECT_COLUMNS))
            z = pipeline._update_latent(z, pipeline._compute_loss(largest), 20.0)
            seconds.append(time.perf_counter() - began)
    return seconds[1:], memory


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
        if isinstance(one, (torch.nn.GroupNorm, torch.nn.LayerNorm)) and one.weight is not None:
            one.weight.data.fill_(1)


def run_variant(shape: str, name: str, iterations: int) -> dict:
    run = {
        "ours": partial(our_iterations, memory="fast"),
        "low": partial(our_iterations, memory="low"),
        "all": partial(our_iterations, memory="fast", blocks="in, mid, out"),
        "limit": partial(comfyui_iterations, pytorch_attention=True, leave=True),
        "autograd": partial(comfyui_iterations, pytorch_attention=True, leave=False),
        "comfyui": partial(comfyui_iterations, pytorch_attention=False, leave=False),
        "pipeline": pipeline_iterations,
        "step": sampling_steps,
    }[name]
    seconds, (before, highest) = in_worker(run, shape, iterations)
    return {"seconds": seconds, "memory": highest - before}


def in_worker(function, *args):
    """The function's result from a thread of its own: ComfyUI runs prompts in one, where memory is dearer."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=VARIANTS)
    parser.add_argument("variant")
    parser.add_argument("iterations", type=int)
    options = parser.parse_args()
    print(json.dumps(run_variant(options.shape, options.variant, options.iterations)))
