"""GSNHeatmaps and GSNLossCurve in a graph: what they show, in which order they run, what they refuse."""

import json

import pytest
import torch


def graph(iterations=2, batch=1, patch=True):
    """A toy run seen by both nodes: a patch before the stock KSampler, or GSNKSampler."""
    settings = {"seed": 3, "steps": 3, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    settings |= {"positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    step = {"step": 1, "step_unit": "index", "iterations": iterations, "lr": 0.01}
    nodes = {
        "1": {"class_type": "ToyModel", "inputs": {"family": "sd15", "seed": 0}},
        "2": {
            "class_type": "GSNSubjects",
            "inputs": {"clip": ["1", 1], "text": "a photo of a cat and a dog", "subjects": ""},
        },
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 192, "batch_size": batch}},
        "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0], "vae": ["1", 2]}},
        "8": {
            "class_type": "GSNHeatmaps",
            "inputs": {"words": "", "when": "before | after", "opacity": 0.7, "image": ["7", 0]},
        },
        "9": {"class_type": "GSNLossCurve", "inputs": {"after": ["7", 0]}},
    }
    if patch:
        more = {"optimiser": "adam", "stop_early": False, "threshold": 0.2}
        nodes["5"] = {"class_type": "SingleStepIterRef", "inputs": {"model": ["1", 0], **step, **more}}
        nodes["6"] = {"class_type": "KSampler", "inputs": {"model": ["5", 0], **settings}}
    else:
        more = {"method": "paper", "step_size": 20.0}
        nodes["6"] = {"class_type": "GSNKSampler", "inputs": {"model": ["1", 0], **settings, **step, **more}}
    for view in ("8", "9"):
        nodes[view]["inputs"]["trace"] = ["5", 1] if patch else ["6", 2]
    return nodes


def is_sheet(image):
    return image.shape[0] == 1 and image.shape[-1] == 3 and image.dtype == torch.float32 and image.std() > 0.01


@pytest.mark.parametrize("patch", [True, False])
def test_both_views_of_a_run(comfy, patch):
    result = comfy.run(graph(batch=2, patch=patch), ["8", "9", ("9", 1), ("9", 2)]).check()
    assert is_sheet(result["8"]) and is_sheet(result["9"])
    assert len(result["9", 1]["loss"]) == 3  # two iterations and the result
    trace = json.loads(result["9", 2])
    assert trace["labels"] == ["cat", "dog"] and trace["batch"] == 2


def test_both_nodes_preview_their_sheet(comfy):
    result = comfy.run(graph()).check()
    assert result.ui["8"]["images"] and result.ui["9"]["images"]


def test_a_trace_of_a_model_not_yet_sampled_is_refused(comfy):
    for view, socket in (("8", "image"), ("9", "after")):
        nodes = graph()
        del nodes[view]["inputs"][socket], nodes["9" if view == "8" else "8"]
        refused = comfy.run(nodes)
        assert not refused.ok and refused.node_id == view
        assert refused.error.startswith(nodes[view]["class_type"]) and f"'{socket}'" in refused.error


def test_a_run_with_nothing_to_do_is_shown_with_the_reason(comfy):
    result = comfy.run(graph(iterations=0), ["8", "9", ("9", 2), "7"]).check()
    assert is_sheet(result["8"]) and is_sheet(result["9"])
    assert "zero iterations" in json.loads(result["9", 2])["notes"][0]


def test_no_loss_map_without_a_loss(comfy):
    nodes = graph(iterations=0)
    nodes["10"] = {"class_type": "LossGraphNode", "inputs": {"loss": ["9", 1], "filename_prefix": "x"}}
    comfy.extra("nodes_train")
    comfy.run(nodes).check()  # the stock node fails on an empty list, so it must not be asked


def test_the_stock_node_plots_our_loss_map(comfy):
    comfy.extra("nodes_train")
    nodes = graph()
    nodes["10"] = {"class_type": "LossGraphNode", "inputs": {"loss": ["9", 1], "filename_prefix": "x"}}
    assert comfy.run(nodes).check().ui["10"]["images"]


def test_words_and_pictures_are_checked(comfy):
    nodes = graph()
    nodes["8"]["inputs"]["words"] = "cow"
    refused = comfy.run(nodes)
    assert refused.node_id == "8" and "'cow'" in refused.error and "cat, dog" in refused.error
    nodes = graph(batch=2)
    nodes["11"] = {"class_type": "ImageFromBatch", "inputs": {"image": ["7", 0], "batch_index": 0, "length": 1}}
    nodes["8"]["inputs"]["image"] = ["11", 0]
    refused = comfy.run(nodes)
    assert refused.node_id == "8" and "batch size 2, but 1" in refused.error


def test_a_new_seed_draws_a_new_run(comfy):
    session, nodes = comfy.session(), graph()
    first = session.run(nodes, ["8"]).check()["8"]
    nodes["6"]["inputs"]["seed"] = 4
    assert not torch.equal(first, session.run(nodes, ["8"]).check()["8"])
