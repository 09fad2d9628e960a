"""The real ComfyUI, in this process, for tests of nodes and of everything in gsn/host.

Use the `comfy` fixture; never `import gsn` in these tests: ComfyUI loads the pack under another name, and
a second copy of a class fails every isinstance. `comfy.pack("gsn.host.sampling.split")` returns the loaded module.
"""

import asyncio
import copy
import gc
import importlib
import logging
import os
import sys
import types
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .zoo_names import NAMES

ROOT = Path(__file__).resolve().parents[2]
TOYS = Path(__file__).resolve().parent / "toy_models"
# Loading all of comfy_extras takes 6 s; these are what the tests use. Others: comfy.extra("nodes_name").
EXTRAS = (
    "nodes_bounding_boxes",
    "nodes_custom_sampler",
    "nodes_model_advanced",
    "nodes_mask",
    "nodes_hooks",
    "nodes_cond",
    "nodes_perpneg",
    "nodes_easycache",
    "nodes_freelunch",
    "nodes_images",
    "nodes_preview_any",
    "nodes_sd3",
)


def comfyui_folder():
    found = Path(os.environ.get("GSN_COMFYUI") or ROOT / ".comfyui" / "0.30.0").resolve()
    if not (found / "execution.py").exists():
        raise RuntimeError(
            f"No ComfyUI at {found}. `python dev.py test` installs it; or set GSN_COMFYUI to its folder."
        )
    return found


COMFYUI = comfyui_folder()  # at import: a missing ComfyUI is a collection error, never a silent skip


class StubServer:
    """What PromptExecutor and the progress registry need of a server; remembers every message."""

    def __init__(self):
        self.client_id = "test"
        self.last_node_id = None
        self.last_prompt_id = None
        self.sockets_metadata = {}
        self.messages = []
        self.on_message = None
        self.prompt_queue = types.SimpleNamespace(set_flag=lambda *a: None, get_flags=lambda *a, **k: {})
        self.routes = None
        self.node_replace_manager = types.SimpleNamespace(register=lambda *a: None)

    def send_sync(self, event, data, sid=None):
        self.messages.append((event, data))
        if self.on_message:
            self.on_message(event, data)

    def send_progress_text(self, text, node_id, sid=None):
        self.send_sync("progress_text", {"text": text, "node": node_id}, sid)


@dataclass
class Result:
    """What one prompt did. `result["3"]` is slot 0 of node 3, `result["3", 1]` its slot 1."""

    ok: bool
    error: str | None
    error_type: str | None
    node_id: str | None
    node_type: str | None
    traceback: str
    outputs: dict
    ui: dict
    messages: list = field(repr=False)

    def __getitem__(self, key):
        return self.outputs[key if isinstance(key, tuple) else (str(key), 0)]

    @property
    def progress(self):
        """The (node, value, max) triples of the progress bar, in order."""
        return [(d["node"], d["value"], d["max"]) for e, d in self.messages if e == "progress"]

    def check(self):
        """The result itself when the prompt ran, else the node's own error as an AssertionError."""
        where = f"node {self.node_id} ({self.node_type})"
        assert self.ok, f"{where}: {self.error_type}: {self.error}\n{self.traceback}"
        return self


class Session:
    """One executor: node outputs are cached from run to run as in a running ComfyUI."""

    def __init__(self, comfy):
        self.comfy = comfy
        self.executor = comfy.execution.PromptExecutor(
            comfy.server,
            cache_type=comfy.execution.CacheType.CLASSIC,
            cache_args={"lru": 0, "ram": 0.0, "ram_inactive": 0.0},
        )

    def run(self, prompt, outputs=(), on_message=None):
        """Executes an API-format prompt. `outputs`: node ids or (id, slot) pairs whose values are wanted.

        Every wanted output is wired to a ToyKeep node, so asking for it is what a user's wire would be. The
        prompt's own output nodes (previews, savers) run as well. `on_message(event, data)` sees each message.
        """
        comfy, server = self.comfy, self.comfy.server
        prompt = copy.deepcopy({str(k): v for k, v in prompt.items()})
        wanted = [o if isinstance(o, tuple) else (o, 0) for o in outputs]
        wanted = [(str(node), slot) for node, slot in wanted]
        for node, slot in wanted:
            key = f"{node}:{slot}"
            prompt[f"keep:{key}"] = {"class_type": "ToyKeep", "inputs": {"value": [node, slot], "key": key}}
        comfy.toy.KEPT.clear()
        comfy.toy.forget_collected()
        server.messages, server.on_message = [], on_message
        prompt_id = server.last_prompt_id = str(uuid.uuid4())
        valid = asyncio.run(comfy.execution.validate_prompt(prompt_id, prompt, None))
        if not valid[0]:
            return self._invalid(prompt, valid)
        try:
            self.executor.execute(prompt, prompt_id, {"client_id": "test"}, valid[2])
        finally:
            server.on_message = None
        outputs = {(n, s): comfy.toy.KEPT[f"{n}:{s}"] for n, s in wanted if f"{n}:{s}" in comfy.toy.KEPT}
        comfy.toy.KEPT.clear()
        return self._result(outputs, list(server.messages))

    def _result(self, outputs, messages):
        found = {}
        for event, data in self.executor.status_messages:
            if event in ("execution_error", "execution_interrupted"):
                found = {"exception_message": "interrupted", "exception_type": "interrupted", **data}
        return Result(
            ok=self.executor.success and not found,
            error=found.get("exception_message"),
            error_type=found.get("exception_type"),
            node_id=found.get("node_id"),
            node_type=found.get("node_type"),
            traceback="".join(found.get("traceback", [])),
            outputs=outputs,
            ui=getattr(self.executor, "history_result", {}).get("outputs", {}),
            messages=messages,
        )

    @staticmethod
    def _invalid(prompt, valid):
        _, error, _, node_errors = valid
        node_id = next(iter(node_errors), None)
        reasons = [e for n in node_errors.values() for e in n["errors"]] or [error]
        text = "; ".join(f"{e['message']}: {e['details']}" for e in reasons)
        node_type = prompt[node_id]["class_type"] if node_id in prompt else None
        return Result(False, text, "invalid_prompt", node_id, node_type, "", {}, {}, [])


