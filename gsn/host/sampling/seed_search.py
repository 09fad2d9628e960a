"""Look at the first steps of many noises of one seed, and name the best."""

from __future__ import annotations

from typing import Any

from ...interventions.observe import Observe
from ...losses.objective import PAPER, Objective
from ...methods.plan import Action, Plan
from ...methods.steps import Step
from ...selection.seed import joined
from ...trace import Trace, TraceHandle
from ..errors import GsnError
from .attach import with_only
from .ksampler import sample

ORIGIN = "GSNSeedSearch"


def look_at_noises(
    model: Any, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str, positive: Any, negative: Any,
    latent_image: dict, denoise: float, candidates: int, step: int, together: int, objective: Objective | None,
) -> Trace:  # fmt: skip
    """One look at the maps and the loss of every candidate at this step of plain sampling.

    Candidate i starts from the noise that ComfyUI draws for batch index i of this seed. `together`: how many are
    sampled in one batch. Other interventions on the model do nothing here; its capture settings hold.
    """
    if step >= steps:
        raise GsnError(
            f"{ORIGIN}: look_at_step is {step}, but the run has {steps} steps (0 to {steps - 1}); choose an earlier one"
        )
    action = Action(ORIGIN, Observe(), Step(step, "index"), objective=objective or PAPER)
    parts = []
    for start in range(0, candidates, together):
        indices = list(range(start, min(start + together, candidates)))
        handle = TraceHandle()
        looking = with_only(model, Plan(actions=(action,), traces=(handle,)))
        sample(
            looking, seed, steps, cfg, sampler_name, scheduler, positive, negative, noises_of(latent_image, indices),
            denoise, last_step=step + 1,
        )  # fmt: skip
        trace = handle.trace
        if trace is None or not trace.records:
            told = "; ".join(trace.notes) if trace is not None else "nothing was sampled"
            raise GsnError(f"{ORIGIN}: the noises cannot be told apart: {told}")
        parts.append(trace)
    return joined(parts)


def noises_of(latent: dict, indices: list[int]) -> dict:
    """A LATENT whose images are the given one's first, to be started from the noises of these batch indices."""
    samples = latent["samples"][:1]
    chosen = {**latent, "samples": samples.repeat(len(indices), *[1] * (samples.dim() - 1)), "batch_index": indices}
    mask = latent.get("noise_mask")
    if mask is not None and mask.dim() > 2:
        chosen["noise_mask"] = mask[:1]  # ComfyUI repeats it
    return chosen
