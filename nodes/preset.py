"""GSNPreset: every method under its own name, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from ..gsn.host.files import input_state
from ..gsn.host.preset_files import chosen_preset, described
from ..gsn.host.sampling.attach import with_plan
from ..gsn.methods.preset_file import to_json
from ..gsn.methods.presets import plan_of
from .inputs import USES, model_input, preset_file_input, preset_input
from .sockets import CATEGORY, patch_outputs


class GSNPreset(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNPreset",
            display_name="GSN Preset",
            category=CATEGORY,
            description="A whole method with its own numbers, and what it will do, in words. Put it between the"
            " model and any sampler.",
            search_aliases=["method", "attend and excite", "syngen", "initno", "divide and bind", "saga", "boxdiff"],
            is_output_node=True,
            inputs=[
                model_input(),
                preset_input(USES),
                preset_file_input(
                    "file",
                    ": a JSON file in ComfyUI's input folder, such as presets/mine.json. Start from the json output of"
                    " this node. Empty: the preset chosen above.",
                ),
            ],
            outputs=[
                *patch_outputs(),
                io.String.Output(display_name="what it does", tooltip="The preset in words."),
                io.String.Output(display_name="json", tooltip="The preset as data: save, edit, and name it in 'file'."),
            ],
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, preset, file="", **inputs):
        return preset, file, input_state(file)

    @classmethod
    @override
    def execute(cls, model, preset, file="") -> io.NodeOutput:
        name, chosen = chosen_preset("GSNPreset", preset, file)
        said = described("GSNPreset", model, name, chosen)
        plan, handle = plan_of("GSNPreset", name, chosen)
        return io.NodeOutput(with_plan(model, plan), handle, said, to_json(chosen), ui=ui.PreviewText(said))


NODES = [GSNPreset]
