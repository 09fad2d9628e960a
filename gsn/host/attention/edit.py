"""Edited attention in ordinary model calls: which calls, which images of their batch, and the arithmetic.

A run's model options get one APPLY_MODEL wrapper, in a copy that only this run sees. At each call it asks which
conditioning entries are in the batch (ComfyUI names them by `uuids`), and lets the family put an edit into this one
call's options. Everything else of the batch, and every call outside the range, is computed as before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ...attention.logit_edit import LogitEdit, on_grid
from ...methods.plan import Action
from ...methods.steps import Schedule
from ...text.subjects import Subjects
from ...trace import Trace
from ..families import Family
from ..families.family import EditedImages
from ..gradient.checkpointing import track_blocks
from .forward import EDIT_KEY

log = logging.getLogger("gsn-nodes")


@dataclass(frozen=True)
class Range:
    """An action that edits, and the noise levels at which it does: above `low`, at or below `high`."""

    action: Action
    steps: tuple[int, ...]
    low: float
    high: float

    def holds(self, sigma: float) -> bool:
        return self.low < sigma <= self.high


def range_of(action: Action, indices: tuple[int, ...], schedule: Schedule) -> Range:
    """The levels of these steps, with every call that a sampler makes between one and the next."""
    high = schedule.sigmas[indices[0]] * (1 + 1e-4) if indices[0] > 0 else float("inf")
    return Range(action, indices, schedule.sigmas[indices[-1] + 1] * (1 + 1e-4), high)


@dataclass
class Editing:
    """entries: the positive ones, with their subjects where they have any.

    claims: by position in `ranges` and the entry's uuid, the cells that its subjects own, [B, S, h, w] bool.
    """

    family: Family
    ranges: tuple[Range, ...]
    entries: list[tuple[dict, Subjects | None]]
    claims: dict[tuple[int, Any], Tensor] = field(default_factory=dict)
    edited: int = 0  # attention calls
    asked: bool = False  # some model call was to be edited
    odd_batch: bool = False  # the images of some call were not those that the maps are of

    def claim(self, action: Action, entry: dict, owners: Tensor) -> None:
        for number, one in enumerate(self.ranges):
            if one.action is action:
                self.claims[number, entry.get("uuid")] = owners

    def attached(self, extra_args: dict) -> dict:
        """The sampler's arguments with the edits in a copy of the model options."""
        options = comfy.model_patcher.create_model_options_clone(extra_args.get("model_options", {}))
        add_wrapper_with_key(
            WrappersMP.APPLY_MODEL, EDIT_KEY, self._wrapper, options.setdefault("transformer_options", {})
        )
        return {**extra_args, "model_options": options}

    def report(self, trace: Trace) -> None:
        """Tell the trace what came of it."""
        origin = self.ranges[0].action.origin
        if self.odd_batch:
            self._warn(trace, f"{origin}: left alone where a model call held other images than the latent's batch")
        if self.asked and not self.edited:
            self._warn(trace, f"{origin}: another node on this model hid its text attention; nothing was changed")
        for one in self.ranges if self.edited else ():
            trace.notes.append(f"{one.action.origin}: edited the attention of steps {one.steps[0]} to {one.steps[-1]}")

    def _warn(self, trace: Trace, note: str) -> None:
        trace.notes.append(note)
        log.warning(note)

    def _wrapper(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
    ):
        options = dict(transformer_options or {})
        images = self._images(x, c_crossattn, options)
        if not images:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        self.asked = True
        model = executor.class_obj
        with track_blocks(self.family.blocks(model), ()) as position:
            position.options = options
            self.family.edit(model, options, images, position, x.shape)
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def _images(self, x: Tensor, text: Tensor | None, options: dict) -> tuple[EditedImages, ...]:
        """The parts of this call's batch that are to be edited."""
        names, sigmas = options.get("uuids"), options.get("sigmas")
        if not names or sigmas is None or text is None:
            return ()
        level = float(sigmas.max())
        acting = [number for number, one in enumerate(self.ranges) if one.holds(level)]
        size = x.shape[0] // len(names)
        found = []
        for place, name in enumerate(names) if acting else ():
            entry = next(((e, s) for e, s in self.entries if e.get("uuid") == name), None)
            if entry is not None:
                rows = slice(place * size, (place + 1) * size)
                found.append(self._of_entry(*entry, rows, text.shape[1], acting, x.device))
        return tuple(one for one in found if one is not None)

    def _of_entry(
        self, entry: dict, subjects: Subjects | None, rows: slice, given: int, acting: list[int], device: torch.device
    ) -> EditedImages | None:
        """given: the text's columns in this call. ComfyUI repeats a text that is batched with a longer one."""
        own = entry["model_conds"]["c_crossattn"].cond.shape[1]
        length = own if subjects is None else subjects.text_length
        if given % own:
            return None
        copies = given // own if length == own else 1
        edits: list[Callable[[tuple[int, int]], LogitEdit | None]] = []
        for number in acting:
            owners = self.claims.get((number, entry.get("uuid")))
            if owners is not None and owners.shape[0] not in (1, rows.stop - rows.start):
                self.odd_batch = True
                continue
            edits.append(_on_grids(self.ranges[number].action.intervention.edit, subjects, length, owners))

        @cache
        def at(grid: tuple[int, int]) -> LogitEdit:
            total = LogitEdit()
            for one in edits:
                edit = one(grid)
                total = total if edit is None else total.then(edit)
            factor, bias = (None if part is None else part.to(device) for part in (total.factor, total.bias))
            return LogitEdit(factor, bias).repeated(copies)

        return EditedImages(rows, length * copies, at, self._count)

    def _count(self) -> None:
        self.edited += 1


def _on_grids(edit: Callable, subjects: Subjects | None, length: int, owners: Tensor | None) -> Callable:
    return lambda grid: edit(subjects, length, None if owners is None else on_grid(owners, grid))
