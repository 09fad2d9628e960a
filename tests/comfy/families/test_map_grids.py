"""The size of the maps is known before the first model call, for checks that need it: odd sizes, every family."""

import pytest

from .. import graphs
from ..zoo_graphs import graph
from ..zoo_names import NAMES


def grids(comfy, monkeypatch, nodes):
    """(what the checks before sampling were told, what the model then gave)"""
    objective, said = comfy.pack("gsn.losses.objective").Objective, []
    check = objective.check

    def listening(self, subjects, grid):
        said.append(tuple(grid))
        check(self, subjects, grid)

    with monkeypatch.context() as patch:
        patch.setattr(objective, "check", listening)
        result = comfy.run(nodes, ["out", ("p0", 1)]).check()
    (kept,) = result["p0", 1].trace.kept
    return said, [tuple(kept.maps.shape[-2:])]


@pytest.mark.parametrize("name", NAMES)
def test_of_every_family(comfy, monkeypatch, name):
    said, given = grids(comfy, monkeypatch, graph(name, [graphs.capture(record_steps="0")], steps=1))
    assert said == given


LEVELS = [("in4-5, mid", "auto"), ("mid", "auto"), ("auto", "1"), ("auto", "1/2")]


@pytest.mark.parametrize("blocks, resolution", LEVELS)
@pytest.mark.parametrize("width, height", [(152, 104), (104, 152), (72, 200)])
def test_of_every_level_of_a_unet(comfy, monkeypatch, blocks, resolution, width, height):
    nodes = graphs.sd15_graph([graphs.capture(record_steps="0", blocks=blocks, resolution=resolution)], steps=1)
    nodes["4"]["inputs"].update(width=width, height=height)
    said, given = grids(comfy, monkeypatch, nodes)
    assert said == given


AREAS = {  # of a latent of 13 x 19; the last two hang over its edge
    "inside": ("ConditioningSetArea", {"width": 72, "height": 64, "x": 16, "y": 8, "strength": 1.0}),
    "over the edge": ("ConditioningSetArea", {"width": 128, "height": 96, "x": 64, "y": 64, "strength": 1.0}),
    "percentage": (
        "ConditioningSetAreaPercentage", {"width": 0.6, "height": 0.45, "x": 0.5, "y": 0.6, "strength": 1.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", AREAS)
@pytest.mark.parametrize("name", ["sd15", "sd3_clip"])
def test_of_an_area(comfy, monkeypatch, name, case):
    nodes, (kind, inputs) = graph(name, [graphs.capture(record_steps="0")], steps=1), AREAS[case]
    nodes["a"] = {"class_type": kind, "inputs": {"conditioning": ["2", 0], **inputs}}
    nodes["out"]["inputs"]["positive"] = ["a", 0]
    said, given = grids(comfy, monkeypatch, nodes)
    assert said == given
    assert said != grids(comfy, monkeypatch, graph(name, [graphs.capture(record_steps="0")], steps=1))[0]


@pytest.mark.parametrize("name", ["sd15", "sd3_clip"])
def test_of_the_bounds_of_a_mask(comfy, monkeypatch, name):
    nodes = graph(name, [graphs.capture(record_steps="0")], steps=1)
    nodes = graphs.left_half_only(nodes, 152, 104)
    del nodes["n"]
    mask = {"conditioning": ["2", 0], "mask": ["m", 0], "strength": 1.0, "set_cond_area": "mask bounds"}
    nodes["a"] = {"class_type": "ConditioningSetMask", "inputs": mask}
    nodes["out"]["inputs"].update(positive=["a", 0], latent_image=["4", 0])
    said, given = grids(comfy, monkeypatch, nodes)
    assert said == given
