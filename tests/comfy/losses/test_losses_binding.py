"""The losses of gsn/losses that bind words and fill boxes, on the demo model: a refinement lowers each of them."""

import numpy as np
import pytest

from ..graphs import graph, refine
from .demo_losses import CAT_AND_CARROT, demo


@pytest.mark.parametrize("loss", ["syngen", "tv", "tv_bind", "box_inner", "boxdiff"])
def test_ten_iterations_lower_the_loss(comfy, loss):
    boxes = CAT_AND_CARROT if loss.startswith("box") else None
    result = comfy.run(demo(loss, boxes), ["out", ("p0", 1)]).check()
    values = np.array([record.terms[loss] for record in result["p0", 1].trace.records])
    print(loss, values[0], values[-1])
    assert values.shape == (11, 2)
    low, high = comfy.pack("gsn.losses").LOSSES[loss].bounds
    assert ((low <= values) & (values <= high)).all()
    assert (values[-1] < values[0] - 0.02 * abs(values[0])).all()


# two text encoders whose words are read each by itself; attention at several resolutions, the finer for attributes
@pytest.mark.parametrize(("family", "loss"), [("sd3", "syngen"), ("sd15", "tv_bind")])
def test_the_loss_falls_on_a_toy_of_another_kind(comfy, family, loss):
    nodes = graph([refine(loss=["l", 0])], text="a red cat and a blue dog", family=family)
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": loss, "weight": 1.0}}
    result = comfy.run(nodes, ["out", ("p0", 1)]).check()
    values = np.array([record.terms[loss] for record in result["p0", 1].trace.records])
    print(family, loss, values[0], values[-1])
    assert np.isfinite(values).all() and (values[-1] < values[0]).all()


def test_drawn_boxes_arrive_at_their_subjects(comfy):
    result = comfy.run(demo("boxdiff", CAT_AND_CARROT), [("2", 0), ("2", 1), ("2", 2)]).check()
    cat, carrot = result["2", 1].items
    assert (cat.label, cat.box) == ("cat", (0.0, 16 / 128, 60 / 128, 96 / 128))
    assert (carrot.label, carrot.box) == ("carrot", (70 / 128, 40 / 128, 120 / 128, 100 / 128))
    assert result["2", 0][0][1][comfy.pack("gsn.text.subjects").SUBJECTS_KEY] is result["2", 1]
    assert "box of carrot" in result["2", 2]


def test_one_box_of_the_primitive_node(comfy):
    nodes = demo("boxdiff", text="a photo of a cat")
    inputs = {"x": 32, "y": 0, "width": 32, "height": 64}
    nodes["b"] = {"class_type": "PrimitiveBoundingBox", "inputs": inputs}
    nodes["2"]["inputs"].update(boxes=["b", 0], canvas_width=128, canvas_height=64)
    (cat,) = comfy.run(nodes, [("2", 1)]).check()["2", 1].items
    assert cat.box == (0.25, 0.0, 0.5, 1.0)


def refused(comfy, nodes, node_type, *messages):
    result = comfy.run(nodes, ["out"])
    assert not result.ok and result.node_type == node_type
    for message in messages:
        assert message in result.error, result.error


def test_fewer_boxes_than_subjects_are_refused_with_both_numbers(comfy):
    wanted = "GSNSubjects: 'boxes' has 1 boxes, and the prompt has 2 subjects (cat, carrot)"
    refused(comfy, demo("boxdiff", CAT_AND_CARROT[:1]), "GSNSubjects", wanted)


def test_pixels_without_a_canvas_are_refused(comfy):
    nodes = demo("boxdiff", CAT_AND_CARROT)
    nodes["2"]["inputs"].update(canvas_width=0, canvas_height=0)
    refused(comfy, nodes, "GSNSubjects", "these are pixels", "'canvas_width'")


def test_losses_that_have_nothing_to_work_on_are_refused_before_sampling(comfy):
    refused(comfy, demo("boxdiff"), "KSampler", "SingleStepIterRef: ", "cat, carrot has none")
    refused(comfy, demo("tv_bind", text="a cat and a carrot"), "KSampler", "SingleStepIterRef: ", "choose tv")


def test_a_box_below_the_maps_cells_is_refused_before_the_first_model_call(comfy):
    """13 x 19 latents of a model that halves them twice: 4 x 5 cells, and the box is a fifth of one wide."""
    boxes = [CAT_AND_CARROT[0], {"x": 70, "y": 40, "width": 5, "height": 60}]
    for loss in ("box_inner", "boxdiff"):
        nodes = demo(loss, boxes, text="a photo of a cat and a carrot")
        nodes["1"] = {"class_type": "ToyModel", "inputs": {"family": "sd15", "seed": 0}}
        nodes["4"]["inputs"].update(width=152, height=104)
        result = comfy.run(nodes, ["out"])
        assert not result.ok and not result.progress
        for words in ("SingleStepIterRef: ", loss, "box of 'carrot'", "5 x 4 cells", "In GSNSubjects", "1/5"):
            assert words in result.error, result.error


def test_a_box_below_the_cells_of_an_areas_maps_is_refused_before_the_first_model_call(comfy):
    boxes = [CAT_AND_CARROT[0], {"x": 58, "y": 40, "width": 12, "height": 60}]  # a column of 16, none of 8
    nodes = demo("boxdiff", boxes)
    assert comfy.run(nodes, ["out"]).ok
    area = {"conditioning": ["2", 0], "width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    nodes["a"] = {"class_type": "ConditioningSetArea", "inputs": area}
    nodes["out"]["inputs"]["positive"] = ["a", 0]
    result = comfy.run(nodes, ["out"])
    assert not result.ok and not result.progress and result.error.startswith("SingleStepIterRef: ")
    for words in ("box of 'carrot'", "8 x 8 cells", "In GSNSubjects"):
        assert words in result.error, result.error


def test_a_setting_of_the_node_reaches_the_loss(comfy):
    found = []
    for settings in ({}, {"method.coded": False}):
        nodes = demo("tv")
        nodes["l"]["inputs"] |= settings
        found.append(comfy.run(nodes, [("p0", 1)] + ["out"]).check()["p0", 1].trace.records[0].loss[0])
    assert found[0] != found[1]
