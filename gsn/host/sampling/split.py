"""Open any of ComfyUI's samplers at a step and edit the latent it carries, without touching the sampler.

A sampler is a function that calls a model. Which of its calls opens step i a rehearsal has found. The edit is made
in place on the tensor the model is called with, which is the sampler's own state.

Samplers whose state is another tensor, or that make their own noise schedule, are restarted at the step
instead: they lose their history, so a restart without an edit differs from an uncut run. Restarted here:
uni_pc, uni_pc_bh2, sa_solver, sa_solver_pece, dpm_fast, dpm_adaptive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .rehearsal import ModelProxy, rehearse

# edit(x, index, model_k, extra_args, denoised): change x, the sampler's state at the start of step `index`, in place;
# denoised: the model's latest answer, its clean estimate, or None before the first
Edit = Callable[[Tensor, int, Any, dict, "Tensor | None"], None]


@contextmanager
def opened(
    sampler: Any, indices: Iterable[int], edit: Edit, note: Callable[[str], None],
    begin: Callable[[Tensor, Any, dict], None],
) -> Iterator[None]:  # fmt: skip
    """While inside, `sampler` (a KSAMPLER) calls the edit at the given steps, and before its first model call
    begin(x, model_k, extra_args). Restored on leaving: SAMPLER objects are cached node outputs."""
    original = sampler.sampler_function
    wanted = sorted(set(indices))

    def function(model_k, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        extra_args = {} if extra_args is None else extra_args
        begin(x, model_k, extra_args)
        run = _Run(original, model_k, extra_args, callback, disable, options, edit)
        rehearsal = rehearse(original, model_k, x, sigmas, extra_args, options, wanted)
        if rehearsal.in_place:
            return run.in_place(x, sigmas, rehearsal.opening_calls)
        if wanted != [0]:  # editing before the first call is exact for every sampler
            note(
                f"sampler '{function.__name__}' keeps its state to itself: it was restarted at"
                f" step {', '.join(map(str, wanted))} and lost its history there"
            )
        return run.restarted(x, sigmas, wanted)

    function.__name__ = getattr(original, "__name__", "sampler")  # samplers are told apart by name elsewhere
    sampler.sampler_function = function
    try:
        yield
    finally:
        sampler.sampler_function = original


@dataclass
class _Run:
    function: Callable
    model_k: Any
    extra_args: dict
    callback: Callable | None
    disable: bool | None
    options: dict
    edit: Edit
    denoised: Tensor | None = None

    def in_place(self, x: Tensor, sigmas: Tensor, opening_calls: dict[int, int]) -> Tensor:
        count = 0

        def call(xx, sigma, kwargs):
            nonlocal count
            index = opening_calls.get(count)
            count += 1
            if index is not None:
                self.edit(xx, index, self.model_k, self.extra_args, self.denoised)
            return self._answer(xx, sigma, kwargs)

        return self._sample(ModelProxy(self.model_k, call), x, sigmas, self.extra_args, self.callback)

    def _answer(self, x: Tensor, sigma: Tensor, kwargs: dict) -> Tensor:
        answer = self.model_k(x, sigma, **kwargs)
        self.denoised = answer.clone()  # samplers may go on computing in it
        return answer

    def restarted(self, x: Tensor, sigmas: Tensor, wanted: list[int]) -> Tensor:
        x, start, part = x.clone(), 0, 0
        for index in [*wanted, None]:
            stop = len(sigmas) - 1 if index is None else index
            if stop > start:
                # a part that drew the same noise again would not be noise
                seed = self.extra_args.get("seed")
                args = {**self.extra_args, "seed": seed + part} if isinstance(seed, int) else self.extra_args
                x = self._sample(
                    ModelProxy(self.model_k, self._answer), x, sigmas[start : stop + 1], args, self._from(start)
                )
                part += 1
            if index is not None:
                self.edit(x, index, self.model_k, self.extra_args, self.denoised)
                start = index
        return x

    def _from(self, start: int) -> Callable | None:
        if self.callback is None:
            return None
        return lambda state: self.callback({**state, "i": state["i"] + start})

    def _sample(self, model: Any, x: Tensor, sigmas: Tensor, args: dict, callback: Callable | None) -> Tensor:
        return self.function(model, x, sigmas, extra_args=args, callback=callback, disable=self.disable, **self.options)
