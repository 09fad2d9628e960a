"""What happened in a sampling run: the record every view draws and every number comes from.

A `Trace` belongs to one sampling run. Model patches exist before any run does, so their `GSN_TRACE`
output is a `TraceHandle`, which each new run fills with a fresh `Trace`. Of several runs of one model in one
workflow, such as a picture and its enlargement, the last one that acted counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class StepInfo:
    """One sampling step in every unit a person may think in."""

    index: int  # 0-based, in the schedule the sampler was given
    sigma: float  # the host's sigma at which the step starts
    percent: float  # 0 at the model's noisiest sigma, 1 at its cleanest

    def __str__(self) -> str:
        return f"step {self.index} (sigma {self.sigma:.4g}, {100 * self.percent:.0f} %)"


@dataclass(frozen=True)
class Record:
    """One evaluation of the loss. Every per-image list has one entry per image of the batch."""

    action: str  # the intervention's name: "refine", "guide", "observe", ...
    step: StepInfo
    iteration: int  # 0 = the latent as the sampler brought it
    loss: list[float]  # [B] the weighted total
    terms: dict[str, list[float]]  # loss name -> [B], before weighting
    maxima: list[list[float]]  # [B][S] the largest value of each subject's map
    update_rms: list[float]  # [B] rms of (z - z0), in VP scale, after this iteration's update
    seconds: float  # since the action began
    loops: bool = False  # the action has many iterations at one step


@dataclass(frozen=True)
class KeptMaps:
    """Subject maps kept for drawing, on the CPU."""

    action: str
    step: StepInfo
    iteration: int
    moment: str  # "before" | "after" the action's updates, "seen" for maps of ordinary sampling
    maps: Tensor  # [B, S, h, w] float32
    loops: bool = False  # as in Record


@dataclass(frozen=True)
class BlockSeen:
    """What one block's maps were like at a step: one number per image, as attention/block_scores.py defines them."""

    step: StepInfo
    part: str
    number: int
    grid: tuple[int, int]  # (h, w)
    separation: list[float]  # [B]
    concentration: list[float]  # [B]


@dataclass(frozen=True)
class Stop:
    """Why the inner loop ended for each image."""

    action: str
    step: StepInfo
    reasons: list[str]  # [B]
    iterations: list[int]  # [B] updates applied


@dataclass
class Trace:
    """Append-only account of one sampling run."""

    labels: tuple[str, ...] = ()  # subjects, in the order of S
    prompt: str = ""
    batch: int = 0
    records: list[Record] = field(default_factory=list)
    kept: list[KeptMaps] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    blocks: list[BlockSeen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # everything a person should be told
    plan: list[str] = field(default_factory=list)  # what was to be done at which steps, in words, before it began

    def names(self, count: int) -> list[str]:
        """One for each of so many subject maps."""
        return [self.labels[s] if s < len(self.labels) else f"subject {s + 1}" for s in range(count)]

    def to_json(self) -> str:
        """The whole trace except the maps, which are named by step, iteration and shape."""
        kept = [
            {"action": k.action, "step": asdict(k.step), "iteration": k.iteration, "moment": k.moment,
             "shape": list(k.maps.shape)}
            for k in self.kept
        ]  # fmt: skip
        content = {
            "labels": list(self.labels), "prompt": self.prompt, "batch": self.batch,
            "records": [_said(r) for r in self.records], "stops": [asdict(s) for s in self.stops],
            "kept": kept, "blocks": [asdict(b) for b in self.blocks], "plan": list(self.plan),
            "notes": list(self.notes),
        }  # fmt: skip
        return json.dumps(content, indent=1)

    def to_loss_map(self) -> dict[str, list[float]]:
        """ComfyUI's `LOSS_MAP`: the loss per evaluation, averaged over the batch."""
        return {"loss": [sum(r.loss) / len(r.loss) for r in self.records if r.loss]}


def _said(record: Record) -> dict:
    """How to draw it is not part of what happened."""
    return {name: value for name, value in asdict(record).items() if name != "loops"}


@dataclass
class TraceHandle:
    """The socket's value: empty until the model it came with has been sampled."""

    trace: Trace | None = None
    acted: bool = False  # the run of this trace had something to do
    workflow: str = ""  # in whose execution it was sampled

    def receive(self, trace: Trace, acted: bool, workflow: str) -> None:
        """A run's trace. One that did nothing does not take the place of one that did in the same workflow's
        execution, but its notes are told there."""
        if self.trace is not None and self.acted and not acted and workflow == self.workflow:
            told = [f"a later run of the same model: {note}" for note in trace.notes]
            self.trace.notes += [note for note in told if note not in self.trace.notes]  # handles may share a trace
            return
        self.trace, self.acted, self.workflow = trace, acted, workflow

    def of_the_run(self, socket: str) -> Trace:
        """Raises ValueError before the run; socket: of the asking node, whose wire makes it wait for the picture."""
        if self.trace is None:
            raise ValueError(
                "the model of this trace has not been sampled yet. Connect the decoded picture"
                f" (VAE Decode, after the sampler) to '{socket}', so that this node runs after the sampler"
            )
        return self.trace
