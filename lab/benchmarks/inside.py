"""What the pack costs a running ComfyUI: a whole run with it, one beside it, and loading it.

All variants are ComfyUI 0.30.0 in a process of their own, with its own attention and its own KSampler. The model is
SD 1.5's UNet at half its width (random weights, fp32), 512 x 512, 50 steps of ddpm at CFG 7.5.

- paper: the pack's method: 50 iterations at one step;
- plain: the pack is not loaded;
- unused, plain_short: ten steps, with the pack loaded and not used, and without it;
- import: ComfyUI, with its own nodes loaded as its start does, loads the pack; import_peer: it loads one of its own
  node files again, comfy_extras/nodes_tcfg.py, the smallest that patches a model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from early_exit import ROOT, SUBJECT_COLUMNS, highest_memory, in_worker, layout, small_weights, text_and_latent

VARIANTS = {"whole": ("paper", "plain"), "unused": ("unused", "plain_short"), "import": ("import", "import_peer")}
WIDTH = 160  # SD 1.5 has 320
STEPS = {"paper": 50, "plain": 50, "unused": 10, "plain_short": 10}


def load_comfyui():
    """ComfyUI's own modules, as its server has them when it loads custom nodes."""
    sys.path.insert(0, os.environ["GSN_COMFYUI"])
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import utils.extra_config  # noqa: F401  (before `nodes`, which hides this package)

    import nodes

    return nodes


def load(nodes, path: Path) -> float:
    """Seconds that ComfyUI takes to load a node file or folder."""
    began = time.perf_counter()
    if not asyncio.run(nodes.load_custom_node(str(path))):
        raise SystemExit(f"ComfyUI could not load {path}")
    return time.perf_counter() - began


def model(width: int):
    import comfy.model_patcher
    import comfy.supported_models as known
    import torch

    config = known.SD15(layout("sd15") | {"model_channels": width})
    config.set_inference_dtype(torch.float32, None)
    made = config.get_model({}, "", device="cpu")
    small_weights(made.diffusion_model)
    return comfy.model_patcher.CoreModelPatcher(made, torch.device("cpu"), torch.device("cpu"))


def whole_run(variant: str, count: int) -> list[float]:
    """Seconds of each of `count` runs."""
    import torch

    nodes = load_comfyui()
    if not variant.startswith("plain"):
        load(nodes, ROOT)
    text, latent = text_and_latent("sd15")
    positive, negative = [[text, {}]], [[torch.zeros_like(text), {}]]
    run = nodes.common_ksampler
    if variant == "paper":
        pack = sys.modules[str(ROOT).replace(".", "_x_")]
        package = sys.modules[f"{pack.__name__}.gsn.text.subjects"]
        items = tuple(package.Subject(str(c), {"clip": (c,)}) for c in SUBJECT_COLUMNS)
        stream = package.TextStream("clip", 0, 77, tuple(range(1, 10)), (0,), ("x",) * 77)
        positive[0][1][package.SUBJECTS_KEY] = package.Subjects("bench", items, (stream,))
        presets = sys.modules[f"{pack.__name__}.gsn.methods.presets"]
        plan, _ = presets.plan_of("bench", "paper", presets.PRESETS["paper"])

        def run(patcher, *settings, **more):
            return sys.modules[f"{pack.__name__}.gsn.host.sampling.ksampler"].sample(patcher, *settings, 1.0, plan=plan)

    seconds = []
    with torch.inference_mode():
        patcher = model(WIDTH)
        for seed in range(count):
            began = time.perf_counter()
            run(patcher, seed, STEPS[variant], 7.5, "ddpm", "ddim_uniform", positive, negative, {"samples": latent * 0})
            seconds.append(time.perf_counter() - began)
    return seconds


def measure(variant: str, count: int) -> list[float]:
    if not variant.startswith("import"):
        return whole_run(variant, count)
    nodes = load_comfyui()
    import server  # noqa: F401  (what ComfyUI's own start has loaded before any custom node)

    asyncio.run(nodes.init_builtin_extra_nodes())
    path = ROOT if variant == "import" else Path(os.environ["GSN_COMFYUI"]) / "comfy_extras" / "nodes_tcfg.py"
    return [load(nodes, path)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=sorted({name for names in VARIANTS.values() for name in names}))
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    with highest_memory() as memory:
        found = in_worker(measure, options.variant, options.count)
    print(json.dumps({"seconds": found, "memory": memory[1] - memory[0]}))
