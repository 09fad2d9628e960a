"""AttentionCapture: which attention is read, and a look at it during ordinary sampling."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.attention.block_ranges import parse_blocks
from ..gsn.attention.maps import COLUMNS, MOST_BLUR, MOST_CONTRAST, MapChoice
from ..gsn.host.errors import GsnError
from ..gsn.host.sampling.attach import with_plan
from ..gsn.interventions.observe import Observe
from ..gsn.methods.plan import Action, CaptureSpec, Plan
from ..gsn.methods.steps import parse_steps
from ..gsn.trace import TraceHandle
from .inputs import FOLDED, model_input, step_list_input
from .sockets import CATEGORY, patch_outputs

_AUTO = -1.0
_RATIOS = {"auto": None, "1": 1.0, "1/2": 1 / 2, "1/4": 1 / 4, "1/8": 1 / 8}


class AttentionCapture(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="AttentionCapture",
            display_name="Attention Capture",
            category=CATEGORY,
            description="Chooses which attention maps the nodes after and before it on this model read. With steps to"
            " record it also shows the maps of ordinary sampling, without changing the picture.",
            search_aliases=["attention maps", "heatmap", "daam"],
            inputs=[
                model_input(),
                io.String.Input(
                    "blocks",
                    default="auto",
                    tooltip="auto, or blocks such as: in7-8, mid, out3-5. Later blocks cost more time.",
                ),
                io.Combo.Input(
                    "resolution",
                    options=list(_RATIOS),
                    default="auto",
                    tooltip="Size of the maps relative to the latent. auto: what suits the model, or any size in"
                    " the blocks you named.",
                ),
                io.Combo.Input(
                    "columns",
                    options=list(COLUMNS),
                    default="auto",
                    tooltip="Text columns that compete in the second softmax: padded keeps end and padding tokens"
                    " (SD 1.x), words keeps words only (SD 2.x and later). auto: as the preset or the model has it.",
                    **FOLDED,
                ),
                step_list_input("record_steps", "Steps whose maps to keep for GSNHeatmaps", empty="none"),
                io.Combo.Input(
                    "memory",
                    options=["auto", "fast", "low"],
                    default="auto",
                    tooltip="low computes parts of the model twice to need less memory, with the same result; fast"
                    " never does; auto does where free memory asks for it.",
                    **FOLDED,
                ),
                io.Combo.Input(
                    "encoder",
                    options=["average", "clip", "t5"],
                    default="average",
                    tooltip="Whose words to read where a prompt is encoded by several (SD 3): each subject's average"
                    " over them, or one.",
                    **FOLDED,
                ),
                io.Float.Input(
                    "contrast",
                    default=_AUTO,
                    min=_AUTO,
                    max=MOST_CONTRAST,
                    step=1.0,
                    tooltip="Factor on the attention before the second softmax: higher sets words apart more. The"
                    " papers: 100. -1: as the preset has it, or 100.",
                    **FOLDED,
                ),
                io.Float.Input(
                    "blur",
                    default=_AUTO,
                    min=_AUTO,
                    max=MOST_BLUR,
                    step=0.05,
                    tooltip="Sigma of the 3 x 3 blur of the maps, as Attend-and-Excite counts it. The papers: 0.5."
                    " 0: no blur. -1: as the preset has it, or 0.5.",
                    **FOLDED,
                ),
            ],
            outputs=patch_outputs(),
        )

    @classmethod
    @override
    def execute(
        cls,
        model,
        blocks,
        resolution,
        record_steps,
        columns="auto",
        memory="auto",
        encoder="average",
        contrast=_AUTO,
        blur=_AUTO,
    ) -> io.NodeOutput:
        maps = MapChoice(columns, *(None if one == _AUTO else one for one in (contrast, blur)))
        try:
            maps.check()
            spec = CaptureSpec(parse_blocks(blocks), _RATIOS[resolution], encoder, memory, maps)
            steps = parse_steps(record_steps)
        except ValueError as error:
            raise GsnError(f"AttentionCapture: {error}") from None
        actions = tuple(Action("AttentionCapture", Observe(), step) for step in steps)
        handle = TraceHandle()
        return io.NodeOutput(with_plan(model, Plan(spec, actions, (handle,))), handle)


NODES = [AttentionCapture]
