"""GSNBlockProbe through ComfyUI's own executor: on the demo model, on toys, and what it refuses."""

import pytest
import torch

from .. import zoo_graphs as zoo
from ..foreign import foreign
from ..graphs import graph


def probe(nodes, **inputs):
    """The graph with the probe in its sampler's place."""
    settings = nodes["out"]["inputs"]
    nodes["b"] = {"class_type": "GSNBlockProbe", "inputs": settings | {"at_steps": "", "keep": 3} | inputs}
    return nodes


def demo(text="a photo of a cat and a carrot", **sampler):
    nodes = graph(text=text, steps=6, sampler_name="ddpm", scheduler="ddim_uniform", **sampler)
    nodes["1"] = {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}}
    nodes["4"]["inputs"].update(width=128, height=128, batch_size=2)
    return nodes


def capture_with(nodes, blocks):
    """The graph with AttentionCapture reading these blocks at the first step."""
    inputs = {"blocks": blocks, "resolution": "auto", "columns": "auto", "record_steps": "0"}
    nodes["c"] = {"class_type": "AttentionCapture", "inputs": {"model": ["1", 0], **inputs}}
    nodes["out"]["inputs"]["model"] = ["c", 0]
    return nodes


@pytest.mark.parametrize("which", ["demo", "sd3_both", "flux_dev", "sdxl"])
def test_ranking_and_a_text_that_capture_accepts(comfy, which):
    make = demo if which == "demo" else lambda: zoo.graph(which)
    result = comfy.run(probe(make(), keep=2), ["out", ("b", 0), ("b", 1), ("b", 2)]).check()
    sheet, blocks, table = (result["b", slot] for slot in range(3))
    assert sheet.dim() == 4 and sheet.shape[-1] == 3
    rows = [line.split() for line in table.splitlines()[1:]]
    model = comfy.run(make(), [("1", 0)]).check()["1", 0].model
    layers = comfy.pack("gsn.host.families").family_of(model, "test").layers(model)
    assert len(rows) == len({(layer.part, layer.number) for layer in layers})
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True) and 0 <= scores[-1] <= scores[0] <= 1
    ranges = comfy.pack("gsn.attention.block_ranges").parse_blocks(blocks)
    assert sum(len(one.named()) for one in ranges) == 2
    captured = comfy.run(capture_with(make(), blocks), ["out", ("c", 1)]).check()
    assert captured["c", 1].trace.kept and torch.equal(captured["out"]["samples"], result["out"]["samples"])


def test_each_block_is_seen_as_capture_sees_it_alone(comfy):
    """The table's numbers are those of AttentionCapture's maps of one block, on the same latent."""
    scores = comfy.pack("gsn.attention.block_scores")
    table = comfy.run(probe(zoo.graph("sd15"), at_steps="0"), [("b", 2)]).check()["b", 2]
    rows = {row[1]: row for row in (line.split() for line in table.splitlines()[1:])}
    for block in ("in1", "mid0", "out11"):
        maps = comfy.run(capture_with(zoo.graph("sd15"), block), ["out", ("c", 1)]).check()["c", 1].trace.kept[0].maps
        assert float(rows[block][3]) == pytest.approx(float(scores.separation(maps).mean()), abs=1e-3)
        assert float(rows[block][4]) == pytest.approx(float(scores.concentration(maps).mean()), abs=1e-3)
        assert rows[block][5:] == [str(maps.shape[3]), "x", str(maps.shape[2])]


def test_it_is_a_plain_run_that_leaves_out_our_other_nodes(comfy):
    refine = [("SingleStepIterRef", {"step": 0, "step_unit": "index", "iterations": 5, "lr": 0.1})]
    tables = [
        comfy.run(probe(zoo.graph("sd3_both", patch), at_steps="1, 3"), [("b", 2)]).check()["b", 2]
        for patch in ([], refine)
    ]
    assert tables[0] == tables[1]


def test_weights_without_a_derivative(comfy, monkeypatch):
    wanted = comfy.run(probe(zoo.graph("sd3_both")), [("b", 2)]).check()["b", 2]
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", foreign(comfy))
    assert comfy.run(probe(zoo.graph("sd3_both")), [("b", 2)]).check()["b", 2] == wanted


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: probe(graph(text="a photo of a cat", subjects="cat")), "one (cat)"),
        (lambda: probe(zoo.graph("sd15", subjects=False)), "names no subjects"),
        (lambda: probe(demo(), at_steps="99"), "past the end"),
        (lambda: probe(demo(), at_steps="ten"), "cannot read the step"),
    ],
)
def test_refusals_name_the_node_and_come_before_sampling(comfy, make, words):
    result = comfy.run(make(), [("b", 1)])
    assert not result.ok and "GSNBlockProbe" in result.error and words in result.error, result.error


def test_a_positive_without_subjects_is_refused(comfy):
    nodes = probe(demo())
    nodes["2"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a cat and a carrot"}}
    result = comfy.run(nodes, [("b", 1)])
    assert not result.ok and "GSNBlockProbe" in result.error and "GSNSubjects" in result.error
