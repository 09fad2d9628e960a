"""The study through real servers: made in one go, killed and gone on with, and on a Ray cluster that loses a worker."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from lab.tools.environment import ROOT

from .conftest import Page

# A preset with one short refinement, so that a picture takes less than a second.
SHORT = {"noise": "any", "moves": [{"do": "refine", "at": "8", "iterations": 3, "lr": 0.06, "loss": [
    {"loss": "attend_excite", "weight": 0.5}, {"loss": "iou", "weight": 0.5}]}]}  # fmt: skip


@pytest.fixture(scope="module")
def command(environment, tmp_path_factory):
    """(arguments of the small grid, environment variables)."""
    folder = tmp_path_factory.mktemp("methods")
    (folder / "short.json").write_text(json.dumps(SHORT))
    grid = ["--methods", f"plain,{folder / 'short.json'}", "--prompts", "2", "--seeds", "0-3", "--batch", "2"]
    more = ["--sampling-steps", "10", "--set", "2 entities", "--split", "validation"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GSN_COMFYUI": str(environment.comfyui), "OMP_NUM_THREADS": "1",
           "GSN_BASE": str(environment.base), "GSN_COMFYUI_FLAGS": "--cpu", "PYTHONUNBUFFERED": "1"}  # fmt: skip
    return [sys.executable, "-m", "lab.study", *grid, *more], env


def start(command, out, *more):
    arguments, env = command
    log = (out.parent / f"{out.name}.log").open("w")
    return subprocess.Popen([*arguments, "--out", str(out), *more], env=env, cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=log, text=True)  # fmt: skip


def finish(process, out):
    said, _ = process.communicate(timeout=600)
    log = (out.parent / f"{out.name}.log").read_text()
    assert process.returncode == 0, log
    return (json.loads(said) if said else None), log


def rows(out):
    path = out / "rows.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(true, process, seconds=400):  # two ComfyUIs start meanwhile, on a machine that may be busy
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, "the study ended too early"
        assert time.monotonic() < end, "never happened"
        time.sleep(0.05)


def tables(out):
    return (out / "table.json").read_bytes(), (out / "table.csv").read_bytes()


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The grid made in one go."""
    out = tmp_path_factory.mktemp("whole") / "study"
    said, _ = finish(start(command, out, "--json"), out)
    return out, said


def test_a_study_in_one_go(whole):
    out, said = whole
    assert [(one["method"], one["n"], one["gradients"]) for one in said] == [("plain", 8, 0.0), ("short", 8, 3.0)]
    made = [json.loads(line) for line in rows(out)]
    assert len(made) == 16
    for row in made:
        with Image.open(out / row["image"]) as image:
            nodes = json.loads(image.info["prompt"])
            assert image.size == (128, 128) and nodes["positive"]["inputs"]["text"].count("[") == 2
    pairs = {(row["prompt"], row["seed"]) for row in made}
    assert len(pairs) == 8 and (out / "report.html").stat().st_size > 20_000


def test_killed_twice_and_gone_on_with_it_is_the_same_study(command, whole, tmp_path):
    """SIGKILL leaves no chance to tidy up; its server must end by itself, and no picture is made twice."""
    out = tmp_path / "study"
    kept = []
    for least in (2, 8):
        process = start(command, out)
        wait_for(lambda least=least: len(rows(out)) >= least, process)
        server = server_of(out)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        end = time.monotonic() + 20
        while alive(server):
            assert time.monotonic() < end, "the server outlived the study"
            time.sleep(0.1)
        assert rows(out)[: len(kept)] == kept
        kept = rows(out)
    _, log = finish(start(command, out), out)
    assert rows(out)[: len(kept)] == kept and f"{16 - len(kept)} images made now" in log
    assert tables(out) == tables(whole[0])


