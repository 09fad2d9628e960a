"""The shared graph on the demo model with one loss, and boxes for those that need them."""

from ..graphs import graph

CAT_AND_CARROT = [
    {"x": 0, "y": 16, "width": 60, "height": 80, "metadata": {"desc": "cat"}},
    {"x": 70, "y": 40, "width": 50, "height": 60, "metadata": {"desc": "carrot"}},
]


def demo(loss, boxes=None, text="a photo of a red cat and a blue carrot", canvas=128):
    """The shared graph on the demo model, with one refinement of ten iterations on a loss."""
    settings = {"step": 0, "step_unit": "auto", "iterations": 10, "lr": 0.05, "loss": ["l", 0]}
    patch = [("SingleStepIterRef", settings)]
    nodes = graph(patch, text=text, seed=0, steps=8, sampler_name="ddpm", scheduler="ddim_uniform")
    nodes["1"] = {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}}
    nodes["4"]["inputs"].update(width=128, height=128)
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": loss, "weight": 1.0}}
    if boxes is not None:
        drawn = {"width": canvas, "height": canvas, "editor_state": {"__value__": boxes}}  # as the editor sends a list
        nodes["b"] = {"class_type": "CreateBoundingBoxes", "inputs": drawn}
        nodes["2"]["inputs"].update(boxes=["b", 1], canvas_width=canvas, canvas_height=canvas)
    return nodes
