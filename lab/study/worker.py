"""One ComfyUI with the pack that makes batches: the same code alone, and in every actor of a Ray cluster.

A server is started once and kept warm. It is its worker's child by a pipe: when the worker dies, however, the server
ends too (lab/tools/tethered.py).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np

from gsn.interventions import INTERVENTIONS
from gsn.metrics.detections import from_boxes
from lab.tools.environment import Environment, accelerator_flags
from lab.tools.server import Server, ServerError, ServerGone

from .scores import METRICS, make_detector, make_scorers, pixels, scored
from .study import RTDETR, Batch, Study, StudyError
from .workflow import ACCOUNT, BOXES, IMAGES, makes_batches, shows_images, user_workflow, workflow

_PRESETS = "gsn_study"  # below ComfyUI's input folder
_VERSIONS = {"comfyui": "comfyui_version", "torch": "pytorch_version", "python": "python_version"}


@dataclass(frozen=True)
class Where:
    """What a worker needs besides the study. `flags`: of ComfyUI's command line; None = what the machine needs."""

    python: str
    comfyui: str
    base: str
    flags: tuple[str, ...] | None = None

    @property
    def environment(self) -> Environment:
        return Environment(Path(self.python), Path(self.comfyui), Path(self.base))

    @property
    def metrics(self) -> list[Path]:
        """Where models of scores lie: below our own models folder, and below the user's."""
        return [Path(one) / "models" / METRICS for one in (self.base, self.comfyui)]


@dataclass(frozen=True)
class Made:
    """A finished batch: a row of scores and a PNG for each seed."""

    rows: list[dict]
    pictures: list[bytes]


class Steady:
    """A worker whose server is started again when it ended or hangs; a batch costs `tries` servers at most.

    Use as `Worker`. `log`: what happened, a line each.
    """

    def __init__(
        self, where: Where, study: Study, limit: float, log_file: str | Path | None, log: Callable[[str], None],
        tries: int = 3,
    ):  # fmt: skip
        self._start = lambda: Worker(where, study, limit, log_file).__enter__()
        self._log, self._tries = log, tries
        self._worker: Worker | None = None

    def __enter__(self) -> Steady:
        self._worker = self._start()
        return self

    def __exit__(self, *exc) -> None:
        if self._worker is not None:
            self._worker.__exit__()
            self._worker = None

    @property
    def versions(self) -> dict:
        assert self._worker is not None
        return self._worker.versions

    def make(self, batch: Batch) -> Made:
        """Raises ServerGone after the last try, ServerError where a node fails."""
        for left in reversed(range(self._tries)):
            try:
                if self._worker is None:
                    self._worker = self._start()
                return self._worker.make(batch)
            except (ServerGone, URLError, ConnectionError, TimeoutError) as error:
                self.__exit__()
                if not left:
                    lost = f"{self._tries} servers in a row were lost: " if self._tries > 1 else ""
                    raise ServerGone(f"{lost}{error}") from None
                self._log(f"{batch}: {error}\nStarting ComfyUI again.")
        raise AssertionError("unreachable")


