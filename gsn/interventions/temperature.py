"""A temperature on the logits from image to text at early steps (TACA: Lv et al. 2025, arXiv 2506.07986, section 3).

softmax over the keys of  [gamma(t) q k_text, q k_image] / sqrt(d),   gamma(t) = gamma at early t, 1 afterwards

Where image and text share one softmax, the picture's many cells drown the prompt's few words; a factor above 1 gives
the words their share back. The paper multiplies the text's logits towards the image as well; here only the image's
rows change. Which steps are early is the action's to say; the default factor and range are this pack's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.logit_edit import LogitEdit
from ..losses.objective import Objective
from ..text.subjects import Subjects
from .intervention import Intervention, Phase

SCOPES = ("whole text", "words", "subjects")


@dataclass(frozen=True)
class Temperature(Intervention):
    """factor: gamma; scope: which columns it counts for. "whole text" is the paper's, and the only one that can do
    without Subjects; "words" spares start, end and padding; "subjects" are the subjects' and their attributes' words.
    """

    factor: float = 1.2
    scope: str = "whole text"

    name = "temperature"
    phase = Phase.SCALE
    reads_maps = False
    edits = True
    most = {"factor": 10}

    @property
    def evaluations(self) -> int:
        return 0

    @property
    def idle(self) -> bool:
        return self.factor == 1

    @property
    def needs_subjects(self) -> bool:
        return self.scope != "whole text"

    def check(self, objective: Objective) -> None:
        if not math.isfinite(self.factor) or self.factor < 0:
            raise ValueError(f"the temperature factor is {self.factor}; give a finite number, 0 or more (1 = off)")
        if self.scope not in SCOPES:
            raise ValueError(f"unknown words '{self.scope}' for the temperature; use one of {', '.join(SCOPES)}")

    def describe(self) -> str:
        return f"temperature: the picture's logits towards the {self.scope} times {self.factor:g}"

    def edit(self, subjects: Subjects | None, length: int, owners: Tensor | None) -> LogitEdit | None:
        factor = torch.ones(length)
        if self.scope == "whole text":
            factor[:] = self.factor
        elif subjects is None:
            return None
        elif self.scope == "words":
            factor[list(subjects.word_columns())] = self.factor
        else:
            for subject in subjects.items:
                factor[list(subjects.columns_of(subject))] = self.factor
        return LogitEdit(factor)
