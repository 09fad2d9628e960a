"""The public schema is frozen: workflows store widget values by position and sockets by index.

`python dev.py test --update-schema tests/comfy/nodes/test_schema.py` rewrites tests/schema.json; in its diff only
new nodes, and inputs or outputs appended at the end, are harmless to saved workflows.
"""

import json
import os
from pathlib import Path

FROZEN = Path(__file__).resolve().parents[2] / "schema.json"
NODE_API = {"AttentionCapture", "GSNLoss", "SingleStepIterRef", "GSNGuidance"}  # named so by the project


def schema(node):
    """What a saved workflow depends on. A choice's options count; tooltips, ranges and defaults do not."""
    found = {"inputs": {}, "outputs": []}
    definition = node.INPUT_TYPES()
    for group in ("required", "optional"):
        for name, spec in definition.get(group, {}).items():
            found["inputs"][name] = f"{kind(spec)}{'' if group == 'required' else '?'}"
            found["inputs"].update(options(name, spec))
    names = node.RETURN_NAMES or node.RETURN_TYPES
    found["outputs"] = [f"{name}: {kind}" for name, kind in zip(names, node.RETURN_TYPES, strict=True)]
    return found


def kind(spec):
    return "COMBO" if isinstance(spec[0], list) else str(spec[0])


def options(name, spec):
    """The inputs that a dynamic choice opens, below its own name."""
    if kind(spec) != "COMFY_DYNAMICCOMBO_V3":
        return {}
    found = {}
    for option in spec[1]["options"]:
        for group in ("required", "optional"):
            for inner, inner_spec in option["inputs"].get(group, {}).items():
                mark = "" if group == "required" else "?"
                found[f"{name}={option['key']}.{inner}"] = kind(inner_spec) + mark
    return found


def live(comfy):
    nodes = [node for module in comfy.pack().MODULES for node in module.NODES]
    return {node.GET_SCHEMA().node_id: schema(node) for node in nodes}


def test_the_schema_is_the_frozen_one(comfy):
    now = live(comfy)
    if os.environ.get("GSN_UPDATE_SCHEMA"):
        FROZEN.write_text(json.dumps(now, indent=2) + "\n")
    frozen = json.loads(FROZEN.read_text())
    assert set(now) == set(frozen)
    for node_id, was in frozen.items():
        is_now = now[node_id]
        # lists, because the order is part of the promise
        assert list(is_now["inputs"].items()) == list(was["inputs"].items()), node_id
        assert is_now["outputs"] == was["outputs"], node_id


def test_ids_are_prefixed_and_loaded(comfy):
    for node_id in live(comfy):
        assert node_id.startswith("GSN") or node_id in NODE_API
        assert node_id in comfy.nodes.NODE_CLASS_MAPPINGS


def test_every_node_and_input_explains_itself(comfy):
    silent = []
    for module in comfy.pack().MODULES:
        for node in module.NODES:
            schema = node.GET_SCHEMA()
            if not (schema.description and schema.display_name and schema.category and schema.search_aliases):
                silent.append(schema.node_id)
            silent += [f"{schema.node_id}.{i.id}" for i in schema.inputs if not i.tooltip]
    assert not silent
