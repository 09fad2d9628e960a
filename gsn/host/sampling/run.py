"""One sampling run: read the Plan, check all that can be checked, open the steps, fill the Trace, clean up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...attention.maps import MapChoice, MapProcessing
from ...interventions.context import Context, History
from ...interventions.intervention import Opening
from ...methods.model_presets import MODEL_PRESETS, ModelPreset
from ...methods.plan import Action, CaptureSpec, Plan, places
from ...methods.presets import refuse_other_models
from ...methods.steps import Schedule
from ...text.subjects import Subjects
from ...trace import StepInfo, Trace, TraceHandle
from ..attention.capture import check_images, choose_layers, finer_layers, grid_of
from ..attention.edit import Editing, Range, range_of
from ..attention.forward import EntryForward, OpenedStep, Reading, detached, noise_level, unnoticed, vp_scale
from ..errors import GsnError, named
from ..families import family_of
from ..gradient.checkpointing import track_blocks
from ..gradient.differentiable import differentiable, refuse_foreign
from ..gradient.saved_tensors import copied_when_written
from . import memory
from .checks import (
    check_latent,
    check_lengths,
    check_merge,
    check_stream,
    entries_of,
    part_seen,
    with_their_subjects,
)
from .preview import preview_of
from .rehearsal import draws_noise
from .split import opened

KEY = "gsn"
log = logging.getLogger("gsn-nodes")


def with_plan(model: Any, addition: Plan) -> Any:
    """A clone of a MODEL that also does what `addition` says. Nothing is attached when there is nothing to do."""
    return carrying(model, (plan_of(model) or Plan()).merged(addition))


def with_action(model: Any, action: Action) -> tuple[Any, TraceHandle]:
    """The same for one action, and what its trace will be found in."""
    handle = TraceHandle()
    return with_plan(model, Plan(actions=(action,), traces=(handle,))), handle


def with_only(model: Any, plan: Plan) -> Any:
    """A clone of a MODEL that does this and nothing else it was asked to; its own capture settings stay."""
    before = plan_of(model)
    return carrying(model, replace(plan, capture=before.capture if before else None))


def carrying(model: Any, plan: Plan) -> Any:
    """A clone of a MODEL that does what this plan says and nothing else of ours."""
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    clone.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, KEY)
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, SamplerWrapper(plan))
    if plan.live_actions():
        clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, memory.EstimateWrapper(plan))
    return clone


def plan_of(model: Any) -> Plan | None:
    """The plan a MODEL carries."""
    found = model.get_wrappers(WrappersMP.SAMPLER_SAMPLE, KEY)
    return found[0].plan if found else None


class SamplerWrapper:
    """ComfyUI's SAMPLER_SAMPLE wrapper that carries out a plan."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def __call__(self, executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None,
                 disable_pbar=False):  # fmt: skip
        arguments = (guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)
        trace = Trace(batch=noise.shape[0])
        for handle in self.plan.traces:
            handle.trace = trace
        run = prepare(self.plan, executor.class_obj, guider, sigmas, noise, trace)
        if run is None:
            return executor(*arguments)
        with run.in_place(executor.class_obj):
            return executor(guider, sigmas, run.attached(extra_args), *arguments[3:])


