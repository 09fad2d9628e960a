"""What the editor shows of a node: whether anything is connected to an output, and the text below it."""

from __future__ import annotations

from comfy_execution.graph_utils import is_link
from server import PromptServer


def output_connected(prompt: dict | None, node_id: str, slot: int) -> bool:
    """Whether any node of an API-format prompt reads this output."""
    wanted = [str(node_id), slot]
    links = (value for node in (prompt or {}).values() for value in node.get("inputs", {}).values() if is_link(value))
    return any([str(link[0]), link[1]] == wanted for link in links)


def output_connected_now(node_id: str, slot: int) -> bool:
    """The same for the prompts being executed; caching asks before a node is told its prompt."""
    queue = getattr(PromptServer.instance, "prompt_queue", None)
    running = getattr(queue, "currently_running", None) or {}
    return any(output_connected(item[2], node_id, slot) for item in running.values())


def show(node_id: str, text: str) -> None:
    """Text below a node while it is being executed."""
    PromptServer.instance.send_progress_text(text, node_id)
