"""One sampling run: check all that can be checked, open the steps, fill the trace, clean up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from torch import Tensor

from ...attention.maps import MapChoice, MapProcessing
from ...interventions.context import Context, History
from ...interventions.intervention import Opening
from ...methods.plan import Action, Plan
from ...text.subjects import Subjects
from ...trace import StepInfo, Trace
from ..attention.edit import Editing
from ..attention.forward import EntryForward, OpenedStep, Reading, detached, noise_level, unnoticed, vp_scale
from ..attention.layers import finer_layers
from ..families import Position
from ..gradient.checkpointing import track_blocks
from ..gradient.differentiable import differentiable
from ..gradient.saved_tensors import copied_when_written
from . import memory
from .checks import OF_THE_RUN, OF_WHAT_IS_ASKED, check
from .facts import Facts
from .preview import preview_of
from .rehearsal import draws_noise
from .split import opened
from .timetable import edited_ranges, timetable, told

log = logging.getLogger("gsn-nodes")


def prepare(plan: Plan, sampler: Any, guider: Any, sigmas: Tensor, noise: Tensor, trace: Trace) -> Run | None:
    """The run, ready to be sampled; None where the plan turns out to have nothing to do (the trace says why)."""
    facts = Facts(plan, plan.live_actions(), sampler, guider, sigmas, noise)
    if not facts.actions:
        trace.notes.append("nothing to do: zero iterations or zero strength")
        return None
    check(facts, OF_WHAT_IS_ASKED)
    facts = _that_can_act(facts, trace)
    if not facts.actions:
        return None
    check(facts, OF_THE_RUN)
    trace.prompt = " | ".join(dict.fromkeys(subjects.prompt for _, subjects in facts.entries))
    trace.labels = tuple(label for _, subjects in facts.entries for label in subjects.labels)
    table = timetable(facts, trace)
    opening = _that_read_maps(table)
    ranges = edited_ranges(facts, table)
    if not opening and not ranges:
        return None
    _tell_of_context_windows(facts, trace)
    editing = Editing(facts.family, ranges, facts.edited) if ranges else None
    return Run(facts, opening, editing, _reading(facts), trace)


def _that_can_act(facts: Facts, trace: Trace) -> Facts:
    """Without the actions that ask for subjects, where the prompt names none."""
    if not facts.asking or facts.entries:
        return facts
    trace.notes.append("the prompt names no subjects, so nothing was changed; name them in GSNSubjects")
    log.warning("%s: %s", facts.asking[0].origin, trace.notes[-1])
    return replace(facts, actions=tuple(action for action in facts.actions if action not in facts.asking))


def _that_read_maps(table: dict[int, list[Action]]) -> dict[int, list[Action]]:
    mapped = {index: [one for one in acting if one.intervention.reads_maps] for index, acting in table.items()}
    return {index: acting for index, acting in mapped.items() if acting}


def _tell_of_context_windows(facts: Facts, trace: Trace) -> None:
    windows = getattr(facts.guider.model_options.get("context_handler"), "dim", 0)  # 0 is the batch: images apart
    if facts.reads_maps and windows != 0:
        told(trace, f"{facts.origin}: read the whole picture at once; context windows apply to ordinary steps only")


def _reading(facts: Facts) -> Reading:
    fine = finer_layers(facts.offered, facts.layers)
    return Reading(facts.family, facts.layers, fine, facts.offered, _processing(facts, MapChoice()))


def _processing(facts: Facts, method: MapChoice) -> MapProcessing:
    """What AttentionCapture says counts first, then what the method does, then the model's own."""
    maps = facts.spec.maps.before(method)
    return facts.preset.processing(maps.columns, facts.spec.stream, maps.contrast, maps.blur)