def prepare(plan: Plan, sampler: Any, guider: Any, sigmas: Tensor, noise: Tensor, trace: Trace) -> _Run | None:
    """Every check there is; None where the plan turns out to have nothing to do (the trace says why)."""
    actions = plan.live_actions()
    if not actions:
        trace.notes.append("nothing to do: zero iterations or zero strength")
        return None
    origin = actions[0].origin
    for action in actions:
        named(action.origin, action.objective.check_terms)
        named(action.origin, action.objective.check_weights)
        named(action.origin, action.intervention.check, action.objective)
    model = guider.inner_model
    family = family_of(model, origin)
    preset = MODEL_PRESETS[family.preset_name(model)]
    for node, *meant_for in plan.presets:
        named(node, refuse_other_models, *meant_for, preset)
    asking = [action for action in actions if action.intervention.needs_subjects]
    entries = entries_of(guider.conds, family, asking[0].origin) if asking else []
    if asking and not entries:
        trace.notes.append("the prompt names no subjects, so nothing was changed; name them in GSNSubjects")
        log.warning("%s: %s", asking[0].origin, trace.notes[-1])
        actions = tuple(action for action in actions if action not in asking)
        if not actions:
            return None
    trace.prompt = " | ".join(dict.fromkeys(subjects.prompt for _, subjects in entries))
    trace.labels = tuple(label for _, subjects in entries for label in subjects.labels)
    read = with_their_subjects(guider.conds, family) if any(one.intervention.edits for one in actions) else entries
    check_lengths(actions[0].origin, family, model, [entry for entry, _ in read])
    spec = plan.capture or CaptureSpec()
    check_stream(spec.stream, [subjects for _, subjects in entries])
    layers = choose_layers(family, model, spec, preset)
    offered = family.layers(model)
    for action in actions:
        check_images(action.origin, action.needs, layers, offered)
    reading_maps = any(action.intervention.reads_maps for action in actions)
    if reading_maps and not callable(getattr(sampler, "sampler_function", None)):
        raise GsnError(
            f"{origin}: the sampler object is a {type(sampler).__name__}, which cannot be opened at a step; connect one"
            " from KSamplerSelect or another sampler node that makes a KSAMPLER"
        )
    check_latent(origin, model, noise)
    check_merge(origin, family, model)
    for action in actions:
        if action.intervention.gradients:
            refuse_foreign(model, action.origin)
    schedule = schedule_of(model.model_sampling, sigmas)
    texts = [(subjects, grid_of(layers, part_seen(entry, noise.shape))) for entry, subjects in entries]
    resolved = _resolve(actions, schedule, preset, texts, spec.stream, trace)
    mapped = {i: [a for a in acting if a.intervention.reads_maps] for i, acting in resolved.items()}
    opening = {i: acting for i, acting in mapped.items() if acting}
    ranges = _ranges(actions, resolved, schedule)
    if not opening and not ranges:
        return None
    windows = getattr(guider.model_options.get("context_handler"), "dim", 0)  # 0 is the batch: images apart
    if reading_maps and windows != 0:
        trace.notes.append(f"{origin}: read the whole picture at once; context windows apply to ordinary steps only")
        log.warning(trace.notes[-1])
    reading = Reading(family, layers, finer_layers(offered, layers), offered, _processing(preset, spec, MapChoice()))
    histories = [History() for _ in entries]
    editing = Editing(family, ranges, read) if ranges else None
    stock = (sampler.sampler_function, getattr(sampler, "extra_options", {}))
    return _Run(
        opening, editing, guider, stock, sigmas, noise, schedule, preset, spec, reading, entries, histories, trace,
    )  # fmt: skip


def _ranges(actions: Iterable[Action], resolved: dict[int, list[Action]], schedule: Schedule) -> tuple[Range, ...]:
    """Where the actions that edit attention do it."""
    found = []
    for action in actions:
        steps = tuple(sorted(index for index, acting in resolved.items() if action in acting))
        if action.intervention.edits and steps:
            found.append(range_of(action, steps, schedule))
    return tuple(found)


def schedule_of(sampling: Any, sigmas: Tensor) -> Schedule:
    """A run's noise levels; sampling: ComfyUI's model_sampling."""
    return Schedule(
        tuple(float(s) for s in sigmas), lambda p: float(sampling.percent_to_sigma(p)), float(sampling.sigma_max)
    )


def _resolve(
    actions: Iterable[Action], schedule: Schedule, preset: ModelPreset, texts: list[tuple[Subjects, tuple[int, int]]],
    stream: str, trace: Trace,
) -> dict[int, list[Action]]:  # fmt: skip
    """Step index -> the actions that act there, in order. texts: each with (h, w) of its maps; stream: the one read."""
    found: dict[int, list[Action]] = {}
    described = "attributes" if any(one.attributes for text, _ in texts for one in text.items) else "no attributes"
    for action in actions:
        if action.only not in ("", described):
            continue
        for subjects, grid in texts:
            named(action.origin, action.objective.check, subjects, grid)
            named(action.origin, action.objective.check_read, subjects, stream)
        indices = named(action.origin, places, action.intervention, action.first, action.last, schedule, preset)
        counts = [len(subjects.items) for subjects, _ in texts]
        named(action.origin, action.intervention.check_run, action.objective, indices, counts)
        for said in dict.fromkeys(action.warning(subjects) for subjects, _ in texts) if indices else ():
            if said and (told := f"{action.origin}: {said}") not in trace.notes:  # a preset may have several such moves
                trace.notes.append(told)
                log.warning(told)
        if not indices:
            trace.notes.append(
                f"{action.origin}: its noise level is not part of this run (sigma {schedule.sigmas[0]:.4g} to"
                f" {schedule.sigmas[-1]:.4g}), so it did nothing here"
            )
            log.warning(trace.notes[-1])
        elif action.intervention.gradients or action.intervention.edits:
            trace.plan.append(f"{action.origin} at {schedule.named(indices)}: {action.describe()}")
            log.info(trace.plan[-1])
        for index in indices:
            found.setdefault(index, []).append(action)
    return found


