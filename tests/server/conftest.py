"""The real server in a process of its own, and a real browser to look at it.

Nothing here imports ComfyUI. The server has the pack, as the registry's package lays it out and without the rest of the
repository, and the toy models among its custom nodes, so that templates that start from a checkpoint can be run
without one.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import pytest

from lab.tools.environment import PACK, ROOT, Environment, make_base
from lab.tools.package import copy_package
from lab.tools.server import Server

TOYS = ROOT / "tests" / "comfy" / "toy_models"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    comfyui = Path(os.environ.get("GSN_COMFYUI") or ROOT / ".comfyui" / "0.30.0")
    if not (comfyui / "main.py").exists():
        raise RuntimeError(f"No ComfyUI at {comfyui}. `python dev.py test` installs it; or set GSN_COMFYUI.")
    base = make_base(tmp_path_factory.mktemp("base"))
    pack = base / "custom_nodes" / PACK
    pack.unlink()  # the link to this repository: what an artist has is the package
    copy_package(pack)
    shutil.copytree(TOYS, base / "custom_nodes" / "toy_models", ignore=shutil.ignore_patterns("__pycache__"))
    write_checkpoint(comfyui, base / "models" / "checkpoints" / CHECKPOINT)
    return Environment(Path(sys.executable), comfyui, base)


def write_checkpoint(comfyui, path):
    """A tiny SD1.x checkpoint under the name that the stock loader offers first; ComfyUI stays in the child."""
    code = """
import sys
comfyui, toys, path = sys.argv[1:]
sys.argv[1:] = ["--cpu"]
sys.path[:0] = [comfyui, toys]
import comfy.options
comfy.options.enable_args_parsing()
from toy_models import write_checkpoint
write_checkpoint(path)
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-c", code, str(comfyui), str(TOYS.parent), str(path)], check=True)


@pytest.fixture(scope="session")
def server(environment):
    with Server(environment, flags=["--cpu"]) as running:
        yield running


@pytest.fixture(scope="session")
def object_info(server):
    return server.get("/object_info")


class Page:
    """One browser tab, spoken to over the DevTools protocol."""

    def __init__(self, port, url):
        self.loop = asyncio.new_event_loop()
        self.port, self.next_id, self.console = port, 0, []
        self.loop.run_until_complete(self._open(url))

    async def _open(self, url):
        self.session = aiohttp.ClientSession(trust_env=False)
        async with self.session.put(f"http://127.0.0.1:{self.port}/json/new?about:blank") as reply:
            target = json.loads(await reply.text())
        self.socket = await self.session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        for method in ("Runtime.enable", "Page.enable", "Log.enable"):
            await self._send(method)
        await self._send("Page.navigate", url=url)

    async def _send(self, method, **params):
        self.next_id += 1
        await self.socket.send_json({"id": self.next_id, "method": method, "params": params})
        async for message in self.socket:
            data = json.loads(message.data)
            if data.get("id") == self.next_id:
                assert "error" not in data, data["error"]
                return data["result"]
            self._note(data)
        raise RuntimeError("the browser closed the connection")

    def _note(self, data):
        params = data.get("params", {})
        if data.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description") or details["text"])
        elif data.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            words = (str(a.get("value", a.get("description", ""))) for a in params["args"])
            self.console.append(" ".join(words))

    def send(self, method, **params):
        return self.loop.run_until_complete(self._send(method, **params))

    def js(self, expression, timeout=60):
        """The value of a JavaScript expression; promises are awaited."""
        options = {"awaitPromise": True, "returnByValue": True, "timeout": timeout * 1000}
        reply = self.send("Runtime.evaluate", expression=expression, **options)
        details = reply.get("exceptionDetails")
        assert not details, details.get("exception", {}).get("description", details["text"])
        return reply["result"].get("value")

    def wait_for(self, expression, timeout=90):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                if self.js(expression):
                    return
            except AssertionError:
                pass  # the page is still loading
            time.sleep(0.3)
        raise AssertionError(f"never true in the page: {expression}\n" + "\n".join(self.console[-10:]))

    def screenshot(self, path):
        import base64

        Path(path).write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self):
        async def end():
            await self.socket.close()
            await self.session.close()

        self.loop.run_until_complete(end())
        self.loop.close()


@pytest.fixture(scope="session")
def browser():
    """The DevTools port of a headless Chromium. In CI its absence is a failure, elsewhere a visible skip."""
    named = os.environ.get("GSN_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        message = f"no browser: install one of {', '.join(BROWSERS)}, or set GSN_CHROMIUM to its program"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with tempfile.TemporaryDirectory(prefix="gsn-browser-", ignore_cleanup_errors=True) as profile:
        command = [found, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1600,1000"]
        command += ["--no-first-run", "--disable-background-networking", "--no-proxy-server", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield _port(Path(profile) / "DevToolsActivePort", process)
        finally:
            process.terminate()
            process.wait(10)


def _port(file, process):
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if file.exists() and file.read_text().strip():
            return int(file.read_text().split()[0])
        time.sleep(0.1)
    pytest.fail("the browser did not start")


@pytest.fixture(scope="session")
def page(browser, server):
    """The editor, loaded and ready."""
    page = Page(browser, server.url)
    page.wait_for("!!(window.app && window.app.graph && document.querySelector('canvas'))")
    yield page
    page.close()
