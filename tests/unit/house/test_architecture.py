"""The house's walls: who may import whom, and how long a shell may be. See CONTRIBUTING.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PURE = sorted(p for p in (ROOT / "gsn").rglob("*.py") if "host" not in p.relative_to(ROOT / "gsn").parts)
HOST = sorted((ROOT / "gsn" / "host").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
# What only a running ComfyUI has.
COMFYUI = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "comfy_aimdo", "comfy_kitchen"}
COMFYUI |= {"folder_paths", "latent_preview", "node_helpers", "execution", "server"}
# Brought by ComfyUI but not part of it: what the pure rooms may use.
THIRD_PARTY = {"torch", "numpy", "scipy", "einops", "PIL", "safetensors"}
# Optional or slow to import: only inside functions of gsn/metrics, so that loading the pack does not pay for them.
WHEN_USED = {"mediapipe", "onnxruntime", "transformers", "huggingface_hub"}
# The floors, from the top; a room imports from those below it and from GROUND, which import from no room.
FLOORS = (
    "nodes", "gsn.host", "gsn.pictures", "gsn.selection", "gsn.methods", "gsn.interventions", "gsn.losses",
    "gsn.attention", "gsn.text",
)  # fmt: skip
GROUND = ("gsn.metrics", "gsn.trace")
HOST_FLOORS = tuple(f"gsn.host.{room}" for room in ("scores", "sampling", "attention", "gradient", "families"))


def name(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """(line, dotted name) of every import. A relative one is resolved, and starts with a slash: /gsn.attention.maps."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            target = ("/" if node.level else "") + ".".join([*base, *filter(None, [node.module])])
            # `from . import x` names modules; listing both keeps the check simple
            yield node.lineno, target
            joint = "" if target.endswith("/") else "."
            yield from ((node.lineno, f"{target}{joint}{alias.name}") for alias in node.names)


def offending(paths, forbidden):
    found = [(name(p), line, target) for p in paths for line, target in imports(p) if forbidden(target)]
    return [f"{where}:{line} imports {target}" for where, line, target in found]


def below(*rooms):
    return lambda target: any(target == room or target.startswith(room + ".") for room in rooms)


def test_pure_modules_import_with_comfyui_absent():
    """In a process of its own, where ComfyUI's modules, the optional extras and scipy, of which half a second of import
    is only owed by what uses it, are made impossible to import."""
    script = f"""
import importlib, importlib.util, sys
for name in {sorted(COMFYUI | WHEN_USED | {"scipy"})!r}:
    sys.modules[name] = None
spec = importlib.util.spec_from_file_location("gsn", {str(ROOT / "gsn" / "__init__.py")!r},
                                              submodule_search_locations=[{str(ROOT / "gsn")!r}])
sys.modules["gsn"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["gsn"])
for module in {[".".join(p.relative_to(ROOT).with_suffix("").parts) for p in PURE]!r}:
    importlib.import_module(module.removesuffix(".__init__"))
assert not [m for m in sys.modules if m.startswith("gsn.host")], "a pure module imported gsn.host"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def test_pure_rooms_do_not_know_comfyui():
    """`import nodes` is ComfyUI's own module; ours could only be reached by a relative import."""
    assert not offending(PURE, below(*COMFYUI, "nodes"))


def within(paths, room):
    place = ROOT.joinpath(*room.split("."))
    return [path for path in paths if place in path.parents or path == place.with_suffix(".py")]


@pytest.mark.parametrize(("floors", "ground"), [(FLOORS, GROUND), (HOST_FLOORS, ())], ids=["house", "host"])
def test_arrows_go_down_only(floors, ground):
    """nodes -> host -> pictures -> selection -> methods -> interventions -> losses -> attention -> text, and metrics
    and the trace at the ground; inside the host scores -> sampling -> attention -> gradient -> families."""
    paths = [*PURE, *HOST, *NODES]
    for number, room in enumerate(floors):
        above = [f"/{one}" for one in floors[:number]]
        assert within(paths, room), f"the room {room} is empty"
        assert not offending(within(paths, room), below(*above)), f"{room} is below {', '.join(above)}"
    for room in ground:
        assert not offending(within(paths, room), below(*(f"/{one}" for one in {*floors, *ground} - {room})))


