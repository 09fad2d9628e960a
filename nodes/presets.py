"""GSNPreset: every method under its own name, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from ..gsn.host.preset_files import chosen_preset, file_state, model_preset
from ..gsn.host.run import with_plan
from ..gsn.plan import GsnError
from ..gsn.preset_file import to_json
from ..gsn.presets import PRESETS, describe, plan_of, refuse_other_models
from .io import CATEGORY, model_input, trace_output


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
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    tooltip="\n".join(f"{name}: {preset.use}" for name, preset in PRESETS.items()),
                ),
                io.String.Input(
                    "file",
                    default="",
                    advanced=True,
                    optional=True,
                    tooltip="A preset of your own: a JSON file in ComfyUI's input folder, such as presets/mine.json."
                    " Start from the json output of this node. Empty: the preset chosen above.",
                ),
            ],
            outputs=[
                io.Model.Output(),
                trace_output(),
                io.String.Output(display_name="what it does", tooltip="The preset in words."),
                io.String.Output(display_name="json", tooltip="The preset as data: save, edit, and name it in 'file'."),
            ],
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, preset, file="", **inputs):
        return preset, file, file_state(file)

    @classmethod
    @override
    def execute(cls, model, preset, file="") -> io.NodeOutput:
        known = model_preset(model, "GSNPreset")
        name, chosen = chosen_preset("GSNPreset", preset, file)
        try:
            refuse_other_models(name, chosen.noise, chosen.family, known)
        except ValueError as error:
            raise GsnError(f"GSNPreset: {error}") from None
        plan, handle = plan_of("GSNPreset", name, chosen)
        said = describe(name, chosen, known)
        return io.NodeOutput(with_plan(model, plan), handle, said, to_json(chosen), ui=ui.PreviewText(said))


NODES = [GSNPreset]
