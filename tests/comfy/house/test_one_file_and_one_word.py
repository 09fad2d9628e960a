"""A new loss and a new intervention, each added to a copy of the pack as CONTRIBUTING says, act in a graph.

Each is a file in its room and its name in the room's list; nothing else of the copy is touched.
"""

import json
import shutil
import sys

import pytest
import torch

from ..conftest import ROOT
from ..graphs import graph, samples

FAINT = '''"""The strongest subject is faint (for the test's sake: nobody would want it)."""

from .loss import loss


@loss(
    "nobody", "the strongest subject is faint", bounds=(0.0, 1.0), explains={"share": "Of it."}, most={"share": 1}
)
def faint(maps, subjects, share: float = 1.0):
    return share * maps.maxima().amax(1)
'''
NUDGE = '''"""Every latent is a little larger."""

from dataclasses import dataclass

from .intervention import Intervention, Phase


@dataclass(frozen=True)
class Nudge(Intervention):
    by: float = 0.1

    name = "nudge"
    phase = Phase.GUIDE
    loops = True
    most = {"by": 1}

    def describe(self):
        return f"nudge: by {self.by:g}"

    def warnings(self, opening):
        return ["a nudge is not gentle"]

    def apply(self, latent, forwards, context):
        for iteration in range(3):
            value = context.evaluate(latent, forwards, grad=False)
            context.keep(self.name, iteration, "before" if iteration == 0 else "after", value.maps)
            context.record(self.name, iteration, value, None)
        return latent * (1 + self.by)
'''


@pytest.fixture(scope="module")
def extended(comfy, tmp_path_factory):
    """ComfyUI with a copy of the pack in the pack's place, to which one loss and one intervention were added."""
    copy = tmp_path_factory.mktemp("extended") / "gsn-nodes"
    leave_out = shutil.ignore_patterns("*.safetensors", "__pycache__")  # the demo models are not asked for
    for name in ("gsn", "nodes", "demo"):
        shutil.copytree(ROOT / name, copy / name, ignore=leave_out)
    shutil.copyfile(ROOT / "__init__.py", copy / "__init__.py")
    for room, name, text in (("losses", "faint", FAINT), ("interventions", "nudge", NUDGE)):
        (copy / "gsn" / room / f"{name}.py").write_text(text)
        names = copy / "gsn" / room / "__init__.py"
        before = names.read_text()
        names.write_text(before.replace("\n)\n", f'\n    "{name}",\n)\n', 1))
        assert names.read_text() != before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.nodes, "NODE_CLASS_MAPPINGS", dict(comfy.nodes.NODE_CLASS_MAPPINGS))
        comfy.load(copy)
        yield comfy
    for name in [name for name in sys.modules if name.startswith(str(copy).replace(".", "_x_"))]:
        del sys.modules[name]


def test_a_loss(extended):
    patch = ("SingleStepIterRef", {"step": 2, "step_unit": "index", "iterations": 5, "lr": 0.05, "loss": ["l", 0]})
    nodes = graph([patch])
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": "faint", "method.share": 0.5, "weight": 1.0}}
    result = extended.run(nodes, ["out", ("p0", 1)]).check()
    first, *_, last = result["p0", 1].trace.records
    assert list(first.terms) == ["faint"] and all(a > b > 0 for a, b in zip(first.loss, last.loss, strict=True))
    strongest = [max(image) for image in first.maxima]
    assert first.loss == pytest.approx([one / 2 for one in strongest], rel=1e-5)  # its setting has arrived


def test_an_intervention(extended):
    preset = {"moves": [{"do": "nudge", "at": "2", "by": 0.5, "loss": [{"loss": "attend_excite"}]}]}
    (extended.base / "input" / "nudge.json").write_text(json.dumps(preset))
    patch = ("GSNPreset", {"preset": "plain", "file": "nudge.json"})
    result = extended.run(graph([patch]), ["out", ("p0", 1), ("p0", 2)]).check()
    trace = result["p0", 1].trace
    assert "nudge: by 0.5" in result["p0", 2] and "nudge: by 0.5" in trace.plan[0]
    assert trace.notes == ["GSNPreset: a nudge is not gentle"]
    assert len(trace.records) == 3 and all(one.loops for one in (*trace.records, *trace.kept))  # drawn by iterations
    assert not torch.equal(samples(result), samples(extended.run(graph(), ["out"])))
