"""GSNKSampler: the stock KSampler with a method, and the plain picture beside it when somebody looks."""

from __future__ import annotations

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from typing_extensions import override

from ..gsn.host.node_outputs import output_connected, output_connected_now, show
from ..gsn.host.preset_files import described
from ..gsn.host.sampling.ksampler import own_schedule, sample
from ..gsn.methods.presets import PRESETS, plan_of, with_numbers
from ..gsn.methods.steps import Step
from .inputs import (
    FOLDED,
    USES,
    denoise_input,
    iterations_input,
    ksampler_inputs,
    lr_input,
    preset_input,
    step_inputs,
    step_size_input,
)
from .sockets import CATEGORY, trace_output

_PLAIN = 1  # output slot


class GSNKSampler(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNKSampler",
            display_name="GSN KSampler",
            category=CATEGORY,
            description="KSampler that makes every subject of GSNSubjects appear. The second output is the"
            " plain picture of"
            " the same seed, computed only when it is connected.",
            search_aliases=["ksampler", "missing subject", "attend and excite", "before after"],
            inputs=[
                *ksampler_inputs(
                    50,
                    "ddpm",
                    "ddim_uniform",
                    sampler_name="Any of ComfyUI's samplers. The paper used ddpm.",
                    scheduler="Any of ComfyUI's schedulers. ddim_uniform spaces steps as the paper did.",
                ),
                denoise_input(),
                preset_input(
                    "paper, guidance, both, and fast (as paper, with a fifth of the iterations at five times the rate)"
                    " take the numbers below; the others bring their own. What it will do, and when, is shown below the"
                    " node when it begins.\n" + USES,
                    name="method",
                    default="paper",
                ),
                *step_inputs(),
                iterations_input("Gradient steps of the refinement. 0 = off."),
                lr_input("How far one gradient step of the refinement may move the latent."),
                step_size_input("How far each nudge of the guidance goes. 0 = off.", **FOLDED),
            ],
            outputs=[io.Latent.Output(display_name="refined"), io.Latent.Output(display_name="plain"), trace_output()],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, **inputs):
        return output_connected_now(cls.hidden.unique_id, _PLAIN)  # connecting the plain output must run the node again

    @classmethod
    @override
    def execute(cls, model, method, step, step_unit, iterations, lr, step_size=20.0, **ksampler) -> io.NodeOutput:
        preset = with_numbers(PRESETS[method], Step(step, step_unit), iterations, lr, step_size)
        if preset.moves:
            numbers = (ksampler[one] for one in ("steps", "sampler_name", "scheduler", "denoise"))
            schedule = own_schedule(model, *numbers)
            show(cls.hidden.unique_id, described("GSNKSampler", model, method, preset, schedule))
        plan, handle = plan_of("GSNKSampler", method, preset)
        refined = sample(model, **ksampler, plan=plan)
        plain = ExecutionBlocker(None)
        if output_connected(cls.hidden.prompt, cls.hidden.unique_id, _PLAIN):
            plain = sample(model, **ksampler)
        return io.NodeOutput(refined, plain, handle)


NODES = [GSNKSampler]
