"""The losses of gsn/losses that keep subjects apart and in place, in ComfyUI's own executor."""

import numpy as np
import pytest

from ..graphs import capture, graph, guide, refine
from .demo_losses import CAT_AND_CARROT, demo


def terms(result, name):
    """[records, images]"""
    return np.array([record.terms[name] for record in result.check()["p0", 1].trace.records])


@pytest.mark.parametrize(
    "loss", ["self_conflict", "clean", "segregation", "box_retention", "focus", "conform", "self_cross"]
)
def test_ten_iterations_lower_the_loss(comfy, loss):
    boxes = CAT_AND_CARROT if loss.startswith("box") else None
    values = terms(comfy.run(demo(loss, boxes), ["out", ("p0", 1)]), loss)
    print(loss, values[0], values[-1])
    assert values.shape == (11, 2)
    low, high = comfy.pack("gsn.losses").LOSSES[loss].bounds
    assert ((low <= values) & (values <= high)).all()
    assert (values[-1] < values[0] - 0.02 * abs(values[0])).all()


# a transformer in which picture and words are one sequence, and a UNet that is read at several resolutions
@pytest.mark.parametrize("family", ["sd3", "sd15", "sdxl"])
@pytest.mark.parametrize("loss", ["self_conflict", "self_cross", "focus", "conform"])
def test_the_loss_falls_on_a_toy_of_another_kind(comfy, family, loss):
    nodes = graph([refine(loss=["l", 0], iterations=10)], text="a red cat and a blue dog", family=family)
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": loss, "weight": 1.0}}
    values = terms(comfy.run(nodes, ["out", ("p0", 1)]), loss)
    print(family, loss, values[0], values[-1])
    assert np.isfinite(values).all()
    # two subjects with one peak: the same row twice, so that no move of the latent changes self_conflict
    movable = values[0] < 0.5 if loss == "self_conflict" else np.array([True, True])
    assert movable.any() and (values[-1] < values[0])[movable].all()


def test_alignment_holds_the_maps_near_their_average(comfy):
    def last(weight):
        nodes = demo("attend_excite", text="a photo of a cat and a carrot")
        nodes["a"] = {"class_type": "GSNLoss", "inputs": {"method": "alignment", "weight": weight, "add_to": ["l", 0]}}
        nodes["p0"]["inputs"]["loss"] = ["a", 0]
        return terms(comfy.run(nodes, ["out", ("p0", 1)]), "alignment")

    free, held = last(0.0), last(20.0)
    print("alignment", free[-1], held[-1])
    assert (free[0] == 0).all() and (held[0] == 0).all()
    assert (held[-1] > 0).all() and (held[-1] < free[-1]).all()


def test_retention_begins_at_the_second_step_and_holds_the_maps(comfy):
    def guided(size):
        nodes = demo("retention", text="a photo of a cat and a carrot")
        settings = dict(guide(step_size=size, first_step=4, last_step=9)[1], loss=["l", 0], model=["1", 0])
        nodes["p0"] = {"class_type": "GSNGuidance", "inputs": settings}
        nodes["out"]["inputs"]["steps"] = 20
        return terms(comfy.run(nodes, ["out", ("p0", 1)]), "retention")

    free, held = guided(1e-6), guided(20.0)
    print("retention", free.mean(1), held.mean(1))
    assert held.shape == (6, 2)
    assert (held[0] == 0).all()
    assert ((held[1:] >= 1) & (held[1:] <= 2)).all()  # two subjects, each from 0.5 to 1
    assert (held[1:].mean(0) < free[1:].mean(0)).all()


# HyperTile cuts the largest maps into tiles: those of input1, and not the quarter size that is read by itself
@pytest.mark.parametrize(("loss", "blocks", "runs"), [
    ("self_cross", "input1", False), ("self_cross", "auto", True), ("iou", "input1", True),
])  # fmt: skip
def test_tiles_are_refused_where_self_attention_is_read_from_them(comfy, loss, blocks, runs):
    comfy.extra("nodes_hypertile")
    tiles = ("HyperTile", {"tile_size": 32, "swap_size": 1, "max_depth": 0, "scale_depth": False})
    nodes = graph([capture(blocks=blocks), refine(loss=["l", 0]), tiles], family="sd15")
    nodes["4"]["inputs"]["height"] = 128
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": loss, "weight": 1.0}}
    result = comfy.run(nodes, ["out"])
    assert result.ok == runs, result.error
    if not runs:
        assert "changed the picture's 256 cells in block input1" in result.error
        assert "choose blocks that it spares" in result.error
