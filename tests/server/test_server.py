"""What a user's server and browser make of the pack."""

import io
import json
import random
import time

import pytest
from PIL import Image

from gsn.methods.preset_file import to_json
from gsn.methods.presets import PRESETS
from lab.tools.environment import PACK, ROOT
from lab.tools.server import ServerError
from lab.tools.ui_to_api import ui_to_api

from ..comfy.graphs import graph, refine
from ..short_presets import shortened

SCHEMA = ROOT / "tests" / "schema.json"
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
ids = pytest.mark.parametrize("template", TEMPLATES, ids=lambda p: p.stem)


def our_nodes(object_info):
    found = {k: v for k, v in object_info.items() if v["python_module"] == f"custom_nodes.{PACK}"}
    assert found, "the server did not load the pack"
    return found


def test_the_server_offers_every_node_of_the_frozen_schema(object_info):
    assert set(our_nodes(object_info)) == set(json.loads(SCHEMA.read_text()))


def test_every_node_and_input_explains_itself(object_info):
    silent = []
    for node_id, node in our_nodes(object_info).items():
        if not node["description"]:
            silent.append(node_id)
        for group in ("required", "optional"):
            for name, spec in node["input"].get(group, {}).items():
                if not (len(spec) > 1 and spec[1].get("tooltip")):
                    silent.append(f"{node_id}.{name}")
    assert not silent


def test_every_node_has_a_help_page(server, object_info):
    bad = []
    for node_id in our_nodes(object_info):
        try:
            page = server.fetch(f"/extensions/{PACK}/docs/{node_id}.md").decode()
        except OSError as e:
            page = str(e)
        if not (page.startswith("#") and len(page) > 200):
            bad.append(f"{node_id}: {page[:40]!r}")
    assert not bad


def test_templates_are_listed_with_a_picture(server):
    listed = server.get("/api/workflow_templates")[PACK]
    assert TEMPLATES and sorted(listed) == [p.stem for p in TEMPLATES]
    for template in TEMPLATES:
        assert template.with_suffix(".jpg").exists(), f"{template.stem} has no thumbnail"


def test_the_pack_is_the_registrys_package_and_makes_a_picture(environment, server, object_info):
    """Nothing of the repository but what `.comfyignore` leaves is there, and the shortest template needs no more."""
    pack = environment.base / "custom_nodes" / PACK
    assert our_nodes(object_info) and not pack.is_symlink() and (pack / "pyproject.toml").is_file()
    assert not any((pack / name).exists() for name in ("lab", "tests", "dev.py", ".git"))
    workflow = json.loads((ROOT / "workflows" / "gsn_two_nodes.json").read_text())
    prompt = ui_to_api(workflow, object_info)
    (sampler,) = (one["inputs"] for one in prompt.values() if one["class_type"] == "KSampler")
    (refinement,) = (one["inputs"] for one in prompt.values() if one["class_type"] == "SingleStepIterRef")
    sampler["steps"], refinement["iterations"] = 20, 2
    outputs = server.run(prompt, timeout=600)
    (made,) = (one["images"] for one in outputs.values() if one.get("images"))
    for entry in made:
        with Image.open(io.BytesIO(server.image(entry))) as picture:
            assert min(picture.size) >= 128 and any(low < high for low, high in picture.convert("RGB").getextrema())


# 25 steps: the latest step that a template refines is 24
SMALL = {"width": 128, "height": 128, "batch_size": 1, "iterations": 3, "steps": 25, "set.count": 2}
SMALL |= {"rounds": 2, "last_iterations": 6, "candidates": 4}


def short_file(environment, name):
    """The preset of this name with few iterations; the tests inside ComfyUI run every preset by its name."""
    file = f"short {name}.json"
    content = shortened(json.loads(to_json(PRESETS[name])), 3)
    (environment.base / "input" / file).write_text(json.dumps(content))
    return file


@ids
def test_a_template_runs(template, server, environment, object_info):
    """As it is, but small; a tiny file lies under the name of the checkpoint that the third one loads."""
    prompt = ui_to_api(json.loads(template.read_text()), object_info)
    for node in prompt.values():
        for name, most in SMALL.items():
            if isinstance(node["inputs"].get(name), int):
                node["inputs"][name] = min(node["inputs"][name], most)
        if node["class_type"] == "GSNPreset":
            node["inputs"]["file"] = short_file(environment, node["inputs"]["preset"])
    outputs = server.run(prompt, timeout=600)
    savers = [n for n, node in prompt.items() if object_info[node["class_type"]].get("output_node")]
    assert set(savers) <= set(outputs)


@ids
def test_our_conversion_is_the_editors(template, page, object_info):
    """ui_to_api gives what the real editor queues, so the demo runs what a user runs."""
    workflow = json.loads(template.read_text())
    theirs = page.js(
        f"(async () => {{ await app.loadGraphData({json.dumps(workflow)}); "
        "return (await app.graphToPrompt()).output; })()"
    )
    ours = ui_to_api(workflow, object_info)
    assert {k: v["class_type"] for k, v in ours.items()} == {k: v["class_type"] for k, v in theirs.items()}
    for node_id, node in ours.items():
        assert node["inputs"] == theirs[node_id]["inputs"], f"node {node_id} ({node['class_type']})"


@ids
def test_a_template_survives_the_editor(template, page, object_info):
    """Loaded and saved again by the editor: the same nodes, links and widget values."""
    workflow = json.loads(template.read_text())
    load = f"await app.loadGraphData({json.dumps(workflow)})"
    again = page.js(f"(async () => {{ {load}; return app.graph.serialize(); }})()")
    assert {n["id"]: n["type"] for n in again["nodes"]} == {n["id"]: n["type"] for n in workflow["nodes"]}
    assert len(again["links"]) == len(workflow["links"])
    assert ui_to_api(again, object_info) == ui_to_api(workflow, object_info)


def test_the_editor_draws_every_node(page, object_info):
    """Each node can be made in the editor, with the sockets and widgets that the schema promises."""
    for node_id, node in our_nodes(object_info).items():
        made = page.js(
            f"(() => {{ const n = LiteGraph.createNode({json.dumps(node_id)}); if (!n) return null; "
            "return {outputs: (n.outputs || []).map(o => o.type)}; })()"
        )
        assert made, f"the editor does not know {node_id}"
        assert made["outputs"] == node["output"]


def toy_prompt(patch, seed):
    """A toy model's picture, saved."""
    nodes = graph(patch, seed=seed)
    nodes["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["out", 0], "vae": ["1", 2]}}
    nodes["save"] = {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "interrupt"}}
    return nodes


def toy_pictures(server, seed):
    saved = server.run(toy_prompt([], seed))["save"]["images"]
    return [Image.open(io.BytesIO(server.image(entry))).tobytes() for entry in saved]


def test_an_interrupt_at_a_random_iteration_leaves_the_next_plain_run_unchanged(server):
    plain = toy_pictures(server, 1)
    toy_pictures(server, 2)  # so that the same picture afterwards is not the cache's
    queued = server.queue(toy_prompt([refine(iterations=1000)], 1))  # some milliseconds each
    while not server.get("/queue")["queue_running"]:
        time.sleep(0.05)
    delay = random.uniform(0.5, 3.0)
    print(f"POST /interrupt {delay:.2f} s after the start")
    time.sleep(delay)
    began = time.monotonic()
    server.post("/interrupt", {})
    with pytest.raises(ServerError, match="interrupted"):
        server.wait(queued, timeout=60)
    assert time.monotonic() - began < 20
    assert toy_pictures(server, 1) == plain
