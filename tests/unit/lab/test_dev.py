"""dev.py's own logic, without a network and without touching the real environment."""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest

from lab.tools import checks, cli, environment, server
from lab.tools.ui_to_api import ui_to_api

INFO = {
    "Source": {
        "input": {
            "required": {
                "seed": ["INT", {"control_after_generate": True}],
                "file": [["a.png", "b.png"], {"image_upload": True}],
                "text": ["STRING", {}],
            }
        },
        "output": ["MODEL"],
        "display_name": "A source",
    },
    "Patch": {
        "input": {
            "required": {"model": ["MODEL", {}], "strength": ["FLOAT", {}]},
            "optional": {"extra": ["MODEL", {}], "mode": ["COMBO", {"options": ["x", "y"]}]},
        },
        "input_order": {"required": ["model", "strength"], "optional": ["extra", "mode"]},
        "output": ["MODEL"],
    },
    "Chooser": {
        "input": {
            "required": {
                "method": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "plain", "inputs": {"required": {}}},
                            {"key": "deep", "inputs": {"required": {"n": ["INT", {}], "m": ["MODEL", {}]}}},
                        ]
                    },
                ],
                "last": ["INT", {"forceInput": True}],
                "end": ["INT", {}],
            }
        },
        "output": [],
    },
}


def node(id, type, values=(), links=(), mode=0, outputs=("MODEL",)):
    inputs = [{"name": n, "type": t, "link": link} for n, t, link in links]
    return {
        "id": id,
        "type": type,
        "mode": mode,
        "inputs": inputs,
        "outputs": [{"type": t} for t in outputs],
        "widgets_values": list(values),
    }


def source(id=1, **more):
    return node(id, "Source", (3, "randomize", "b.png", "image", "hello"), **more)


def convert(nodes, links):
    return ui_to_api({"nodes": nodes, "links": links}, INFO)


def test_widget_values_by_position_with_the_editors_extras():
    prompt = convert([source()], [])
    assert prompt == {
        "1": {
            "class_type": "Source",
            "inputs": {"seed": 3, "file": "b.png", "text": "hello"},
            "_meta": {"title": "A source"},
        }
    }


def test_links_optional_inputs_and_order():
    patch = node(2, "Patch", (0.5, "y"), (("model", "MODEL", 9), ("extra", "MODEL", None)))
    prompt = convert([source(), patch], [[9, 1, 0, 2, 0, "MODEL"]])
    assert prompt["2"]["inputs"] == {"model": ["1", 0], "strength": 0.5, "mode": "y"}


@pytest.mark.parametrize("between", ["Reroute", "bypassed"])
def test_reroutes_and_bypassed_nodes_are_passed_through(between):
    if between == "Reroute":
        middle = node(5, "Reroute", links=[("", "*", 7)], outputs=["*"])
    else:
        middle = node(5, "Patch", (0.5, "y"), [("model", "MODEL", 7)], mode=4)
    patch = node(2, "Patch", (0.5, "y"), [("model", "MODEL", 8)])
    prompt = convert([source(), middle, patch], [[7, 1, 0, 5, 0, "MODEL"], [8, 5, 0, 2, 0, "MODEL"]])
    assert set(prompt) == {"1", "2"}
    assert prompt["2"]["inputs"]["model"] == ["1", 0]


def test_muted_nodes_notes_and_primitives():
    muted = source(mode=2)
    note = {"id": 3, "type": "MarkdownNote", "widgets_values": ["words"]}
    primitive = node(4, "PrimitiveNode", (0.25, "fixed"), outputs=["FLOAT"])
    patch = node(2, "Patch", (0.5, "y"), [("model", "MODEL", 8), ("strength", "FLOAT", 9)])
    prompt = convert([muted, note, primitive, patch], [[8, 1, 0, 2, 0, "MODEL"], [9, 4, 0, 2, 1, "FLOAT"]])
    assert set(prompt) == {"2"}
    assert prompt["2"]["inputs"] == {"strength": 0.25, "mode": "y"}


def test_dynamic_combo_inputs_carry_their_path():
    chooser = node(2, "Chooser", ("deep", 4, 6), [("method.m", "MODEL", 8)])
    prompt = convert([source(), chooser], [[8, 1, 0, 2, 0, "MODEL"]])
    assert prompt["2"]["inputs"] == {"method": "deep", "method.n": 4, "method.m": ["1", 0], "end": 6}
    assert convert([node(2, "Chooser", ("plain", 6))], [])["2"]["inputs"] == {"method": "plain", "end": 6}