@dataclass
class Run:
    """opening: step index -> the actions that open it."""

    facts: Facts
    opening: dict[int, list[Action]]
    editing: Editing | None
    reading: Reading
    trace: Trace
    histories: list[History] = field(init=False)  # of each entry
    stock: tuple[Callable | None, dict] = field(init=False)  # the sampler's own function and options
    claims: list[tuple[Any, Tensor]] = field(default_factory=list)  # an entry's forward, its subjects' cells

    def __post_init__(self) -> None:
        sampler = self.facts.sampler
        self.histories = [History() for _ in self.facts.entries]
        self.stock = (getattr(sampler, "sampler_function", None), getattr(sampler, "extra_options", {}))

    def note(self, text: str) -> None:
        if text not in self.trace.notes:
            told(self.trace, text)

    @contextmanager
    def in_place(self, sampler: Any) -> Iterator[None]:
        """While inside, the sampler calls `edit` at the steps to be opened; afterwards all is as before."""
        with opened(sampler, self.opening, self.edit, self.note, self.begin) if self.opening else nullcontext():
            yield
        if self.editing is not None:
            self.editing.report(self.trace)

    def attached(self, extra_args: dict) -> dict:
        """The sampler's arguments, with the edits of attention in them."""
        return extra_args if self.editing is None else self.editing.attached(extra_args)

    def begin(self, x: Tensor, model_k: Any, extra_args: dict) -> None:
        """Tell what a person should know of this run before its first model call."""
        sampling, noise = self.facts.model.model_sampling, self._initial_noise(x.device) is not None
        for index, acting in self.opening.items():
            for action in acting:
                level = noise_level(sampling, self.facts.sigmas[index].detach())
                noisy = partial(self._noisy_sampler, x, index, model_k, extra_args)
                for text in action.intervention.warnings(Opening(level, index == 0, noise, noisy)):
                    self.note(f"{action.origin}: {text}")

    def _noisy_sampler(self, x: Tensor, index: int, model_k: Any, extra_args: dict) -> str:
        """The sampler's name, if it adds noise of its own from this step on."""
        function, options = self.stock
        draws = draws_noise(function, model_k, x, self.facts.sigmas[index:], extra_args, options)
        return getattr(function, "__name__", "?") if draws else ""

    def edit(self, x: Tensor, index: int, model_k: Any, extra_args: dict, denoised: Tensor | None) -> None:
        """Carry out the actions of step `index` on the sampler's state x, in place."""
        sigma, schedule = self.facts.sigmas[index].detach(), self.facts.schedule
        info = StepInfo(index, schedule.sigmas[index], schedule.percent(schedule.sigmas[index]))
        scale = vp_scale(self.facts.model.model_sampling, sigma.to(x.device))
        drawn = 0
        for action in self.opening[index]:
            step = OpenedStep(x, sigma, scale, self.facts.model, model_k, extra_args)
            delta = self._act_within_memory(action, info, step, denoised, _noise_seed(extra_args, index, drawn))
            x.add_(delta.to(x.dtype))
            self._pass_claims_on(action)
            drawn += action.intervention.draws_noise

    def _act_within_memory(self, action: Action, *opened: Any) -> Tensor:
        """`act`, whose last error of exhausted memory becomes ComfyUI's own, with advice."""
        try:
            return self.act(action, *opened)
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
        # outside the except block, so that the traceback does not hold the graph
        memory.release()
        raise memory.out_of_memory(action.origin, tuple(opened[1].x.shape))

    def act(self, action: Action, info: StepInfo, step: OpenedStep, denoised: Tensor | None, noise_seed: int) -> Tensor:
        """The change of x, [B, C, h, w]. noise_seed: of its own fresh noise."""
        reading = replace(self.reading, processing=_processing(self.facts, action.maps))
        strategy = self._strategy(action, step)
        with self._model_open(action, step, strategy) as (position, rewind):
            x, sigma = step.x.detach().clone().float(), step.sigma.clone()
            own = replace(step, x=x, sigma=sigma, rewind=rewind, tell=self.note)
            forwards = tuple(
                EntryForward(detached(entry), subjects, history, reading, action.needs, position, own)
                for entry, subjects, history in self._active(info.sigma)
            )
            if not forwards:
                self.note(f"{action.origin}: no entry with subjects is active at {info}; nothing was changed there")
                return torch.zeros_like(step.x)
            context = self._context(action, info, step, denoised, noise_seed, reading, strategy, position)
            z0 = own.x * step.scale
            return (action.intervention.apply(z0, forwards, context) - z0) / step.scale

    def _strategy(self, action: Action, step: OpenedStep) -> memory.Strategy:
        if not action.intervention.gradients:
            return memory.Strategy(recompute=False, one_by_one=False)
        kept = memory.kept(self.facts.family, self.facts.preset, step.model, self.facts.spec, action.needs)
        return memory.fitting_strategy(self.facts.spec.memory, kept, step.model, step.x.shape, step.x.device)

    @contextmanager
    def _model_open(
        self, action: Action, step: OpenedStep, strategy: memory.Strategy
    ) -> Iterator[tuple[Position, Callable[[], None]]]:
        """Inside, the model may be called between two of the sampler's own calls, with gradients if the action takes
        any. Yields where in the model a pass is, and what takes its patches' memory back (`unnoticed`)."""
        options, device = step.extra_args["model_options"], step.x.device
        gradients, last = action.intervention.gradients, self.reading.last(action.needs)
        with ExitStack() as stack:
            stack.enter_context(memory.pages(device, keep=not strategy.recompute))
            rewind = stack.enter_context(unnoticed(options, step.model, device))
            stack.enter_context(differentiable(step.model, action.origin) if gradients else torch.inference_mode())
            if gradients and options.get("transformer_options", {}).get("patches"):
                # other packs' patches may write into what autograd has kept; it then copies it, at some cost
                stack.enter_context(copied_when_written())
            position = stack.enter_context(track_blocks(self.facts.family.blocks(step.model), last, strategy.recompute))
            yield position, rewind

    def _context(
        self, action: Action, info: StepInfo, step: OpenedStep, denoised: Tensor | None, noise_seed: int,
        reading: Reading, strategy: memory.Strategy, position: Position,
    ) -> Context:  # fmt: skip
        bar = comfy.utils.ProgressBar(action.intervention.evaluations)

        def progress(done: int, maps: Tensor | None) -> None:
            bar.update_absolute(done, preview=preview_of(maps))

        def release() -> None:
            position.recompute = True
            memory.release()

        return Context(
            step=info,
            total_steps=self.facts.schedule.steps,
            objective=action.objective,
            processing=reading.processing,
            trace=self.trace,
            progress=progress,
            check=mm.throw_exception_if_processing_interrupted,
            out_of_memory=memory.is_out_of_memory,
            release=release,
            claim=lambda forward, owners: self.claims.append((forward, owners)),
            one_by_one=strategy.one_by_one,
            loops=action.intervention.loops,
            level=noise_level(step.model.model_sampling, step.sigma),
            denoised=None if denoised is None else denoised.detach().clone().float(),
            initial_noise=self._initial_noise(step.x.device),
            generator=torch.Generator().manual_seed(noise_seed),
            loss_scale=2.0**16 if step.model.get_dtype_inference() == torch.float16 else 1.0,
        )

    def _initial_noise(self, device: Any) -> Tensor | None:
        noise = self.facts.noise.detach().clone().to(device, torch.float32)
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
            for (entry, subjects), history in zip(self.facts.entries, self.histories, strict=True)
            if not ("timestep_start" in entry and sigma > entry["timestep_start"])
            and not ("timestep_end" in entry and sigma < entry["timestep_end"])
        ]


def _noise_seed(extra_args: dict, index: int, drawn: int) -> int:
    """Of an action's fresh noise. drawn: how many of the actions before it at this step took some, so that no two have
    the same, and one that takes none changes nothing for the others."""
    place = (drawn,) if drawn else ()
    return hash((extra_args.get("seed") or 0, index, *place)) % 2**63
