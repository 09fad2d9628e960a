"""Rehearse a sampler on a stub model: which of its model calls opens each step, and whether it draws noise.

It is run once on an 8x8 crop, since matching sigmas does not find the calls (heun, dpmpp_2s_ancestral call twice a
step).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rehearsal:
    """opening_calls: model call number -> step index it opens, for the wanted steps."""

    in_place: bool
    opening_calls: dict[int, int]


class ModelProxy:
    """Stands for KSamplerX0Inpaint; samplers read and set attributes on it."""

    def __init__(self, model_k: Any, call: Callable):
        self.__dict__["_model_k"], self.__dict__["_call"] = model_k, call

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        return self._call(x, sigma, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model_k, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._model_k, name, value)


def rehearse(
    function: Callable, model_k: Any, x: Tensor, sigmas: Tensor, extra_args: dict, options: dict, wanted: list[int]
) -> Rehearsal:
    """Find the calls that open the wanted steps and prove that editing there edits the sampler's state."""

    def rehearsed(start: int, stop: int, shift_at: int | None = None, shift: float = 0.0, answer=torch.zeros_like):
        crop, levels = x[..., :8, :8] + shift, sigmas[start : stop + 1].clone()
        return _rehearse(function, model_k, crop, levels, extra_args, options, shift_at, answer)

    last = len(sigmas) - 1
    plain = rehearsed(0, last)
    if plain is None or any(plain.opens.get(i) is None for i in wanted):
        return Rehearsal(False, {})
    if not all(_near(plain.level(i), float(sigmas[i])) for i in wanted):
        return Rehearsal(False, {})  # it walks its own schedule
    # A sampler may call the model on something else than its state (uni_pc, sa_solver), so proof is asked for: shifting
    # x at the call must reach the next step's input if, and only if, starting from the shifted x does. One step goes
    # before it, as correctors look back; the last step ends on the model's answer whatever its state was.
    probe = min(wanted[-1], last - 2)
    if probe < 0:
        return Rehearsal(False, {})
    lead = min(probe, 1)
    for answer in (torch.zeros_like, torch.clone):
        still = rehearsed(probe - lead, probe + 2, answer=answer)
        at = still.opens.get(lead) if still else None
        called = rehearsed(probe - lead, probe + 2, at, answer=answer)
        fresh, started = (rehearsed(probe, probe + 2, None, shift, answer) for shift in (0.0, 1.0))
        moved = _moved(still, called, lead + 1)
        if moved is None or moved != _moved(fresh, started, 1):
            return Rehearsal(False, {})
    return Rehearsal(True, {plain.opens[i]: i for i in wanted})


def draws_noise(function: Callable, model_k: Any, x: Tensor, sigmas: Tensor, extra_args: dict, options: dict) -> bool:
    """Whether the sampler adds noise of its own on these levels (ancestral, SDE): its way then depends on the seed."""
    ways = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(seed)
            args, levels = {**extra_args, "seed": seed}, sigmas.clone()
            ways.append(_rehearse(function, model_k, x[..., :8, :8], levels, args, options, None, torch.zeros_like))
    one, other = ways
    if one is None or other is None:
        return False
    return not all(torch.equal(a, b) for a, b in zip(one.inputs, other.inputs, strict=False))


def _moved(one: _Calls | None, other: _Calls | None, step: int) -> bool | None:
    """Whether the inputs that open a step differ; None where that is not known."""
    if one is None or other is None or one.opens.get(step) is None or other.opens.get(step) is None:
        return None
    return not torch.equal(one.inputs[one.opens[step]], other.inputs[other.opens[step]])


@dataclass
class _Calls:
    opens: dict[int, int | None]  # step -> call number
    levels: list[float]  # sigma of each call
    inputs: list[Tensor]  # what each call got, copied
    told: dict[int, float] = field(default_factory=dict)  # step -> sigma of the state, where the sampler tells it

    def level(self, step: int) -> float:
        """At which a step's state is. What stands between a sampler and the model may tell the model another one, for
        finer detail (Detail Daemon, Lying Sigma)."""
        call = self.opens[step]
        assert call is not None, "asked of steps that were found"
        return self.told.get(step, self.levels[call])


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-4 * max(1.0, other)


def _post_cfg(extra_args: dict) -> list[Callable]:
    return extra_args.get("model_options", {}).get("sampler_post_cfg_function", [])


def _rehearse(function, model_k, x, sigmas, extra_args, options, shift_at, answer_with) -> _Calls | None:
    """One run with a stub model, x shifted at one call; None where the sampler cannot run with the stub."""
    seen = _Calls({}, [], [])
    tensors: list[Tensor] = []  # the very objects, to be matched with what the callback shows
    first_of_step = 0
    others = _post_cfg(extra_args)

    def call(xx, sigma, kwargs):
        if shift_at == len(tensors):
            xx.add_(1.0)
        tensors.append(xx)
        seen.levels.append(float(sigma.flatten()[0]))
        seen.inputs.append(xx.clone())
        answer = answer_with(xx)
        for hook in _post_cfg(kwargs):  # cfg_pp samplers listen here
            if hook in others:  # it may keep something from call to call, and the sampler knows nothing of it
                continue
            answer = hook({"denoised": answer, "uncond_denoised": answer, "cond_denoised": answer, "cond": None,
                           "uncond": None, "cond_scale": 1.0, "model": None, "sigma": sigma, "model_options": {},
                           "input": xx})  # fmt: skip
        return answer

    def callback(state):
        nonlocal first_of_step
        same = [k for k in range(first_of_step, len(tensors)) if tensors[k] is state["x"]]
        alone = state["i"] == 0 or len(tensors) == first_of_step + 1
        seen.opens[state["i"]] = same[0] if same else (first_of_step if alone else None)
        first_of_step = len(tensors)
        level = state.get("sigma")
        if level is not None and _near(float(state.get("sigma_hat", level)), float(level)):  # no noise came on top
            seen.told[state["i"]] = float(level)

    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            function(ModelProxy(model_k, call), x, sigmas, extra_args=dict(extra_args), callback=callback, disable=True,
                     **options)  # fmt: skip
        except (IndexError, RuntimeError, TypeError, ValueError, AttributeError, ZeroDivisionError):
            return None
    return seen
