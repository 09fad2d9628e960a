"""Settings as data: where each kind of model is read and at which noise level it is worth acting."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .interventions import Guide, Intervention, Refine
from .losses import PAPER, Objective, objective
from .maps import MapProcessing
from .plan import Action, Plan
from .steps import Step
from .trace import TraceHandle


@dataclass(frozen=True)
class ModelPreset:
    """One kind of model.

    refine_sigma: noise level of the single refinement; guide_sigmas: first and last level of guidance;
    ratio: attention grid / latent grid of the layers to read, None = any; columns: see MapProcessing.
    blocks: which of those layers, in the block language; source: where the numbers come from, said to the user.
    memory: numbers that a gradient pass keeps per cell of the latent, in thousands; the second with blocks recomputed.
    distribution_sigma: noise level at which a distribution is optimised.
    """

    refine_sigma: float
    guide_sigmas: tuple[float, float]
    ratio: float | None
    columns: str
    source: str
    blocks: str = "auto"
    memory: tuple[float, float] = (62.0, 42.0)
    distribution_sigma: float = 4.692  # SAGA's on SD 1.4: index 10 of 50

    def processing(self, columns: str, stream: str) -> MapProcessing:
        return MapProcessing(columns=self.columns if columns == "auto" else columns, stream=stream)


# The paper's t = 821 (index 8 of 50 DDPM steps) is sigma 5.633; guidance runs over steps 0..24, t 981..501.
_SD1_SIGMAS = (13.12, 1.624)
# Two of SD 3 medium's blocks at 1024 x 1024 keep 19 (measured on a CPU), so its 24 keep 228; recomputed: one block
# and what goes into the others. The other transformers take the same for want of a measurement; SD 1.5's are measured.
_SD3_MEMORY = (228.0, 30.0)
# SD 3: index 2 of 28 steps. No guidance was reported for flow models; this is the same share of the run.
_FLOW_SIGMAS = (1.0, 0.75)
_FLOW_DISTRIBUTION = 0.9298  # SAGA's on SD 3 medium: index 5 of 28
_FLOW_SOURCE = "paper's SD 3 step; untested on real weights of this family"
_DDPM_SOURCE = "paper's SD 1.4 step; untested on real weights of this family"
MODEL_PRESETS: dict[str, ModelPreset] = {
    "sd1": ModelPreset(5.633, _SD1_SIGMAS, 1 / 4, "padded", "paper, SD 1.4"),
    "sd2": ModelPreset(5.633, _SD1_SIGMAS, 1 / 4, "words", "paper's SD 1.4 step; untested on real SD 2 weights"),
    "sdxl": ModelPreset(5.633, _SD1_SIGMAS, 1 / 4, "words", "paper's SD 1.4 step; untested on real SDXL weights"),
    "sd3": ModelPreset(
        0.9741, _FLOW_SIGMAS, None, "words", "paper, SD 3 medium", "auto", _SD3_MEMORY, _FLOW_DISTRIBUTION
    ),
    "flux": ModelPreset(0.9741, _FLOW_SIGMAS, None, "words", _FLOW_SOURCE, "double", _SD3_MEMORY, _FLOW_DISTRIBUTION),
    "transformer": ModelPreset(
        0.9741, _FLOW_SIGMAS, None, "words", _FLOW_SOURCE, "auto", _SD3_MEMORY, _FLOW_DISTRIBUTION
    ),
    # Cosmos-Predict2 counts noise as sigma / (1 - sigma) of the others.
    "cosmos": ModelPreset(37.6, (80.0, 3.0), None, "words", _FLOW_SOURCE, "auto", _SD3_MEMORY, 13.25),
    "ddpm transformer": ModelPreset(5.633, _SD1_SIGMAS, None, "words", _DDPM_SOURCE, memory=_SD3_MEMORY),
    # Playground 2.5 counts noise in units of half the standard deviation that the others' pictures have.
    "playground": ModelPreset(
        5.633 / 2, (13.12 / 2, 1.624 / 2), 1 / 4, "words", _DDPM_SOURCE, distribution_sigma=4.692 / 2
    ),
    "demo": ModelPreset(2.863, _SD1_SIGMAS, 1.0, "words", "measured: demo/README.md", distribution_sigma=2.863),
}


@dataclass(frozen=True)
class Move:
    """One intervention of a method; `last` None = at one step.

    share, haste: factors on the user's iterations and rate of a refinement.
    """

    intervention: Intervention
    objective: Objective
    first: Step = Step()
    last: Step | None = None
    share: float = 1.0
    haste: float = 1.0


_PAPER_MOVE = Move(Refine(), PAPER)
_GUIDANCE_MOVE = Move(Guide(), objective("attend_excite"), last=Step())
METHODS: dict[str, tuple[Move, ...]] = {
    "paper": (_PAPER_MOVE,),
    "guidance": (_GUIDANCE_MOVE,),
    "paper + guidance": (_PAPER_MOVE, _GUIDANCE_MOVE),
    # measured on the demo model alone: benchmarks/README.md
    "fast": (replace(_PAPER_MOVE, share=1 / 5, haste=5.0),),
}


def plan_for(
    origin: str, method: str, step: Step, iterations: int, lr: float, step_size: float
) -> tuple[Plan, TraceHandle]:
    """A method's plan with the user's numbers; `step` is where it refines."""
    actions = []
    for move in METHODS[method]:
        if isinstance(move.intervention, Refine):
            some = math.ceil(iterations * move.share)
            intervention: Intervention = replace(move.intervention, iterations=some, lr=lr * move.haste)
            actions.append(Action(origin, intervention, step, objective=move.objective))
            continue
        intervention = move.intervention
        if isinstance(intervention, Guide):
            intervention = replace(intervention, size=step_size)
        actions.append(Action(origin, intervention, move.first, move.last, move.objective))
    handle = TraceHandle()
    return Plan(actions=tuple(actions), traces=(handle,)), handle
