"""The two demo models: recipe, sampler, and what validation tries on each."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import fit
import host
import mmdit
import net
import sample
import unet


@dataclass(frozen=True)
class DemoModel:
    """kind: "unet" | "mmdit"; seed: of its training. cfgs and rates: what validation chooses from, rates at step
    ``first``; the curve is measured at ``steps``."""

    kind: str
    recipe: fit.Recipe
    sampler: type[sample.Sampler]
    network_config: dict
    family: str
    cfgs: tuple[float, ...]
    rates: tuple[tuple[float, bool], ...]  # (learning rate, words only)
    first: int
    steps: tuple[int, ...]
    sampling: dict  # as ComfyUI's menus name it
    seed: int = 0

    def again(self, seed: int) -> DemoModel:
        """Trained from another seed, with the CFG, rate and slice that validation chose for the first: of these models
        only the step is chosen anew."""
        if seed == self.seed:
            return self
        chosen = json.loads(self.report.read_text())["chosen"]
        return replace(self, seed=seed, cfgs=(chosen["cfg"],), rates=((chosen["lr"], chosen["slice"] == "words"),))

    @property
    def name(self) -> str:
        return self.kind if self.seed == 0 else f"{self.kind}_seed{self.seed}"

    def train(self, work: Path) -> None:
        fit.train(self.recipe, self.name, work, self.seed)

    @property
    def file(self) -> Path:
        return host.DEMO / f"gsn_demo_{self.name}.safetensors"

    @property
    def report(self) -> Path:
        return host.DEMO / f"validation{'' if self.name == 'unet' else '_' + self.name}.json"

    def load(self, work: Path) -> net.Model:
        return fit.load(self.recipe, self.name, work)


_RATES = tuple((lr, words) for words in (True, False) for lr in (0.01, 0.03)) + ((0.06, True), (0.1, True))
UNET = DemoModel(
    "unet", unet.RECIPE, sample.DDPM, net.UNET_CONFIG, "sd1", (3.0, 5.0, 7.5), _RATES, 8, (0, 4, 8, 12, 16, 20),
    {"steps": 50, "sampler": "ddpm", "scheduler": "ddim_uniform"},
)
MMDIT = DemoModel(
    "mmdit", mmdit.RECIPE, sample.Flow, net.MMDIT_CONFIG, "sd3", (2.0, 3.0, 5.0),
    ((0.01, True), (0.03, True), (0.06, True), (0.1, True)), 4, (0, 2, 4, 6, 8, 12, 16, 20),
    {"steps": 28, "sampler": "euler", "scheduler": "simple"},
)
MODELS = {model.kind: model for model in (UNET, MMDIT)}