def test_an_input_appended_after_the_workflow_was_saved_has_its_default():
    late = {"Late": {"input": {"optional": {"old": ["INT", {}], "new": ["INT", {"default": 7}]}}, "output": []}}
    prompt = ui_to_api({"nodes": [node(2, "Late", (1,))], "links": []}, late)
    assert prompt["2"]["inputs"] == {"old": 1, "new": 7}


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="left over"):
        convert([node(2, "Patch", (0.5, "y", 1))], [])
    with pytest.raises(ValueError, match="no widget value for mode"):
        convert([node(2, "Patch", (0.5,))], [])
    with pytest.raises(ValueError, match="no node called Nothing"):
        convert([node(2, "Nothing")], [])
    with pytest.raises(ValueError, match="no option 'gone'"):
        convert([node(2, "Chooser", ("gone", 1))], [])
    with pytest.raises(ValueError, match="subgraphs"):
        ui_to_api({"nodes": [], "definitions": {"subgraphs": [{}]}}, INFO)


@pytest.mark.parametrize("honest", [True, False])
def test_an_archive_is_not_run_before_its_hash_is_compared(tmp_path, monkeypatch, honest):
    """Its setup.py leaves a file behind. pip's own configuration is put aside: the archive lies in a folder."""
    source, shelf, ran = tmp_path / "carrier-1.0", tmp_path / "shelf", tmp_path / "ran"
    for folder in (source, shelf, tmp_path / "scratch"):
        folder.mkdir()
    setup = f"open({str(ran)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='carrier', version='1.0')\n"
    (source / "setup.py").write_text(setup)
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    archive = shelf / "carrier-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, source.name)
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(environment, "CARRIER", "carrier==1.0")
    monkeypatch.setattr(environment, "CARRIER_SHA256", right if honest else "0" * 64)
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(shelf)), ("PIP_NO_BUILD_ISOLATION", "0")):
        monkeypatch.setenv(name, value)
    if honest:
        assert environment._download(tmp_path / "scratch").name == archive.name
    else:
        with pytest.raises(environment.SetupError, match="Nothing was unpacked"):
            environment._download(tmp_path / "scratch")
    assert ran.exists() == honest


def test_a_folder_that_is_not_comfyui_is_named(tmp_path):
    with pytest.raises(environment.SetupError, match="not a ComfyUI folder"):
        environment.find_comfyui(tmp_path)
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.31.2"\n')
    assert environment.find_comfyui(tmp_path) == tmp_path.resolve()


def test_an_existing_comfyui_is_taken_and_a_broken_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "STORE", tmp_path)
    folder = tmp_path / environment.COMFYUI
    folder.mkdir()
    with pytest.raises(environment.SetupError, match="Remove it"):
        environment.get_comfyui()
    (folder / "main.py").touch()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{environment.COMFYUI}"\n')
    assert environment.get_comfyui() == folder


def test_the_pack_is_linked_into_a_base_of_its_own(tmp_path):
    base = environment.make_base(tmp_path / "base")
    place = base / "custom_nodes" / environment.PACK
    assert place.resolve() == environment.ROOT
    place.unlink()
    place.symlink_to(tmp_path)  # a link that an older checkout left
    environment.make_base(base)
    assert place.resolve() == environment.ROOT


def test_notes_are_kept_per_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "NOTES", tmp_path / "notes.json")
    (tmp_path / "bin").mkdir()
    environment.venv_python().parent.mkdir(exist_ok=True)
    environment.venv_python().touch()
    calls = []
    monkeypatch.setattr(environment, "_pip", lambda *args, **k: calls.append(args) or True)
    for _ in range(2):
        environment.install("thing", ["a==1"], ["a==1"])
    assert len(calls) == 1
    environment.install("thing", ["a==2"], ["a==2"])
    assert len(calls) == 2
    monkeypatch.setattr(environment, "_pip", lambda *args, **k: False)
    with pytest.raises(environment.SetupError):
        environment.install("other", ["b"], ["b"])
    assert json.loads((tmp_path / "notes.json").read_text()) == {"thing": ["a==2"]}


def test_the_pinned_test_requirements_are_read_without_tomllib():
    wanted = environment.extra_requirements("test")
    assert any(w.startswith("pytest==") for w in wanted) and all("==" in w for w in wanted)
    with pytest.raises(environment.SetupError):
        environment.extra_requirements("absent")


def test_a_taken_port_is_replaced():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = s.getsockname()[1]
        assert server.free_port(taken) not in (taken, 0)
    assert server.free_port() > 0


@pytest.mark.parametrize(
    "program, message",
    [
        ("import sys; print('no such device'); sys.exit(3)", "exit code 3(.|\n)*no such device"),
        ("raise ImportError('torch is broken')", "exit code 1(.|\n)*torch is broken"),
    ],
)
def test_a_server_that_dies_is_reported_with_the_end_of_its_log(tmp_path, program, message):
    (tmp_path / "main.py").write_text(program)
    place = environment.Environment(Path(sys.executable), tmp_path, tmp_path)
    starting = server.Server(place, flags=[])
    with pytest.raises(server.ServerError, match=message), starting:
        pass
    assert starting.process.poll() is not None


