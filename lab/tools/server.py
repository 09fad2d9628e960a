"""The real ComfyUI server as a child process, and the four requests that a script makes of it."""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .environment import accelerator_flags, log


class ServerError(Exception):
    """The server died, refused a prompt, or a node failed; the message says which."""


class ServerGone(ServerError):
    """It ended, or does not answer in time: only a new one can help."""


def free_port(wanted=None):
    """`wanted` if nothing listens there, else any free port."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                log(f"Port {port} is taken; choosing another.")
                continue
            return s.getsockname()[1]
    raise ServerError("no free port on 127.0.0.1")


class Server:
    """`with Server(environment) as server:` starts it, waits until it answers, and stops it in every case."""

    def __init__(self, environment, port=None, log_file=None, output=None, base=None, flags=None, temp=None):
        self.environment = environment
        self.port = free_port(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self._scratch = tempfile.TemporaryDirectory(prefix="gsn-server-")
        scratch = Path(self._scratch.name)
        self.log_file = Path(log_file or scratch / "server.log")
        self.base = base or environment.base
        if flags is None:
            flags = accelerator_flags(environment.python)
        self.command = [
            str(environment.python),
            str(Path(__file__).with_name("tethered.py")),  # a server outlives nobody who was killed
            str(environment.comfyui / "main.py"),
            *("--base-directory", str(self.base)),
            *("--output-directory", str(output or scratch / "output")),
            *("--temp-directory", str(temp or scratch)),
            *("--port", str(self.port)),
            *("--database-url", "sqlite:///:memory:"),  # several servers may share one base directory
            "--disable-auto-launch",
            "--disable-api-nodes",
            *flags,
        ]
        self.process = None

    def __enter__(self):
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("wb") as out:
            env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": ""}
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self.environment.comfyui,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc):
        self.stop()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process:
            self.process.stdin.close()
        self._scratch.cleanup()

    def log_tail(self, lines=30):
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def _wait_until_ready(self, timeout=300):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.check_alive()
            try:
                return self.get("/system_stats")
            except (OSError, ServerError):
                time.sleep(0.2)
        raise ServerGone(f"ComfyUI did not answer within {timeout} s. Its log ends:\n{self.log_tail()}")

    def check_alive(self):
        if self.process.poll() is not None:
            code = self.process.returncode
            raise ServerGone(f"ComfyUI stopped with exit code {code}. Its log ends:\n{self.log_tail()}")

    # --- requests

    def fetch(self, path, data=None, timeout=60):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        # A proxy from the user's environment must not be asked for a server on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout) as response:
            return response.read()

    def get(self, path):
        return json.loads(self.fetch(path))

    def post(self, path, data):
        body = self.fetch(path, data)
        return json.loads(body) if body else None

    def queue(self, prompt):
        """Queues an API-format prompt; what the server's validation says becomes the error."""
        try:
            return self.post("/prompt", {"prompt": prompt, "client_id": "gsn-dev"})["prompt_id"]
        except urllib.error.HTTPError as failed:
            reply = json.loads(failed.read() or b"{}")
            reasons = [reply.get("error", {}).get("message", str(failed))]
            for node_id, found in reply.get("node_errors", {}).items():
                where = f"node {node_id} ({found['class_type']})"
                reasons += [f"{where}: {e['message']}: {e['details']}" for e in found["errors"]]
            raise ServerError("; ".join(reasons)) from None

    def wait(self, prompt_id, timeout=3600):
        """The prompt's outputs by node id, once it has run; a failed node raises with its message."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.check_alive()
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status", {}).get("completed") is not None:
                self._raise_if_failed(entry["status"])
                return entry["outputs"]
            time.sleep(0.1)
        raise ServerGone(f"the prompt did not finish within {timeout} s")

    @staticmethod
    def _raise_if_failed(status):
        for event, data in status.get("messages", []):
            if event == "execution_error":
                where = f"node {data['node_id']} ({data['node_type']})"
                kind = data["exception_type"].split(".")[-1]
                raise ServerError(f"{where}: {kind}: {data['exception_message'].strip()}")
            if event == "execution_interrupted":
                raise ServerError("the run was interrupted")
        if not status["completed"]:
            raise ServerError(f"the prompt failed: {status}")

    def run(self, prompt, timeout=3600):
        return self.wait(self.queue(prompt), timeout)

    def image(self, entry):
        """The bytes of one picture that an output names: {"filename", "subfolder", "type"}."""
        return self.fetch("/view?" + urllib.parse.urlencode(entry))
