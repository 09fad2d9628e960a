"""The same study on a Ray cluster: an actor per worker holds a ComfyUI with the pack, the driver keeps the rows.

Batches are handed out one at a time, in the study's order. A worker that dies or does not answer in time is replaced
and its batch is given to another one; nothing of it can be half kept, since only the driver writes. As batches are the
study's own, pictures do not depend on who made them.

Every machine of the cluster needs the project at the same path, set up by `python dev.py study --prepare`.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from lab.tools.environment import ROOT
from lab.tools.server import ServerError, ServerGone

from .run import Progress, keep
from .store import Store
from .study import Batch, Study, StudyError
from .worker import Made, Steady, Where

START_LIMIT = 360.0  # seconds until a worker's ComfyUI answers; its own limit is a minute less
TRIES = 3  # servers or workers that one batch may cost
GRACE = 15.0  # seconds, or once more the limit of a batch: for what a worker does beside waiting for its server


@dataclass(frozen=True)
class _Answer:
    """`gone`: the worker's server was lost with the batch; the next one starts another."""

    made: Made | None
    failed: str
    gone: bool


class Actor:
    """What runs in the cluster. Failures come back as texts: their classes may be unknown elsewhere."""

    def __init__(self, where: Where, study: Study, limit: float):
        self._worker = Steady(where, study, limit, None, lambda line: None, tries=1).__enter__()

    def versions(self) -> tuple[dict, int]:
        return self._worker.versions, os.getpid()

    def stop(self) -> None:
        self._worker.__exit__()

    def make(self, batch: Batch) -> _Answer:
        made, failed, gone = None, "", False
        try:
            made = self._worker.make(batch)
        except (ServerError, StudyError) as error:
            failed, gone = str(error), isinstance(error, ServerGone)
        return _Answer(made, failed, gone)


@dataclass
class _Hand:
    """A worker and what it is doing. `task`: the reference that will answer."""

    name: str
    actor: Any
    task: Any
    deadline: float
    batch: Batch | None = None  # None: starting
    cold: bool = False  # its server has to be started first


@dataclass
class _Crew:
    ray: Any
    make: Callable[[], Any]
    wanted: int
    limit: float
    progress: Progress
    hands: list[_Hand] = field(default_factory=list)
    hired: int = 0
    lost: int = 0

    def hire(self) -> None:
        self.hired += 1
        actor = self.make()
        self.hands.append(_Hand(f"worker {self.hired}", actor, actor.versions.remote(), time.monotonic() + START_LIMIT))

    def give(self, hand: _Hand, batch: Batch) -> None:
        hand.batch, hand.task = batch, hand.actor.make.remote(batch)
        hand.deadline = time.monotonic() + self.limit + max(GRACE, self.limit) + (START_LIMIT if hand.cold else 0.0)

    def dismiss(self, hand: _Hand) -> None:
        """An idle worker goes and stops its server itself."""
        try:
            self.ray.get(hand.actor.stop.remote(), timeout=GRACE)
        except self.ray.exceptions.RayError as error:
            self.progress.say(f"{hand.name} did not stop: {error}")
        self.end(hand)

    def end(self, hand: _Hand) -> None:
        """Its server ends with it (lab/tools/tethered.py)."""
        self.ray.kill(hand.actor)
        self.hands.remove(hand)


def run_on_ray(
    store: Store, study: Study, todo: Sequence[Batch], where: Where, limit: float, progress: Progress,
    started: Callable[[dict], None], address: str, workers: int | None = None,
) -> None:  # fmt: skip
    """address: of a cluster, or local:N for N workers on this machine. workers: None = one per GPU, or per machine."""
    try:
        import ray
    except ImportError:
        raise StudyError("Ray is not installed; python dev.py study --ray ... installs it (the extra 'ray')") from None
    here = workers_here(address)
    with redirect_stdout(sys.stderr):  # Ray's own messages; what is printed is for programs
        try:
            if here is not None:
                ray.init(address="local", num_cpus=here, include_dashboard=False, configure_logging=False)
            else:
                ray.init(address=address)
            crew = _crew(ray, study, where, limit, progress, here or workers, here is not None)
            _work(ray, crew, store, deque(todo), started)
        except ConnectionError as error:
            raise StudyError(f"no Ray cluster answers at {address}: {error}") from None
        finally:
            ray.shutdown()


