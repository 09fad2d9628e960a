"""What a study is to make, as data: models x prompts x methods x seeds, cut into batches that never change.

A batch holds seeds of one prompt and one method. Which seeds share a batch follows from the study alone (`batch` seeds
at a time, in their order), so every method, every worker and every later run makes the same batches. Inside a batch
each image has the noise of its own seed (GSNSeeds): the picture is that of the seed alone, up to rounding; only
methods that share work over a batch or draw noise of their own (SAGA, InitNO) see the batch itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from gsn.text.prompt_sets import PromptCase, PromptSet

from .models import Model, model_from

FORMAT, VERSION = "gsn-study", 1
PLAIN = "plain"
RTDETR = "rtdetr:"  # a detector that runs in ComfyUI, and its file


class StudyError(Exception):
    """Something the user can act on; shown without a traceback."""


def label_of(method: str, step: str) -> str:
    """A method and the step it was moved to, as a person writes them."""
    return f"{method} @ {step}" if step else method


@dataclass(frozen=True)
class Method:
    """`name` at `step` ("" = its own). `file`: what a preset or workflow file holds, so that the study is whole."""

    name: str
    step: str = ""
    kind: str = "preset"  # of the pack | "preset file" | "workflow"
    file: str = ""

    @property
    def label(self) -> str:
        return label_of(self.name, self.step)


@dataclass(frozen=True)
class Batch:
    """One run of the sampler. It is done when each of its `keys` is among the rows."""

    model: Model
    method: Method
    set: str
    split: str
    case: PromptCase
    seeds: tuple[int, ...]

    @property
    def keys(self) -> tuple[tuple, ...]:
        return tuple(
            (self.model.name, self.method.name, self.method.step, self.set, self.split, self.case.text, seed)
            for seed in self.seeds
        )

    @property
    def cell(self) -> tuple[str, str]:
        return self.model.name, self.method.label

    def __str__(self) -> str:
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        return f'{self.method.label} on {self.model.name}, "{self.case.text}", {seeds}'


@dataclass(frozen=True)
class Study:
    """`batch`: images made at once. `detector`, `scorers`: names of scores.py; a detection counts from `threshold` on.
    `made_with`: versions, for people."""

    models: tuple[Model, ...]
    methods: tuple[Method, ...]
    sets: tuple[PromptSet, ...]
    seeds: tuple[int, ...]
    batch: int
    detector: str
    threshold: float
    scorers: tuple[str, ...] = ()
    made_with: dict = field(default_factory=dict, compare=False)

    def batches(self) -> Iterator[Batch]:
        """All work, prompt by prompt, so that what is finished at any moment can be compared."""
        for prompt_set in self.sets:
            for case in prompt_set.cases:
                for first in range(0, len(self.seeds), self.batch):
                    seeds = self.seeds[first : first + self.batch]
                    for model in self.models:
                        for method in self.methods:
                            yield Batch(model, method, prompt_set.name, prompt_set.split, case, seeds)

    @property
    def images(self) -> int:
        prompts = sum(len(one.cases) for one in self.sets)
        return prompts * len(self.seeds) * len(self.models) * len(self.methods)


def to_json(study: Study) -> str:
    content = {"format": FORMAT, "version": VERSION, **asdict(study)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str, where: str = "study.json") -> Study:
    """Raises StudyError on what `to_json` did not write."""
    try:
        content = json.loads(text)
        if content.pop("format") != FORMAT or content.pop("version") != VERSION:
            raise ValueError(f"it is not a {FORMAT} of version {VERSION}")
        sets = tuple(
            PromptSet(one["name"], one["split"], one["source"], tuple(_case(case) for case in one["cases"]))
            for one in content.pop("sets")
        )
        models = tuple(model_from(one) for one in content.pop("models"))
        methods = tuple(Method(**one) for one in content.pop("methods"))
        lists = {key: tuple(content.pop(key)) for key in ("seeds", "scorers")}
        return Study(models, methods, sets, **lists, **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{where} cannot be read ({error}); restore it, or begin in another folder") from None


def _case(one: dict) -> PromptCase:
    return PromptCase(one["text"], tuple(one["subjects"]), tuple(one["colours"]), one["marked"])


def joined(before: Study, asked: Study) -> Study:
    """The study on disk with what is newly asked: more models, methods, prompts or seeds.

    Raises StudyError where the two could not stand in one table: other settings, other pictures under the same name.
    """
    for name in ("batch", "detector", "threshold", "scorers"):
        _same(name, getattr(before, name), getattr(asked, name))
    short, long = sorted((before.seeds, asked.seeds), key=len)
    if long[: len(short)] != short:
        raise StudyError(
            f"the folder's seeds are {_few(before.seeds)}, but {_few(asked.seeds)} are asked; one list must begin with"
            " the other. Choose another folder for a study of other seeds"
        )
    models = _union(before.models, asked.models, lambda one: one.name, "the model")
    methods = _union(before.methods, asked.methods, lambda one: one.label, "the method")
    sets = {(one.name, one.split): one for one in before.sets}
    for one in asked.sets:
        old = sets.get((one.name, one.split))
        if old is None:
            sets[one.name, one.split] = one
            continue
        cases = _union(old.cases, one.cases, lambda case: case.text, "the prompt")
        sets[one.name, one.split] = replace(one if len(one.cases) == len(cases) else old, cases=cases)
    return replace(before, models=models, methods=methods, sets=tuple(sets.values()), seeds=long)


def _same(name: str, before, asked) -> None:
    if before != asked:
        raise StudyError(
            f"the folder holds a study with {name} {before!r}, but {asked!r} is asked; choose another folder, or leave"
            " that option out"
        )


def _union(before: Sequence, asked: Sequence, name, what: str) -> tuple:
    known = {name(one): one for one in before}
    for one in asked:
        old = known.setdefault(name(one), one)
        if old != one:
            raise StudyError(
                f"{what} '{name(one)}' was another one when this folder was begun ({old}, now {one}); choose another"
                " folder"
            )
    return tuple(known.values())


def _few(seeds: Sequence[int]) -> str:
    said = ", ".join(map(str, seeds[:4]))
    return said if len(seeds) <= 4 else f"{said}, ... ({len(seeds)})"
