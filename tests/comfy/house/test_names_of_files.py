"""The names of files that a workflow brings stay inside ComfyUI's folders, and are judged before the disk is asked."""

import os

import pytest

OUTSIDE = {
    "absolute": "/etc/hostname",
    "upwards": "../secret.json",
    "deep upwards": "a/../../secret.json",
    "windows upwards": "..\\secret.json",
    "drive": "C:\\secret.json",
    "drive of its own": "C:secret.json",
    "share": "\\\\host\\share\\secret.json",
    "share in slashes": "//host/share/secret.json",
    "device": "nul.json",
    "device in a folder": "presets/COM1.json",
    "stream": "mine.json:other",
    "long": "a" * 300 + ".json",
    "very long": "a/" * 1000 + "b.json",
    "control character": "mine\x07.json",
    "nothing between": "mine\0.json",
}


TABLE = "step,set,successes,n\n0,a,60,160\n3,a,70,160\n6,a,66,160"
CHOICE = {"scores": TABLE, "file": "", "preset": "paper"}
PICTURE = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
SCORES = dict.fromkeys(("clip_score", "similarities", "text_text", "aesthetic"), False)
SCORES |= {"images": ["i", 0], "prompt": "a cat", "objects": "cat"}
# Every input of a node that takes such a name, which the node is told, and that says nothing else that is wrong.
NAMED = {
    "GSNPreset file": ("GSNPreset", lambda name: {"model": ["1", 0], "preset": "paper", "file": name}),
    "GSNSweep methods": ("GSNSweep", lambda name: {"model": ["1", 0], "methods": name}),
    "GSNStepSelection file": ("GSNStepSelection", lambda name: CHOICE | {"file": name}),
    "GSNStepSelection save_as": ("GSNStepSelection", lambda name: CHOICE | {"save_as": name}),
    "GSNStepSelection preset_file": ("GSNStepSelection", lambda name: CHOICE | {"preset_file": name}),
    "GSNPromptSet file": ("GSNPromptSet", lambda name: {"set": "my own list", "set.file": name, "index": 0}),
    "GSNTIAMScore detections": (
        "GSNTIAMScore", lambda name: {"image": ["i", 0], "detector": "JSON", "detector.detections": name,
                                      "detector.threshold": 0.25, "prompt": "a [cat]"},
    ),
    "GSNImageScores clip_folder": (
        "GSNImageScores", lambda name: SCORES | {"clip_score": True, "clip_folder": name}),
    "GSNImageScores blip_folder": (
        "GSNImageScores", lambda name: SCORES | {"text_text": True, "blip_folder": name}),
    "GSNImageScores aesthetic_folder": (
        "GSNImageScores", lambda name: SCORES | {"aesthetic": True, "aesthetic_folder": name}),
}  # fmt: skip


@pytest.mark.parametrize("named", NAMED)
def test_a_node_refuses_a_name_that_leads_out(comfy, named):
    kind, inputs = NAMED[named]
    for name in OUTSIDE.values():
        nodes = {
            "1": {"class_type": "ToyModel", "inputs": {"family": "sd_xs", "seed": 0}},
            "i": {"class_type": "EmptyImage", "inputs": PICTURE},
            "x": {"class_type": kind, "inputs": inputs(name)},
        }
        result = comfy.run(nodes, ["x"])
        assert not result.ok and kind in f"{result.error}{result.node_type}", name
        no_name = kind == "GSNSweep" and not name.endswith(".json")  # there it is read as a method's
        said = ("there is no method",) if no_name else ("outside", "is no file in")
        assert any(one in result.error for one in said), (name, result.error)


def test_every_node_that_takes_such_a_name_is_here(comfy):
    """By what their tooltips say: an input that speaks of a file or a folder of ComfyUI's."""
    found = set()
    for module in comfy.pack().MODULES if hasattr(comfy.pack(), "MODULES") else comfy.pack("nodes").MODULES:
        for node in module.NODES:
            found |= {f"{node.define_schema().node_id} {one}" for one in _naming(node.define_schema().inputs)}
    assert found == set(NAMED)


def _naming(inputs):
    for one in inputs:
        tooltip = (one.tooltip or "") if getattr(one, "io_type", "") == "STRING" else ""
        if "input folder" in tooltip or "gsn_metrics" in tooltip:
            yield one.id
        for option in getattr(one, "options", None) or ():
            yield from _naming(getattr(option, "inputs", ()))


@pytest.mark.parametrize("case", OUTSIDE)
def test_below(comfy, tmp_path, case, monkeypatch):
    """Nothing is looked up on the way: on Windows a share's name alone would make a call to its host."""
    files = comfy.pack("gsn.host.files")
    with monkeypatch.context() as patch:
        for name in ("stat", "lstat", "readlink", "scandir", "listdir"):
            patch.setattr(os, name, lambda *args, **more: pytest.fail("the disk was asked"))
        found = files.below(str(tmp_path), OUTSIDE[case])
    assert found is None


def test_names_that_stay_inside(comfy, tmp_path):
    below = comfy.pack("gsn.host.files").below
    inside = ("mine.json", "presets/mine.json", " mine.json ", "a/./b/../mine.json", "münchen ❤.json", "nullify.json")
    for name in inside:
        found = below(tmp_path, name)
        assert found is not None and tmp_path in found.parents
    assert below(tmp_path, "presets\\mine.json") == tmp_path / "presets" / "mine.json"  # written on Windows
    assert below(tmp_path, "") is None


def test_links_of_the_owner_are_followed(comfy, tmp_path):
    """As ComfyUI does: no workflow can make one."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.json").write_text("{}")
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "presets").symlink_to(elsewhere)
    assert comfy.pack("gsn.host.files").below(tmp_path / "input", "presets/mine.json").read_text() == "{}"