@dataclass
class _Run:
    actions: dict[int, list[Action]]  # those that open a step
    editing: Editing | None
    guider: Any
    stock: tuple[Callable, dict]  # the sampler's own function and options
    sigmas: Tensor
    noise: Tensor  # [B, C, h, w], unit variance; zeros where the run adds none
    schedule: Schedule
    preset: ModelPreset
    spec: CaptureSpec
    reading: Reading
    entries: list[tuple[dict, Subjects]]
    histories: list[History]  # of each entry
    trace: Trace
    claims: list[tuple[Any, Tensor]] = field(default_factory=list)  # an entry's forward, its subjects' cells

    def note(self, text: str) -> None:
        if text not in self.trace.notes:
            self.trace.notes.append(text)
            log.warning(text)

    @contextmanager
    def in_place(self, sampler: Any) -> Iterator[None]:
        """While inside, the sampler calls `edit` at the steps to be opened; afterwards all is as before."""
        with opened(sampler, self.actions, self.edit, self.note, self.begin) if self.actions else nullcontext():
            yield
        if self.editing is not None:
            self.editing.report(self.trace)

    def attached(self, extra_args: dict) -> dict:
        """The sampler's arguments, with the edits of attention in them."""
        return extra_args if self.editing is None else self.editing.attached(extra_args)

    def begin(self, x: Tensor, model_k: Any, extra_args: dict) -> None:
        """Tell what a person should know of this run before its first model call."""
        sampling, noise = self.guider.inner_model.model_sampling, self._initial_noise(x.device) is not None
        for index, acting in self.actions.items():
            for action in (one for one in acting if one.intervention.draws_noise):
                level = noise_level(sampling, self.sigmas[index].detach())
                opening = Opening(level, index == 0, noise, partial(self._noisy_sampler, x, index, model_k, extra_args))
                for text in action.intervention.warnings(opening):
                    self.note(f"{action.origin}: {text}")

    def _noisy_sampler(self, x: Tensor, index: int, model_k: Any, extra_args: dict) -> str:
        """The sampler's name, if it adds noise of its own from this step on."""
        function, options = self.stock
        draws = draws_noise(function, model_k, x, self.sigmas[index:], extra_args, options)
        return getattr(function, "__name__", "?") if draws else ""

    def edit(self, x: Tensor, index: int, model_k: Any, extra_args: dict, denoised: Tensor | None) -> None:
        """Carry out the actions of step `index` on the sampler's state x, in place."""
        model = self.guider.inner_model
        info = StepInfo(index, self.schedule.sigmas[index], self.schedule.percent(self.schedule.sigmas[index]))
        sigma = self.sigmas[index].detach()
        scale = vp_scale(model.model_sampling, sigma.to(x.device))
        delta, drawn = None, 0
        for action in self.actions[index]:
            try:
                step = OpenedStep(x, sigma, scale, model, model_k, extra_args)
                delta = self._act(action, info, step, denoised, _noise_seed(extra_args, index, drawn))
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
            else:
                x.add_(delta.to(x.dtype))
                self._pass_claims_on(action)
                drawn += action.intervention.draws_noise
                continue
            # outside the except block, so that the traceback does not hold the graph
            memory.release()
            raise memory.out_of_memory(action.origin, tuple(x.shape))

    def _act(
        self, action: Action, info: StepInfo, step: OpenedStep, denoised: Tensor | None, noise_seed: int
    ) -> Tensor:
        """The change of x, [B, C, h, w]. noise_seed: of its own fresh noise."""
        bar = comfy.utils.ProgressBar(action.intervention.evaluations)

        def progress(done: int, maps: Tensor | None) -> None:
            bar.update_absolute(done, preview=preview_of(maps))

        reading = replace(self.reading, processing=_processing(self.preset, self.spec, action.maps))
        gradients = action.intervention.gradients
        way = memory.Strategy(recompute=False, one_by_one=False)
        if gradients:
            kept = memory.kept(self.reading.family, self.preset, step.model, self.spec, action.needs)
            way = memory.fitting_strategy(self.spec.memory, kept, step.model, step.x.shape, step.x.device)
        with ExitStack() as stack:
            stack.enter_context(memory.pages(step.x.device, keep=not way.recompute))
            rewind = stack.enter_context(unnoticed(step.extra_args["model_options"], step.model, step.x.device))
            stack.enter_context(differentiable(step.model, action.origin) if gradients else torch.inference_mode())
            if gradients and step.extra_args["model_options"].get("transformer_options", {}).get("patches"):
                # other packs' patches may write into what autograd has kept; it then copies it, at some cost
                stack.enter_context(copied_when_written())
            needs = action.needs
            last = self.reading.last(needs)
            position = stack.enter_context(track_blocks(self.reading.family.blocks(step.model), last, way.recompute))

            def release() -> None:
                position.recompute = True
                memory.release()

            ordinary = replace(
                step, x=step.x.detach().clone().float(), sigma=step.sigma.clone(), rewind=rewind, tell=self.note
            )
            z0 = ordinary.x * step.scale
            context = Context(
                step=info,
                total_steps=self.schedule.steps,
                objective=action.objective,
                processing=reading.processing,
                trace=self.trace,
                progress=progress,
                check=mm.throw_exception_if_processing_interrupted,
                out_of_memory=memory.is_out_of_memory,
                release=release,
                claim=lambda forward, owners: self.claims.append((forward, owners)),
                one_by_one=way.one_by_one,
                level=noise_level(step.model.model_sampling, step.sigma),
                denoised=None if denoised is None else denoised.detach().clone().float(),
                initial_noise=self._initial_noise(step.x.device),
                generator=torch.Generator().manual_seed(noise_seed),
                loss_scale=2.0**16 if step.model.get_dtype_inference() == torch.float16 else 1.0,
            )
            forwards = tuple(
                EntryForward(detached(entry), subjects, history, reading, needs, position, ordinary)
                for entry, subjects, history in self._active(info.sigma)
            )
            if not forwards:
                self.note(f"{action.origin}: no entry with subjects is active at {info}; nothing was changed there")
                return torch.zeros_like(step.x)
            z = action.intervention.apply(z0, forwards, context)
            return (z - z0) / step.scale

    def _initial_noise(self, device: Any) -> Tensor | None:
        noise = self.noise.detach().clone().to(device, torch.float32)
        return noise if bool(noise.any()) else None

    def _pass_claims_on(self, action: Action) -> None:
        """Only now: while it acts, what hangs on the model's options is kept from changing (`unnoticed`)."""
        claims, self.claims = self.claims, []
        for forward, owners in claims if self.editing is not None else ():
            self.editing.claim(action, forward.entry, owners)

    def _active(self, sigma: float) -> list[tuple[dict, Subjects, History]]:
        """Entries whose timestep range covers this noise level (ComfyUI's own comparison)."""
        return [
            (entry, subjects, history)
            for (entry, subjects), history in zip(self.entries, self.histories, strict=True)
            if not ("timestep_start" in entry and sigma > entry["timestep_start"])
            and not ("timestep_end" in entry and sigma < entry["timestep_end"])
        ]


def _processing(preset: ModelPreset, spec: CaptureSpec, method: MapChoice) -> MapProcessing:
    """What AttentionCapture says counts first, then what the method does, then the model's own."""
    maps = spec.maps.before(method)
    return preset.processing(maps.columns, spec.stream, maps.contrast, maps.blur)


def _noise_seed(extra_args: dict, index: int, drawn: int) -> int:
    """Of an action's fresh noise. drawn: how many of the actions before it at this step took some, so that no two have
    the same, and one that takes none changes nothing for the others."""
    place = (drawn,) if drawn else ()
    return hash((extra_args.get("seed") or 0, index, *place)) % 2**63
