"""Makes what a study lacks, one batch after the other, and keeps what is finished whatever happens."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lab.tools.environment import log
from lab.tools.server import ServerError

from .store import Store
from .study import Batch, Study, StudyError
from .worker import Made, Steady, Where

GIVE_UP = 3  # failed batches of a cell, with none made, after which the rest of it is not tried


@dataclass
class Progress:
    """A bar with the time left, and what went wrong. `made`: images of this run."""

    total: int
    done: int
    made: int = 0
    failures: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _made: Counter = field(default_factory=Counter)

    def __post_init__(self):
        from tqdm import tqdm

        often = 0.5 if sys.stderr.isatty() else 20.0
        self._bar = tqdm(total=self.total, initial=self.done, unit="image", mininterval=often, smoothing=0.05)

    def finished(self, batch: Batch) -> None:
        self.made += len(batch.seeds)
        self._made[batch.cell] += 1
        self._bar.update(len(batch.seeds))

    def failed(self, batch: Batch, message: str) -> None:
        self.failures.setdefault(batch.cell, []).append(f"{batch}: {message}")
        self.say(f"Failed: {batch}: {message}")
        if self.hopeless(batch) and len(self.failures[batch.cell]) == GIVE_UP:
            self.say(f"{batch.method.label} on {batch.model.name} failed {GIVE_UP} times; the rest of it is left out.")

    def hopeless(self, batch: Batch) -> bool:
        return len(self.failures.get(batch.cell, ())) >= GIVE_UP and not self._made[batch.cell]

    def say(self, message: str) -> None:
        self._bar.clear()
        log(message)

    def close(self) -> None:
        self._bar.close()


def lacking(store: Store, study: Study) -> list[Batch]:
    return [batch for batch in study.batches() if not all(key in store.rows for key in batch.keys)]


def keep(store: Store, progress: Progress, batch: Batch, made: Made) -> None:
    store.add(batch, made.rows, made.pictures)
    progress.finished(batch)


def run_here(
    store: Store, study: Study, todo: Iterable[Batch], where: Where, limit: float, progress: Progress,
    started: Callable[[dict], None],
) -> None:  # fmt: skip
    """In this process, with one server. started(versions): called once the server answers."""
    progress.say("Starting ComfyUI ...")
    with Steady(where, study, limit, store.folder / "comfyui.log", progress.say) as worker:
        started(worker.versions)
        for batch in todo:
            if progress.hopeless(batch):
                continue
            try:
                made = worker.make(batch)
            except ServerError as error:
                if "No space left" in str(error):
                    raise StudyError(f"ComfyUI has no space left: {error}. Finished images are kept") from None
                progress.failed(batch, str(error))
            else:
                keep(store, progress, batch, made)
