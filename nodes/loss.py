"""GSNLoss: which loss, how strong, added to which other."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.losses import LOSSES, PAPER, objective
from ..gsn.plan import GsnError
from .io import CATEGORY, Loss


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
                "attend and excite", "attention loss", "iou", "initno", "a-star", "focus", "conform", "self-cross",
            ],  # fmt: skip
            inputs=[
                io.Combo.Input(
                    "method",
                    options=["paper", *LOSSES],
                    default="paper",
                    tooltip="; ".join(
                        [
                            "paper: the mean of attend_excite and iou",
                            *(f"{n}: {one.summary}" for n, one in LOSSES.items()),
                        ]
                    )
                    + ".",
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
        own = (PAPER if method == "paper" else objective(method)).scaled(weight)
        try:
            own.check_terms()
        except ValueError as error:
            raise GsnError(f"GSNLoss: {error}") from None
        return io.NodeOutput(own if add_to is None else add_to + own)


NODES = [GSNLoss]
