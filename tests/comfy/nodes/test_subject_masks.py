"""GSNSubjects with masks, through ComfyUI's own executor."""

from ..graphs import graph, refine


def masked(text):
    """The demo model; one mask, of the left half of the picture."""
    nodes = graph([refine(loss=["l", 0], iterations=6)], text=text, steps=8, seed=0)
    nodes["1"] = {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}}
    nodes["4"]["inputs"].update(width=64, height=64, batch_size=1)
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": "box_retention", "weight": 1.0}}
    nodes["w"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 64, "height": 64}}
    nodes["h"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 32, "height": 64}}
    both = {"destination": ["w", 0], "source": ["h", 0], "x": 0, "y": 0, "operation": "add"}
    nodes["m"] = {"class_type": "MaskComposite", "inputs": both}
    nodes["2"]["inputs"]["masks"] = ["m", 0]
    return nodes


def test_a_mask_without_a_box_is_what_box_retention_works_on(comfy):
    result = comfy.run(masked("a photo of a cat"), ["out", ("p0", 1), ("2", 2)]).check()
    trace = result["p0", 1].trace
    assert trace.records[-1].loss[0] < trace.records[0].loss[0] - 0.01
    share = [float(one.maps[0, 0, :, : one.maps.shape[-1] // 2].sum() / one.maps[0, 0].sum()) for one in trace.kept]
    assert share[1] > share[0]  # before and after
    assert "mask of cat: 50% of the picture" in result["2", 2]


def test_another_number_of_masks_is_refused(comfy):
    result = comfy.run(masked("a photo of a cat and a dog"), ["out"])
    assert not result.ok and result.node_type == "GSNSubjects"
    assert "'masks' has 1 masks, and the prompt has 2 subjects (cat, dog)" in result.error
