"""GSNStepSelection: the step to refine at, from a study's scores."""

from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from ..gsn.host.errors import named
from ..gsn.host.files import input_state
from ..gsn.host.preset_files import chosen_preset, noise_for, save_preset
from ..gsn.host.sampling.ksampler import usual_schedule
from ..gsn.host.scores.files import scores_state, scores_text
from ..gsn.methods.preset_file import to_json
from ..gsn.methods.presets import with_refinement_at
from ..gsn.pictures.step_selection import selection_plot
from ..gsn.selection.score_table import read_scores
from ..gsn.selection.step import report, select
from .inputs import FOLDED, preset_file_input, preset_input, scheduler_input, steps_input
from .sockets import CATEGORY

_NODE = "GSNStepSelection"


class GSNStepSelection(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id=_NODE,
            display_name="GSN Step Selection",
            category=CATEGORY,
            description="Chooses the step at which to refine, from success rates on validation prompts, as the paper"
            " does; says how sure the choice is, and makes a preset of it for GSNPreset.",
            search_aliases=["best step", "validation", "choose step", "tiam selection", "when to refine"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "scores",
                    default="",
                    multiline=True,
                    tooltip="The json of GSNTIAMScore; or JSON, JSONL or CSV with a row per image: step, set, prompt,"
                    " seed, success; or a row per step and set: step, set, successes, n. A step is 8, 50% or"
                    " sigma 5.6.",
                ),
                io.String.Input(
                    "file",
                    default="",
                    tooltip="The rows of a study instead: a file or its folder, in ComfyUI's output or input folder."
                    " Empty: the scores above.",
                ),
                preset_input("The method whose refinement gets the chosen step."),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that was studied. With it every step is told as index, percent and noise level,"
                    " and the preset names a noise level, which means the same under every scheduler.",
                ),
                steps_input(50, "Sampling steps of the study. Only used with a model.", optional=True),
                scheduler_input("ddim_uniform", "Scheduler of the study. Only used with a model.", optional=True),
                io.String.Input(
                    "save_as",
                    default="",
                    optional=True,
                    tooltip="Where to write the preset, below ComfyUI's input folder, such as presets/mine.json; name"
                    " it in 'file' of GSNPreset. Empty: it is not written.",
                ),
                io.String.Input(
                    "only",
                    default="",
                    tooltip="Which model or method to look at, where the scores have several.",
                    **FOLDED,
                ),
                io.Boolean.Input(
                    "shrink_noise",
                    default=True,
                    tooltip="Count a set less whose candidates differ by less than counting noise. Off: the paper's"
                    " rule as it stands, in which every set has the same say.",
                    **FOLDED,
                ),
                preset_file_input("preset_file", " instead of the one above: a JSON file in ComfyUI's input folder."),
            ],
            outputs=[
                io.Image.Output(display_name="plot"),
                io.Float.Output(
                    display_name="step", tooltip="As a noise level (sigma) if that is known, else in the scores' unit."
                ),
                io.String.Output(display_name="report", tooltip="The choice, all rates and every warning."),
                io.String.Output(display_name="preset", tooltip="The preset as JSON, with the chosen step."),
            ],
        )  # fmt: skip

    @classmethod
    @override
    def fingerprint_inputs(cls, file="", preset_file="", **inputs):
        return scores_state(file), input_state(preset_file)

    @classmethod
    @override
    def execute(
        cls, scores, file, preset, model=None, steps=50, scheduler="ddim_uniform", save_as="", only="",
        shrink_noise=True, preset_file="",
    ) -> io.NodeOutput:  # fmt: skip
        table = named(_NODE, read_scores, scores_text(_NODE, scores, file), only)
        schedule = None if model is None else usual_schedule(model, scheduler, steps)
        selection = named(_NODE, select, table.cells, schedule, shrink_noise, table.notes)
        step = selection.chosen.best_step
        name, method = chosen_preset(_NODE, preset, preset_file)
        told = f"step chosen on {sum(cell.n for cell in table.cells)} images of {table.run or 'a study'}"
        made = named(_NODE, with_refinement_at, method, step, noise_for(_NODE, name, method, model), told)
        text = to_json(made)
        saved = save_preset(_NODE, save_as, text)
        said = "\n".join(filter(None, [report(selection), f"preset: {name}, refined at {step}", saved]))
        plot = selection_plot(selection)
        return io.NodeOutput(plot, step.value, said, text, ui=ui.PreviewImage(plot, cls=cls))


NODES = [GSNStepSelection]
