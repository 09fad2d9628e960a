"""Socket types and inputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ..gsn.host.sampling.ksampler import SAMPLERS, SCHEDULERS
from ..gsn.methods.presets import PRESETS
from ..gsn.methods.steps import UNITS

USES = "\n".join(f"{name}: {preset.use}" for name, preset in PRESETS.items())
CATEGORY = "gsn-nodes"
Loss = io.Custom("GSN_LOSS")
Trace = io.Custom("GSN_TRACE")
Case = io.Custom("GSN_PROMPT")

STEP_TOOLTIP = (
    "Which sampling step, in the unit beside it. Index counts from 0; percent is of the noise schedule; sigma is the"
    " noise level and means the same under every scheduler and step count. Ignored when the unit is auto."
)


def step_inputs(name: str = "step", default: float = 8.0) -> list:
    """A number and its unit. `auto` takes the noise level that suits the loaded model."""
    return [
        io.Float.Input(name, default=default, min=-1e6, max=1e6, step=0.01, round=False, tooltip=STEP_TOOLTIP),
        unit_input(f"{name}_unit"),
    ]


def unit_input(name: str):
    return io.Combo.Input(
        name,
        options=list(UNITS),
        default="auto",
        tooltip="auto: the noise level recommended for this kind of model, whatever the scheduler and step count.",
    )


def loss_input():
    return Loss.Input(
        "loss", optional=True, tooltip="What to optimise, from GSNLoss. Not connected: the method's own loss."
    )


def trace_output():
    return Trace.Output(display_name="trace", tooltip="What happened; connect GSNHeatmaps or GSNLossCurve.")


def model_input():
    return io.Model.Input(
        "model", tooltip="The model to patch; other patches, LoRAs and our nodes may come before or after."
    )


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
        io.Int.Input("steps", default=steps, min=1, max=10000, tooltip=told["steps"]),
        io.Float.Input("cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=told["cfg"]),
        io.Combo.Input("sampler_name", options=SAMPLERS, default=sampler, tooltip=told["sampler_name"]),
        io.Combo.Input("scheduler", options=SCHEDULERS, default=scheduler, tooltip=told["scheduler"]),
        io.Conditioning.Input("positive", tooltip=told["positive"]),
        io.Conditioning.Input("negative", tooltip=told["negative"]),
        io.Latent.Input("latent_image", tooltip=told["latent_image"]),
    ]


def denoise_input(tooltip: str = "1 = from pure noise.", **more):
    return io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=tooltip, **more)