def server_of(out):
    """The process whose log is the study's."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.path.samefile(f"/proc/{entry}/fd/1", out / "comfyui.log"):
                    return int(entry)
            except OSError:
                continue
    raise AssertionError("no server of this study runs")


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if not os.path.isdir("/proc/self"):
    test_killed_twice_and_gone_on_with_it_is_the_same_study = pytest.mark.skip("finds the server by /proc")(
        test_killed_twice_and_gone_on_with_it_is_the_same_study
    )


def test_a_method_that_the_model_refuses_does_not_stop_the_others(command, tmp_path):
    (arguments, env), out = command, tmp_path / "study"
    grid = ["--methods", "plain,Ours (SD 3)", "--prompts", "4", "--seeds", "0", "--sampling-steps", "4"]
    ran = subprocess.run([*arguments[:3], *grid, "--out", str(out), "--json"], env=env, cwd=ROOT, text=True,
                         capture_output=True, timeout=600)  # fmt: skip
    assert ran.returncode == 1
    assert [one["method"] for one in json.loads(ran.stdout)] == ["plain"] and len(rows(out)) == 4
    assert "GSNSweep: the preset 'Ours (SD 3)' names noise levels of flow models" in ran.stderr
    assert "failed 3 times; the rest of it is left out" in ran.stderr


def test_a_run_that_takes_too_long_is_given_up(command, tmp_path):
    """Every run takes longer than the limit: it is said, the batch is given up, and the command ends."""
    (arguments, env), out = command, tmp_path / "study"
    grid = ["--methods", "plain", "--prompts", "1", "--seeds", "0", "--sampling-steps", "3000"]
    ran = subprocess.run([*arguments[:3], *grid, "--out", str(out), "--time-limit", "0.5"], env=env, cwd=ROOT,
                         text=True, capture_output=True, timeout=600)  # fmt: skip
    assert ran.returncode == 1
    assert "did not finish within 0.5 s" in ran.stderr and "3 servers in a row were lost" in ran.stderr


def test_on_a_ray_cluster_that_loses_its_workers(command, whole, tmp_path):
    """Two workers with their work half done: one is killed, one hears nothing any more. The same table as of one
    process, and nothing but it on stdout."""
    pytest.importorskip("ray")
    out = tmp_path / "study"
    process = start(command, out, "--ray", "local:2", "--time-limit", "12", "--json")
    log = out.parent / f"{out.name}.log"
    wait_for(lambda: log.read_text().count("is ready (process") == 2 and len(rows(out)) >= 4, process)
    first, second = map(int, re.findall(r"is ready \(process (\d+)\)", log.read_text()))
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGSTOP)
    said, told = finish(process, out)
    assert "was lost" in told and "does not answer within its time limit" in told
    assert [one["n"] for one in said] == [8, 8]
    assert len(rows(out)) == 16 and tables(out) == tables(whole[0])
    assert not alive(second)


def test_people_compare_two_methods_in_a_browser(command, whole, browser, tmp_path):
    """A person who always clicks the refined picture, without knowing it, has chosen it every time."""
    arguments, env = command
    out = whole[0]
    after = [*arguments[:3], "page", str(out), "--methods", "plain", "short", "--trials", "4"]
    assert subprocess.run(after, env=env, cwd=ROOT, capture_output=True, timeout=60).returncode == 0
    key = json.loads((out / "user_study_key.json").read_text())
    page = Page(browser, (out / "user_study.html").as_uri())
    try:
        page.wait_for("document.getElementById('left') && document.getElementById('left').naturalWidth === 128")
        for trial in key["trials"]:
            assert page.js("document.getElementById('prompt').textContent") == trial["prompt"]
            side = "left" if trial["swapped"] else "right"
            page.js(f"document.querySelector('[data-choice={side}]').click()")
        assert page.js("getComputedStyle(document.getElementById('end')).display") == "block"
        page.js("back(); choose('both'); back(); choose('neither')")
        page.send("Page.reload")
        page.wait_for("document.getElementById('at').textContent === '4 of 4 answered'")
        (tmp_path / "choices.json").write_text(page.js("JSON.stringify(result())"))
        assert not page.console
    finally:
        page.close()
    votes = [*arguments[:3], "votes", str(out), str(tmp_path / "choices.json"), "--json"]
    counted = json.loads(subprocess.run(votes, env=env, cwd=ROOT, capture_output=True, timeout=60).stdout)
    assert (counted["first"], counted["second"], counted["neither"]) == (0, 3, 1)
    assert counted["methods"] == ["plain", "short"] and counted["preference"] == 0.0