def test_the_server_is_stopped_when_the_work_in_it_fails(tmp_path):
    (tmp_path / "main.py").write_text(FAKE_SERVER)
    place = environment.Environment(Path(sys.executable), tmp_path, tmp_path)
    with pytest.raises(KeyboardInterrupt), server.Server(place, flags=[]) as running:
        assert running.get("/system_stats") == {"ok": True}
        raise KeyboardInterrupt
    assert running.process.poll() is not None


def test_a_server_ends_with_whoever_started_it_even_when_killed(tmp_path):
    (tmp_path / "main.py").write_text(FAKE_SERVER)
    starter = f"""
import sys, time
from pathlib import Path
from lab.tools import environment, server
place = environment.Environment(Path(sys.executable), Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))
with server.Server(place, flags=[]) as running:
    print(running.url, running.process.pid, flush=True)
    time.sleep(60)
"""
    env = {**os.environ, "PYTHONPATH": str(environment.ROOT)}
    started = subprocess.Popen([sys.executable, "-c", starter], env=env, stdout=subprocess.PIPE, text=True)
    url, pid = started.stdout.readline().split()
    started.kill()
    started.wait()
    end = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"{url}/system_stats", timeout=1)
        except OSError:
            return
        assert time.monotonic() < end, f"process {pid} still answers"
        time.sleep(0.05)


@pytest.mark.skipif(os.name == "nt", reason="exec starts another process there")
def test_what_is_killed_is_the_work_itself(tmp_path):
    starter = f"""
import sys
from pathlib import Path
from lab.tools import cli, environment
place = environment.Environment(Path(sys.executable), Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))
cli.in_venv(place, "-c", "import os, time; print(os.getpid(), os.environ['GSN_COMFYUI'], flush=True); time.sleep(60)")
"""
    env = {**os.environ, "PYTHONPATH": str(environment.ROOT)}
    with subprocess.Popen([sys.executable, "-c", starter], env=env, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout.readline().split() == [str(started.pid), str(tmp_path)]
        started.kill()


def test_paths_are_meant_from_the_callers_folder_whatever_lies_there(tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    kept = tmp_path / "kept"
    shutil.copytree(environment.ROOT / "lab" / "study" / "results" / "unet3", kept)
    env = {**os.environ, "PYTHONPATH": str(environment.ROOT)}
    line = [sys.executable, *cli.module("lab.study"), "report", "kept"]
    subprocess.run(line, cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    assert (kept / "report.html").exists()


def test_the_study_gets_its_own_arguments():
    args, rest = cli.parser().parse_known_args(["study", "--quick", "--help", "--comfyui", "P", "--cfg", "3"])
    assert args.run is cli.run_study and args.comfyui == "P" and rest == ["--quick", "--help", "--cfg", "3"]


@pytest.mark.parametrize(
    ("rest", "extras"),
    [
        (["--quick"], []),
        (["--model", "mmdit", "--ray=local:2"], ["ray"]),
        (["--model=sd14.safetensors"], ["detect"]),
        (["--prepare", "--ray", "auto"], ["ray", "detect"]),
        (["score", "DIR", "--detector", "coco"], ["detect"]),
    ],
)
def test_a_study_installs_what_it_uses(monkeypatch, rest, extras):
    asked = []
    place = environment.Environment(Path("python"), Path("comfyui"), Path("base"))
    monkeypatch.setattr(cli, "prepare", lambda comfyui, wanted: asked.append(wanted) or place)
    monkeypatch.setattr(cli, "in_venv", lambda *a: 0)
    monkeypatch.setenv("GSN_BASE", "")
    assert cli.run_study(argparse.Namespace(comfyui=None, rest=rest)) == 0 and asked == [extras]


FAKE_SERVER = """
import os
import subprocess
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ok": true}')

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_the_closing_lines_of_the_suites_add_up():
    line = "=================== 2 failed, 30 passed, 1 skipped in 12.34s (0:00:12) ==================="
    assert checks.CLOSING.match(line)[1] == "2 failed, 30 passed, 1 skipped"
    assert checks.CLOSING.match("7 passed in 0.03s")
    added = checks.Counter(passed=37, failed=2)
    assert checks.closing_line(added, 3) == "===== 2 failed, 37 passed in 3.00s ====="


def test_suites_are_chosen_by_path():
    assert checks.chosen_suites(False, []) == ("unit", "comfy", "server")
    assert checks.chosen_suites(True, []) == ("unit",)
    assert checks.chosen_suites(False, ["tests/comfy/test_harness.py::test_x"]) == ("comfy",)
    assert checks.split(["tests/unit", "-k", "name"]) == (["tests/unit"], ["-k", "name"])