def test_what_several_rooms_of_the_host_use_knows_none_of_them_but_the_families():
    """The files beside the host's rooms: errors, files, the demo models, tokens, preset files."""
    beside = [path for path in HOST if path.parent == ROOT / "gsn" / "host"]
    assert len(beside) > 4 and not offending(beside, below(*(f"/{room}" for room in HOST_FLOORS[:-1])))


def test_every_file_of_the_pack_lies_in_a_room():
    rooms = [*FLOORS, *GROUND]
    strays = {p for p in [*PURE, *NODES, *HOST]} - {p for room in rooms for p in within([*PURE, *NODES, *HOST], room)}
    assert [name(p) for p in strays] == ["gsn/__init__.py"]


def test_every_room_says_what_belongs_there():
    for path in [*PURE, *NODES, *HOST, *sorted((ROOT / "lab").rglob("*.py"))]:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), f"{name(path)} says nothing"


def test_only_declared_third_parties_in_pure_rooms():
    allowed = {*sys.stdlib_module_names, *THIRD_PARTY}
    metrics = [path for path in PURE if path.parent.name == "metrics"]
    for paths, third in ((set(PURE) - set(metrics), allowed), (metrics, allowed | WHEN_USED)):
        assert not offending(paths, lambda name, third=third: name[0] != "/" and name.split(".")[0] not in third)


def test_nodes_touch_comfyui_only_through_its_node_api_and_the_host():
    """What a node says to the executor is comfy_api and comfy_execution; ComfyUI's insides are gsn/host's."""
    insides = COMFYUI - {"comfy_api", "comfy_execution"} | {"nodes"}
    assert not offending(NODES, below(*insides))


def test_imports_inside_the_pack_are_relative():
    """An absolute `import gsn` is a second copy, or another pack's module of that name."""
    assert not offending([*PURE, *HOST, *NODES, ROOT / "__init__.py"], below("gsn"))


def test_the_pack_does_not_know_what_makes_and_tests_it():
    """The registry's package has neither."""
    assert not offending([*PURE, *HOST, *NODES, ROOT / "__init__.py"], below("lab", "/lab", "tests", "/tests", "dev"))


def test_the_entry_point_is_short():
    text = (ROOT / "__init__.py").read_text()
    assert len(text.splitlines()) <= 40
    body = ast.parse(text).body
    quiet = (ast.Expr, ast.ImportFrom, ast.Assign, ast.ClassDef, ast.AsyncFunctionDef)  # nothing that acts
    assert all(isinstance(statement, quiet) for statement in body)


@pytest.mark.parametrize("path", NODES, ids=name)
def test_node_bodies_are_wiring(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "execute":
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            length = node.end_lineno - first.lineno + 1
            where = f"{name(path)}:{node.lineno}"
            assert length <= 25, f"{where}: {length} lines; move the work to gsn/ or gsn/host/"


def test_every_node_module_exports_its_nodes():
    shared = {"__init__", "inputs", "sockets"}
    for path in NODES:
        if path.stem in shared:
            continue
        statements = [s for s in ast.parse(path.read_text()).body if isinstance(s, ast.Assign)]
        assert "NODES" in [t.id for s in statements for t in s.targets if isinstance(t, ast.Name)], name(path)


def test_the_oldest_comfyui_is_the_same_everywhere():
    from gsn.host.version import OLDEST
    from lab.tools import environment

    assert f'requires-comfyui = ">={OLDEST}.0"' in (ROOT / "pyproject.toml").read_text()
    assert tuple(map(int, OLDEST.split("."))) == environment.OLDEST


@pytest.mark.parametrize("version", ["0.20.1", "0.23.9", None, "0.24.0", "0.30.0", "1.0"])
def test_an_older_comfyui_is_told_so_in_one_sentence(monkeypatch, version):
    from types import ModuleType

    from gsn.host.version import check_version

    module = ModuleType("comfyui_version")
    if version is not None:
        module.__version__ = version
    monkeypatch.setitem(sys.modules, "comfyui_version", module)
    if version in ("0.24.0", "0.30.0", "1.0"):
        return check_version()
    with pytest.raises(ImportError, match=r"^gsn-nodes needs ComfyUI 0.24 or newer, and this is .*: update ComfyUI$"):
        check_version()
