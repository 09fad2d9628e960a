"""Inputs that several nodes share, each made once: what differs between two nodes is an argument."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..gsn.host.sampling.ksampler import SAMPLERS, SCHEDULERS
from ..gsn.methods.presets import PRESETS
from ..gsn.methods.steps import UNITS
from .sockets import Case, Loss, Trace

FOLDED: dict[str, Any] = {"advanced": True, "optional": True}  # below "show advanced inputs", and left out of a prompt

# ---- of every patch --------------------------------------------------------------------------------------


def model_input():
    return io.Model.Input(
        "model", tooltip="The model to patch; other patches, LoRAs and our nodes may come before or after."
    )


def loss_input():
    return Loss.Input(
        "loss", optional=True, tooltip="What to optimise, from GSNLoss. Not connected: the method's own loss."
    )


def iterations_input(tooltip: str, name: str = "iterations", default: int = 50):
    return io.Int.Input(name, default=default, min=0, max=1000, tooltip=tooltip)


def lr_input(tooltip: str, most: float = 10.0, **more: Any):
    """The rate of an optimiser that bounds each step."""
    return io.Float.Input("lr", default=0.01, min=0.0, max=most, step=0.001, round=False, tooltip=tooltip, **more)


def step_size_input(tooltip: str, name: str = "step_size", **more: Any):
    """The rate of a plain gradient."""
    return io.Float.Input(name, default=20.0, min=0.0, max=10000.0, step=0.5, tooltip=tooltip, **more)


# ---- steps -----------------------------------------------------------------------------------------------

_STEP = (
    "Which sampling step, in the unit beside it. Index counts from 0; percent is of the noise schedule; sigma is the"
    " noise level and means the same under every scheduler and step count. Ignored when the unit is auto."
)


def step_inputs(default: float = 8.0) -> list:
    """A step and its unit. `auto` takes the noise level that suits the loaded model."""
    return [_step_input("step", default, ""), _unit_input()]


def range_inputs(first: str, last: str, **more: Any) -> list:
    """The first and the last step of a range, and their unit. first, last: what their tooltips open with."""
    return [
        _step_input("first_step", 0.0, first, **more),
        _step_input("last_step", 24.0, last, **more),
        _unit_input(**more),
    ]


def step_list_input(name: str, what: str, empty: str):
    return io.String.Input(name, default="", tooltip=f"{what}, for example: 0, 10, 50%. Empty: {empty}.")


def _step_input(name: str, default: float, opening: str, **more: Any):
    limits: dict[str, Any] = {"min": -1e6, "max": 1e6, "step": 0.01, "round": False}
    return io.Float.Input(name, default=default, tooltip=opening + _STEP, **limits, **more)


def _unit_input(**more: Any):
    told = "auto: the noise level recommended for this kind of model, whatever the scheduler and step count."
    return io.Combo.Input("step_unit", options=list(UNITS), default="auto", tooltip=told, **more)


# ---- presets ---------------------------------------------------------------------------------------------

USES = "\n".join(f"{name}: {preset.use}" for name, preset in PRESETS.items())


def preset_input(tooltip: str, name: str = "preset", default: str | None = None):
    return io.Combo.Input(name, options=list(PRESETS), default=default, tooltip=tooltip)


def preset_file_input(name: str, what: str):
    return io.String.Input(name, default="", tooltip=f"A preset of your own{what}", **FOLDED)


# ---- a run, as KSampler has it ---------------------------------------------------------------------------

_LIKE_KSAMPLER = {
    "model": "The model to sample with.",
    "seed": "The random seed of the noise.",
    "steps": "Sampling steps.",
    "cfg": "Classifier-free guidance scale.",
    "sampler_name": "Any of ComfyUI's samplers.",
    "scheduler": "Any of ComfyUI's schedulers.",
    "positive": "From GSNSubjects.",
    "negative": "What to avoid; a plain CLIPTextEncode is right here.",
    "latent_image": "The latent to start from.",
}


def ksampler_inputs(steps: int, sampler: str, scheduler: str, /, **said: str) -> list:
    """KSampler's inputs from model to latent_image, in its order; denoise is `denoise_input`. said: tooltips that are
    not the usual ones."""
    told = _LIKE_KSAMPLER | said
    return [
        io.Model.Input("model", tooltip=told["model"]),
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip=told["seed"]
        ),
        steps_input(steps, told["steps"]),
        io.Float.Input("cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=told["cfg"]),
        io.Combo.Input("sampler_name", options=SAMPLERS, default=sampler, tooltip=told["sampler_name"]),
        scheduler_input(scheduler, told["scheduler"]),
        io.Conditioning.Input("positive", tooltip=told["positive"]),
        io.Conditioning.Input("negative", tooltip=told["negative"]),
        io.Latent.Input("latent_image", tooltip=told["latent_image"]),
    ]


def steps_input(default: int, tooltip: str, **more: Any):
    return io.Int.Input("steps", default=default, min=1, max=10000, tooltip=tooltip, **more)


def scheduler_input(default: str, tooltip: str, **more: Any):
    return io.Combo.Input("scheduler", options=SCHEDULERS, default=default, tooltip=tooltip, **more)


def denoise_input(tooltip: str = "1 = from pure noise.", **more: Any):
    return io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=tooltip, **more)


# ---- what a run left -------------------------------------------------------------------------------------


def trace_input():
    return Trace.Input("trace", tooltip="From any GSN node with a trace output.")


def decoded_picture_input(name: str, use: str):
    """Optional; its wire makes the node run after the sampler."""
    return io.Image.Input(name, optional=True, tooltip=f"The decoded picture of the same run{use}")


def prompt_input(tooltip: str):
    return io.String.Input("prompt", multiline=True, default="", tooltip=tooltip)


def case_input(tooltip: str):
    return Case.Input("case", optional=True, tooltip=tooltip)
