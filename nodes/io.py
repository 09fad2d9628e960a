"""Socket types and inputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ..gsn.steps import UNITS

CATEGORY = "gsn-nodes"
Loss = io.Custom("GSN_LOSS")
Trace = io.Custom("GSN_TRACE")

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