class Comfy:
    """ComfyUI and the loaded pack. `folder`, `base`, `nodes`, `execution`, `server`, `toy`."""

    def __init__(self, base):
        self.folder, self.base = COMFYUI, base
        sys.path.insert(0, str(COMFYUI))
        import comfy.options  # noqa: F401  (must come before cli_args)
        from comfy.cli_args import args

        args.cpu = os.environ.get("GSN_TEST_DEVICE", "cpu") == "cpu"
        args.base_directory = str(base)
        args.disable_api_nodes = True
        # Before `nodes`, which puts comfy/ on the path, where a module called utils shadows this package.
        import utils.extra_config  # noqa: F401, I001
        import nodes
        import execution
        import comfy.utils
        import server as server_module
        from comfy_execution.progress import get_progress_state
        from comfy_execution.utils import get_executing_context

        self.nodes, self.execution = nodes, execution
        self.server = server_module.PromptServer.instance = StubServer()

        def hook(value, total, preview_image, prompt_id=None, node_id=None):
            # main.py's hook, without its web socket
            comfy.model_management.throw_exception_if_processing_interrupted()
            context = get_executing_context()
            if context is not None:
                prompt_id, node_id = prompt_id or context.prompt_id, node_id or context.node_id
            get_progress_state().update_progress(node_id, value, total, preview_image)
            progress = {"value": value, "max": total, "prompt_id": prompt_id, "node": node_id}
            self.server.send_sync("progress", progress)

        comfy.utils.set_progress_bar_global_hook(hook)
        for name in EXTRAS:
            if (COMFYUI / "comfy_extras" / f"{name}.py").exists():  # older ones lack some
                self.extra(name)
        self._pack = self.load(ROOT)
        self.toy = self.load(TOYS)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: looking through it takes 0.3 s after every prompt

    def load(self, path, parent="custom_nodes"):
        lines = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: lines.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        try:
            loaded = asyncio.run(self.nodes.load_custom_node(str(path), module_parent=parent))
        finally:
            logging.getLogger().removeHandler(handler)
        if not loaded:
            pytest.fail(f"ComfyUI could not load {path}:\n" + "\n".join(lines), pytrace=False)
        return sys.modules[str(path).replace(".", "_x_")] if Path(path).is_dir() else None

    def extra(self, name):
        """Loads one of ComfyUI's own extra node files, such as "nodes_train"."""
        self.load(COMFYUI / "comfy_extras" / f"{name}.py", "comfy_extras")

    def pack(self, name=""):
        """A module of the loaded pack by its dotted name inside the repository, such as "gsn.host.sampling.split"."""
        return importlib.import_module(f"{self._pack.__name__}.{name}") if name else self._pack

    def has(self, *names):
        """Skips the test where this ComfyUI lacks the model of a toy of the zoo."""
        if lacking := [name for name in names if name not in self.toy.TOYS]:
            pytest.skip(f"this ComfyUI has no {', '.join(lacking)}")

    def session(self):
        return Session(self)

    def run(self, prompt, outputs=(), on_message=None):
        """`Session.run` in a session of its own: nothing is cached from one call to the next."""
        result = self.session().run(prompt, outputs, on_message)
        gc.collect()
        return result

    def interrupt(self):
        self.nodes.interrupt_processing(True)

    def model(self, family="sd15", seed=0, dtype="fp32", **options):
        return self.toy.build_model(family, seed, dtype, **options)

    def clip(self, family="sd15", seed=0):
        return self.toy.build_clip(family, seed)

    def vae(self, family="sd15", seed=0):
        return self.toy.build_vae(family, seed)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfy_base")
    for folder in ("custom_nodes", "input", "models/checkpoints", "models/loras", "output", "temp", "user"):
        (base / folder).mkdir(parents=True)
    return Comfy(base)


@pytest.fixture(autouse=True)
def _no_leftovers():
    """A failed test's interrupt flag must not stop the next one."""
    yield
    if "nodes" in sys.modules and hasattr(sys.modules["nodes"], "interrupt_processing"):
        sys.modules["nodes"].interrupt_processing(False)


@pytest.fixture(autouse=True)
def _has_the_model(request):
    """A case of a family that an older ComfyUI lacks is skipped there, and says so."""
    case = getattr(request.node, "callspec", None)
    values = list(case.params.values()) if case else []
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    named = {one for one in flat if isinstance(one, str)} & set(NAMES)
    if named and "comfy" in request.fixturenames:
        request.getfixturevalue("comfy").has(*named)


@pytest.fixture(autouse=True)
def _toys_are_given_back(request):
    """Whatever a test does, the models that it borrowed are as they were: no patch, no hook, no other weight."""
    yield
    if "comfy" in request.fixturenames:
        spoilt = request.getfixturevalue("comfy").toy.given_back()
        if spoilt:
            pytest.fail(f"left on a lent model: {spoilt[0]}, and {len(spoilt) - 1} more", pytrace=False)


@pytest.fixture(scope="session")
def tiny_checkpoint(comfy):
    """The name of a small SD1.x file in models/checkpoints that the stock CheckpointLoaderSimple loads."""
    return comfy.toy.write_checkpoint(comfy.base / "models" / "checkpoints" / "toy_sd15.safetensors").name
