"""Every name of ComfyUI's that the pack uses, read from its code, and whether the ComfyUI at hand has it.

`python -m lab.tools.symbols` prints the list. Checking needs ComfyUI on sys.path and takes seconds, where running
everything takes a quarter of an hour; it finds what was renamed or lost a parameter, not what changed its meaning.
"""

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .environment import COMFYUI, ROOT

PACKAGES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "node_helpers",
            "server", "nodes")  # fmt: skip
_FOLDERS = ("get_folder_paths", "get_filename_list", "get_full_path")  # functions of folder_paths that take a key


@dataclass
class Use:
    """How a dotted name is used: where, and with which keywords it is called."""

    places: list[str] = field(default_factory=list)
    keywords: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)  # of folders


def used(root: Path = ROOT) -> dict[str, Use]:
    """By dotted name, as `comfy.model_management.get_torch_device`."""
    found: dict[str, Use] = defaultdict(Use)
    for path in (root / "__init__.py", *sorted((root / "gsn").rglob("*.py")), *sorted((root / "nodes").rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = _imported(tree)
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            dotted = None if id(node) in inner else _dotted(node, names)
            if dotted is None:
                continue
            use, call = found[dotted], calls.get(id(node))
            use.places.append(f"{path.relative_to(root)}:{node.lineno}")
            if call is not None:
                use.keywords |= {one.arg for one in call.keywords if one.arg}
                if dotted.rpartition(".")[2] in _FOLDERS and call.args and isinstance(call.args[0], ast.Constant):
                    use.keys.add(call.args[0].value)
    return dict(found)


def missing(uses: dict[str, Use]) -> list[str]:
    """What the ComfyUI on sys.path lacks, in words."""
    return sorted(said for dotted, use in uses.items() for said in _lacks(dotted, use))


def _lacks(dotted: str, use: Use) -> Iterator[str]:
    where = f"used in {', '.join(use.places[:3])}; ComfyUI {COMFYUI}, which this pack is made with, has it"
    try:
        value = _value(dotted)
    except (ImportError, AttributeError) as error:
        yield f"{dotted} is not there ({error}): {where}"
        return
    unknown = use.keywords - _parameters(value) if use.keywords else set()
    for name in sorted(unknown):
        yield f"{dotted} takes no '{name}': {where}"
    for key in sorted(use.keys - set(getattr(importlib.import_module("folder_paths"), "folder_names_and_paths", {}))):
        yield f"{dotted} knows no folder '{key}': {where}"


def _value(dotted: str) -> object:
    parts = dotted.split(".")
    value, depth = importlib.import_module(parts[0]), 1
    while depth < len(parts):
        try:
            value = getattr(value, parts[depth])
        except AttributeError:
            value = importlib.import_module(".".join(parts[: depth + 1]))
        depth += 1
    return value


def _parameters(value: object) -> set[str]:
    """All names where it takes any, or does not say."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return _Any()
    return _Any() if any(one.kind is one.VAR_KEYWORD for one in parameters) else {one.name for one in parameters}


class _Any(set):
    def __rsub__(self, other: set) -> set:
        return set()


def _imported(tree: ast.Module) -> dict[str, str]:
    """What a name of the file stands for, of ComfyUI's."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                if one.name.split(".")[0] in PACKAGES:
                    names[one.asname or one.name.split(".")[0]] = one.name if one.asname else one.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in PACKAGES:
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id) if isinstance(node.ctx, ast.Load) else None
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value, names)) is not None:
        return f"{base}.{node.attr}"
    return None


if __name__ == "__main__":
    for name, use in sorted(used().items()):
        more = [f"{one}=" for one in sorted(use.keywords)] + [f"'{one}'" for one in sorted(use.keys)]
        print(f"{name}({', '.join(more)})" if more else name, *use.places, sep="\t")
