"""The size of the maps is known before the first model call, for checks that need it: odd sizes, every family."""

import pytest

from . import graphs
from .test_families import graph
from .zoo_names import NAMES


def grids(comfy, monkeypatch, nodes):
    """(what the checks before sampling were told, what the model then gave)"""
    objective, said = comfy.pack("gsn.losses").Objective, []
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
    said, given = grids(comfy, monkeypatch, graph(name, [graphs.capture(record_steps="0")]))
    assert said == given


LEVELS = [("in4-5, mid", "auto"), ("mid", "auto"), ("auto", "1"), ("auto", "1/2")]


@pytest.mark.parametrize("blocks, resolution", LEVELS)
@pytest.mark.parametrize("width, height", [(152, 104), (104, 152), (72, 200)])
def test_of_every_level_of_a_unet(comfy, monkeypatch, blocks, resolution, width, height):
    nodes = graphs.graph([graphs.capture(record_steps="0", blocks=blocks, resolution=resolution)])
    nodes["4"]["inputs"].update(width=width, height=height)
    said, given = grids(comfy, monkeypatch, nodes)
    assert said == given