def workers_here(address: str) -> int | None:
    """How many workers local:N asks for on this machine; None for a cluster's address, as localhost:6379 is one."""
    name, _, count = address.partition(":")
    if name != "local":
        return None
    if count and not (count.isdecimal() and int(count) > 0):
        raise StudyError(f"--ray {address}: write local:2 for two workers on this machine")
    return int(count or 2)


def _crew(ray, study: Study, where: Where, limit: float, progress: Progress, workers: int | None, local: bool) -> _Crew:
    gpus = int(ray.cluster_resources().get("GPU", 0))
    machines = len([node for node in ray.nodes() if node["Alive"]])
    wanted = workers or gpus or machines
    threads = str(max(1, (os.cpu_count() or 1) // wanted)) if local else None
    variables = {"PYTHONPATH": str(ROOT)} | ({"OMP_NUM_THREADS": threads} if threads else {})
    options = {"num_cpus": 1, "num_gpus": 1 if gpus >= wanted else 0, "runtime_env": {"env_vars": variables}}
    remote = ray.remote(Actor)
    return _Crew(ray, lambda: remote.options(**options).remote(where, study, limit), wanted, limit, progress)


def _work(ray, crew: _Crew, store: Store, todo: deque[Batch], started: Callable[[dict], None]) -> None:
    crew.progress.say(f"Starting ComfyUI in {crew.wanted} workers ...")
    costs: dict[Batch, int] = {}
    for _ in range(min(crew.wanted, len(todo))):
        crew.hire()
    while todo or any(hand.batch is not None for hand in crew.hands):
        if not crew.hands:
            raise StudyError(f"all workers were lost. The {len(store.rows)} finished images are kept; run it again")
        ready, _ = ray.wait([hand.task for hand in crew.hands], timeout=1.0)
        now = time.monotonic()
        for hand in list(crew.hands):
            if hand.task in ready:
                _answered(ray, crew, hand, store, todo, costs, started)
            elif now > hand.deadline:
                _lost(crew, hand, todo, costs, "does not answer within its time limit")


def _answered(ray, crew: _Crew, hand: _Hand, store: Store, todo: deque[Batch], costs: dict, started) -> None:
    try:
        answer = ray.get(hand.task)
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()
        _lost(crew, hand, todo, costs, f"was lost ({said[0]}{' ... ' + said[-1] if len(said) > 1 else ''})")
        return
    if hand.batch is None:
        versions, pid = answer
        crew.progress.say(f"{hand.name} is ready (process {pid})")
        started(versions)
    else:
        batch, hand.batch, hand.cold = hand.batch, None, answer.gone
        if answer.made is not None:
            keep(store, crew.progress, batch, answer.made)
        elif answer.gone:
            crew.progress.say(f"{hand.name} lost its server: {answer.failed}")
            _again(crew, batch, todo, costs, answer.failed)
        else:
            crew.progress.failed(batch, answer.failed)
    while todo and crew.progress.hopeless(todo[0]):
        todo.popleft()
    if todo:
        crew.give(hand, todo.popleft())
    else:
        crew.dismiss(hand)


def _lost(crew: _Crew, hand: _Hand, todo: deque[Batch], costs: dict, why: str) -> None:
    crew.lost += 1
    crew.end(hand)
    doing = "while starting" if hand.batch is None else f"with {hand.batch}"
    crew.progress.say(f"{hand.name} {why} {doing}; its work is done again by another one.")
    if hand.batch is not None:
        _again(crew, hand.batch, todo, costs, f"{hand.name} {why}")
    if crew.lost <= TRIES * crew.wanted and todo:
        crew.hire()


def _again(crew: _Crew, batch: Batch, todo: deque[Batch], costs: dict, why: str) -> None:
    """Its turn comes next, unless it has cost too much."""
    costs[batch] = costs.get(batch, 0) + 1
    if costs[batch] < TRIES:
        todo.appendleft(batch)
    else:
        crew.progress.failed(batch, f"{TRIES} workers or their servers were lost with it, last: {why}")
