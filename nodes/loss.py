"""GSNLoss: which loss, how strong, added to which other."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.errors import named
from ..gsn.losses import LOSSES
from ..gsn.losses.loss import Loss as LossEntry
from ..gsn.losses.objective import PAPER, Term, objective
from .sockets import CATEGORY, Loss

_INPUTS = {bool: io.Boolean.Input, int: io.Int.Input, float: io.Float.Input}


def _option(name: str, loss: LossEntry):
    """A loss in the menu, which opens its settings."""
    inputs = [
        _INPUTS[type(usual)](key, default=usual, optional=True, tooltip=loss.explains[key])
        for key, usual in loss.settings().items()
    ]
    return io.DynamicCombo.Option(name, inputs)


def _summaries() -> list[str]:
    return [f"{name}: {one.summary}" for name, one in LOSSES.items()]


class GSNLoss(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNLoss",
            display_name="GSN Loss",
            category=CATEGORY,
            description="What the attention maps of the subjects should look like. Chain several to add them up.",
            search_aliases=[
                "attend and excite",
                "attention loss",
                "iou",
                "initno",
                "a-star",
                "focus",
                "conform",
                "self-cross",
            ],  # fmt: skip
            inputs=[
                io.DynamicCombo.Input(
                    "method",
                    options=[io.DynamicCombo.Option("paper", []), *(_option(*one) for one in LOSSES.items())],
                    tooltip="; ".join(["paper: the mean of attend_excite and iou", *_summaries()]) + ".",
                ),
                io.Float.Input(
                    "weight", default=1.0, min=-1000.0, max=1000.0, step=0.05, tooltip="Factor on this loss."
                ),
                Loss.Input("add_to", optional=True, tooltip="Another loss to add this one to."),
            ],
            outputs=[Loss.Output(display_name="loss")],
        )

    @classmethod
    @override
    def execute(cls, method, weight, add_to=None) -> io.NodeOutput:
        # settings that a prompt does not name come as None
        name = method["method"]
        settings = tuple((key, value) for key, value in method.items() if key != "method" and value is not None)
        own = (PAPER if name == "paper" else objective(Term(name, settings=settings))).scaled(weight)
        named("GSNLoss", own.check_terms)
        return io.NodeOutput(own if add_to is None else add_to + own)


NODES = [GSNLoss]
