"""A sampling step in the units people use, and its place in one run's list of sigmas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNITS = ("auto", "index", "percent", "sigma")
MOST_STEPS = 1000  # of a list that a person writes


class StepError(ValueError):
    """The step cannot mean anything in this run."""


@dataclass(frozen=True)
class Step:
    """A step as a person gave it.

    unit "index": 0-based in the sigmas the sampler gets; "percent": 0..100 of the model's schedule, as
    ComfyUI's percent_to_sigma; "sigma": the host's noise level; "auto": the preset's sigma.
    """

    value: float = 0.0
    unit: str = "auto"

    def __str__(self) -> str:
        """As `parse_steps` reads it, or auto."""
        said = {"index": f"{self.value:.6g}", "percent": f"{self.value:.6g}%", "sigma": f"sigma {self.value:.6g}"}
        return said.get(self.unit, "auto")

    def check(self) -> None:
        """Raise StepError for values that are wrong in every run."""
        if self.unit not in UNITS:
            raise StepError(f"unknown unit '{self.unit}' for a step; use one of {', '.join(UNITS)}")
        if self.unit == "auto":
            return
        if not math.isfinite(self.value):
            raise StepError(f"the step is {self.value}; give a finite number")
        if self.value < 0:
            raise StepError(f"the step is {self.value:g} ({self.unit}); steps count from 0")
        if self.unit == "index" and self.value != int(self.value):
            raise StepError(f"step index {self.value:g} is not a whole number")
        if self.unit == "percent" and self.value > 100:
            raise StepError(f"the step is {self.value:g} %; give 0 to 100")


@dataclass(frozen=True)
class Schedule:
    """One run's noise levels. sigmas: N + 1 values for N steps, falling."""

    sigmas: tuple[float, ...]
    percent_to_sigma: Callable[[float], float]  # 0..1 -> sigma of the model's schedule
    sigma_max: float

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def percent(self, sigma: float) -> float:
        """Inverse of percent_to_sigma, 0..1, by bisection (the host has no inverse)."""
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self.percent_to_sigma(middle) > sigma else (low, middle)
        return (low + high) / 2

    def named(self, indices: Sequence[int]) -> str:
        """Steps that follow each other, as they stand in this run."""
        first, last = indices[0], indices[-1]
        which, levels = f"step {first}", f"sigma {self.sigmas[first]:.4g}"
        if last != first:
            which, levels = f"steps {first} to {last}", f"{levels} to {self.sigmas[last]:.4g}"
        return f"{which} of 0 to {self.steps - 1} ({levels})"

    def find(self, step: Step, auto_sigma: float) -> int | None:
        """Index of the step, or None where its noise level is outside this (partial) run.

        A sigma belongs to the step whose opening sigma is nearest in log scale. The run's closing sigma
        takes part, so that of two chained partial runs exactly one owns the level between them.
        Raises StepError for an index past the end and for a level the model does not have.
        """
        step.check()
        if step.unit == "index":
            if step.value >= self.steps:
                raise StepError(
                    f"step {step.value:g} is past the end: this run has {self.steps} steps (0 to {self.steps - 1})"
                )
            return int(step.value)
        sigma = self._sigma(step, auto_sigma)
        if sigma > self.sigma_max * 1.001:
            raise StepError(f"sigma {sigma:g} is above the model's largest noise level {self.sigma_max:.4g}")
        levels = [math.log(max(s, 1e-8)) for s in self.sigmas]
        if self.sigmas[-1] <= 0:
            levels[-1] = 2 * levels[-2] - levels[-3] if len(levels) > 2 else -math.inf
        wanted = math.log(max(sigma, 1e-8))
        lead = (levels[0] - levels[1]) / 2 if math.isfinite(levels[1]) else 0.0
        if wanted > levels[0] + lead + 1e-3:
            return None
        nearest = min(range(len(levels)), key=lambda i: abs(levels[i] - wanted))
        return nearest if nearest < self.steps else None

    def between(self, first: Step, last: Step, auto: tuple[float, float]) -> tuple[int, ...]:
        """Indices of all steps from first to last, both included. Auto ends come from the preset's sigmas.

        Raises StepError for an index past the end and for a range that runs backwards.
        """
        check_range(first, last)
        ends = []
        for step, auto_sigma in ((first, auto[0]), (last, auto[1])):
            step.check()
            ends.append(step.value if step.unit == "index" else self._sigma(step, auto_sigma))
        if first.unit == "index" and first.value >= self.steps:
            self.find(first, 0.0)  # raises the error that names the run's length
        chosen = []
        for i, sigma in enumerate(self.sigmas[:-1]):
            after = i >= ends[0] if first.unit == "index" else sigma <= ends[0] * 1.001
            before = i <= ends[1] if last.unit == "index" else sigma >= ends[1] * 0.999
            if after and before:
                chosen.append(i)
        return tuple(chosen)

    def _sigma(self, step: Step, auto_sigma: float) -> float:
        if step.unit == "auto":
            return auto_sigma
        return self.percent_to_sigma(step.value / 100) if step.unit == "percent" else step.value


def check_range(first: Step, last: Step) -> None:
    """Raise StepError where the last step comes before the first; of two units only a run can tell."""
    if first.unit != last.unit or first.unit == "auto":
        return
    backwards = first.value < last.value if first.unit == "sigma" else first.value > last.value
    if backwards:
        falling = "; a sigma falls over the run" if first.unit == "sigma" else ""
        raise StepError(f"the range from {first} to {last} runs backwards{falling}: exchange the two")


def parse_steps(text: str) -> tuple[Step, ...]:
    """`0, 10, 50%, sigma 5.6` as steps; nothing for an empty text. Raises StepError on anything else."""
    pieces = [piece for one in text.split(",") if (piece := one.strip())]
    if len(pieces) > MOST_STEPS:
        raise StepError(f"there are {len(pieces)} steps; {MOST_STEPS} are the most")
    steps = []
    for piece in pieces:
        unit = "percent" if piece.endswith("%") else "sigma" if piece.startswith("sigma") else "index"
        try:
            step = Step(float(piece.removesuffix("%").removeprefix("sigma")), unit)
        except ValueError:
            raise StepError(f"cannot read the step '{piece}'; write for example 0, 10, 50% or sigma 5.6") from None
        step.check()
        steps.append(step)
    return tuple(steps)