class Worker:
    """`with Worker(where, study, limit) as worker: worker.make(batch)`. `limit`: seconds a run may take."""

    def __init__(self, where: Where, study: Study, limit: float, log_file: str | Path | None = None):
        self.where, self.limit = where, limit
        self.study = study
        self.detector = make_detector(study.detector)
        self.scorers = make_scorers(study.scorers, where.metrics)
        self._temp = Path(tempfile.mkdtemp(prefix="gsn-study-"))
        flags = [*(accelerator_flags(where.python) if where.flags is None else where.flags), *self._models()]
        self.server = Server(where.environment, log_file=log_file, temp=self._temp, flags=flags)
        self._output_nodes: set[str] = set()

    def __enter__(self) -> Worker:
        try:
            self.server.__enter__()
            info = self.server.get("/object_info")
        except BaseException:
            self.__exit__()
            raise
        self._output_nodes = {name for name, node in info.items() if node.get("output_node")}
        return self

    def __exit__(self, *exc) -> None:
        self.server.stop()
        shutil.rmtree(self._temp, ignore_errors=True)

    def _models(self) -> list[str]:
        """The user's models beside our own base folder's."""
        models = Path(self.where.comfyui) / "models"
        if not models.is_dir():
            return []
        lines = [f"  {name}: {name}" for name in sorted(one.name for one in models.iterdir() if one.is_dir())]
        text = "\n".join(["user:", f"  base_path: {json.dumps(str(models))}", *lines])
        (self._temp / "models.yaml").write_text(text + "\n", encoding="utf-8")
        return ["--extra-model-paths-config", str(self._temp / "models.yaml")]

    @property
    def versions(self) -> dict:
        system = self.server.get("/system_stats")["system"]
        return {name: system[key].split()[0] for name, key in _VERSIONS.items()}

    def make(self, batch: Batch) -> Made:
        """Raises ServerError with the node's own words where ComfyUI refuses or fails."""
        began = time.monotonic()
        pictures, gradients, boxes = [], [], []
        for seeds, nodes in self._workflows(batch):
            outputs = self.server.run(nodes, self.limit)
            found = self._pictures(batch, nodes, outputs)
            if len(found) != len(seeds):
                raise ServerError(f"{batch}: the workflow made {len(found)} pictures for {len(seeds)} seeds")
            pictures += found
            gradients += _gradients(outputs, len(seeds))
            boxes += json.loads(outputs[BOXES]["text"][0]) if BOXES in outputs else []
        seconds = round((time.monotonic() - began) / len(batch.seeds), 4)
        self._forget()
        images = pixels(pictures)
        scores = scored(images, batch.case, self._seen(images, boxes), self.study.threshold, self.scorers)
        cost = [{"gradients": count, "seconds": seconds} for count in gradients]
        return Made([score | more for score, more in zip(scores, cost, strict=True)], pictures)

    def _seen(self, images: np.ndarray, boxes: list) -> Sequence | None:
        if self.detector is None:
            return None
        if self.detector.detect is not None:
            return self.detector.detect(images)
        count, height, width = images.shape[:3]
        return from_boxes(boxes, count, width, height)

    def _workflows(self, batch: Batch) -> list[tuple[Sequence[int], dict]]:
        method = batch.method
        if method.kind == "workflow":
            parts = [batch.seeds] if makes_batches(method.file) else [(seed,) for seed in batch.seeds]
            return [(part, user_workflow(batch, part, self._detector_file)) for part in parts]
        preset = self._preset_file(batch) if method.file else None
        return [(batch.seeds, workflow(batch, preset, self._detector_file))]

    @property
    def _detector_file(self) -> str:
        name = self.study.detector
        return name.removeprefix(RTDETR) if name.startswith(RTDETR) else ""

    def _preset_file(self, batch: Batch) -> str:
        """The method's preset as a file of ComfyUI's input folder, named by what is in it."""
        text = batch.method.file
        name = f"{_PRESETS}/{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        path = Path(self.where.base) / "input" / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                file.write(text)
            Path(file.name).replace(path)
        return name

    def _pictures(self, batch: Batch, nodes: dict, outputs: dict) -> list[bytes]:
        with_images = [name for name, one in outputs.items() if one.get("images") and shows_images(nodes[name])]
        if len(with_images) != 1:
            raise StudyError(
                f"{batch.method.label} shows pictures at {len(with_images)} nodes; a workflow for a study needs exactly"
                " one SaveImage or PreviewImage"
            )
        return [self.server.image(one) for one in outputs[with_images[0]]["images"]]

    def _forget(self) -> None:
        """A night's pictures would fill the temporary folder and the server's memory of what it did."""
        self.server.post("/history", {"clear": True})
        for path in (self._temp / "temp").glob("*"):
            path.unlink(missing_ok=True)


def _gradients(outputs: dict, images: int) -> list[int | None]:
    """Updates by gradients, per image: those of inner loops, and one for each step of a guidance. None: not known."""
    if ACCOUNT not in outputs:
        return [0 if IMAGES in outputs else None] * images
    account = json.loads(outputs[ACCOUNT]["text"][0])
    looping = {name for name, one in INTERVENTIONS.items() if one.loops}
    guiding = {name for name, one in INTERVENTIONS.items() if one.loss_is == "lowered"} - looping
    guided = sum(one["action"] in guiding for one in account["records"])
    loops = [one["iterations"] for one in account["stops"] if one["action"] in looping]
    return [guided + sum(counts[i] for counts in loops) for i in range(images)]
