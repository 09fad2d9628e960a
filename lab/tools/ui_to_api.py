"""Turns a workflow as the editor saves it into the prompt that the server's /prompt takes.

The editor does this in the browser. The differences it bridges: the editor stores widget values by position
and links by number, and holds nodes that the server never sees (notes, reroutes, primitives, muted and
bypassed nodes). The node definitions come from the server's /object_info. Subgraphs are refused: our
templates do not use them.
"""

import re

MUTED, BYPASSED = 2, 4
FRONTEND_ONLY = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "COLOR", "CURVE"}
WIDGET_TYPES |= {"RANGE", "BOUNDING_BOX", "BOUNDING_BOXES", "IMAGECOMPARE"}
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
UPLOAD_BUTTONS = ("image", "video", "audio")  # a button counts as a widget; this is its value
UPLOADS = ("image_upload", "video_upload", "audio_upload", "animated_image_upload")


def ui_to_api(workflow, object_info):
    """{node id: {class_type, inputs, _meta}} for every node that runs."""
    if workflow.get("definitions", {}).get("subgraphs"):
        raise ValueError("this workflow uses subgraphs, which this converter does not expand")
    graph = _Graph(workflow)
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in FRONTEND_ONLY or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise ValueError(f"node {node['id']}: the server has no node called {node['type']}")
        info = object_info[node["type"]]
        inputs = _widget_values(node, info)
        for entry in node.get("inputs", []):
            if entry.get("link") is None:
                continue
            source = graph.source(entry["link"])
            if source is not None:
                inputs[entry["name"]] = source
            elif not entry.get("widget"):
                inputs.pop(entry["name"], None)
        title = node.get("title") or info.get("display_name") or node["type"]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return prompt


class _Graph:
    def __init__(self, workflow):
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        self.links = {}
        for link in workflow.get("links", []):
            if isinstance(link, dict):
                self.links[link["id"]] = (link["origin_id"], link["origin_slot"], link["type"])
            else:
                self.links[link[0]] = (link[1], link[2], link[5])

    def source(self, link_id):
        """What a link carries: [node id, slot], a primitive's value, or None when its source does not run."""
        if link_id not in self.links:
            return None
        node_id, slot, kind = self.links[link_id]
        node = self.nodes[node_id]
        mode = node.get("mode", 0)
        if mode == MUTED:
            return None
        if node["type"] == "PrimitiveNode":
            return (node.get("widgets_values") or [None])[0]
        if node["type"] == "Reroute" or mode == BYPASSED:
            through = self._bypass(node, slot, kind)
            return None if through is None else self.source(through)
        return [str(node_id), slot]

    @staticmethod
    def _bypass(node, slot, kind):
        """What a bypassed node passes on: the input opposite the output if types agree, else the first."""
        inputs = node.get("inputs", [])
        if node["type"] == "Reroute":
            return inputs[0].get("link") if inputs else None
        outputs = node.get("outputs", [])
        kind = outputs[slot]["type"] if slot < len(outputs) else kind
        candidates = inputs[slot : slot + 1] + inputs
        for entry in candidates:
            if entry.get("link") is not None and (entry["type"] == kind or "*" in (entry["type"], kind)):
                return entry["link"]
        return None


def _widget_values(node, info):
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        names = [name for name, _ in _inputs(info["input"], info.get("input_order"))]
        return {name: values[name] for name in names if name in values}
    ui_widgets = {e["widget"]["name"] for e in node.get("inputs", []) if e.get("widget")}
    queue = list(values)
    found = {}
    _take(info["input"], info.get("input_order"), "", queue, ui_widgets, found, node)
    if queue:
        raise ValueError(f"node {node['id']} ({node['type']}): widget values left over: {queue}")
    return found


def _inputs(definition, order=None):
    """(name, spec) pairs, required before optional, in the order of the schema."""
    for group in ("required", "optional"):
        specs = definition.get(group) or {}
        names = (order or {}).get(group) or list(specs)
        yield from ((name, specs[name]) for name in names)


def _take(definition, order, prefix, queue, ui_widgets, found, node):
    """Takes each widget's value from the front of `queue`, in the order in which the editor makes widgets."""
    for name, spec in _inputs(definition, order):
        kind, options = spec[0], (spec[1] if len(spec) > 1 else {}) or {}
        full = prefix + name
        if not _is_widget(kind, options) and full not in ui_widgets:
            continue
        if not queue and "default" in options:  # saved before this input was appended; the editor does the same
            found[full] = options["default"]
            continue
        if not queue:
            raise ValueError(f"node {node['id']} ({node['type']}): no widget value for {full}")
        value = found[full] = queue.pop(0)
        if _has_control(kind, name, options) and queue and queue[0] in AFTER_GENERATE:
            queue.pop(0)
        if any(options.get(upload) for upload in UPLOADS) and queue[:1] and queue[0] in UPLOAD_BUTTONS:
            queue.pop(0)
        if kind == "COMFY_DYNAMICCOMBO_V3":
            chosen = next((o for o in options["options"] if o["key"] == value), None)
            if chosen is None:
                raise ValueError(f"node {node['id']} ({node['type']}): {full} has no option {value!r}")
            _take(chosen["inputs"], None, full + ".", queue, ui_widgets, found, node)


def _is_widget(kind, options):
    if options.get("forceInput") or options.get("rawLink"):
        return False
    return isinstance(kind, list) or bool(WIDGET_TYPES & set(re.split(r",\s*", kind)))


def _has_control(kind, name, options):
    """Seeds are followed by a widget that says what happens to them after each run."""
    if options.get("control_after_generate"):
        return True
    return kind == "INT" and name in ("seed", "noise_seed") and "control_after_generate" not in options
