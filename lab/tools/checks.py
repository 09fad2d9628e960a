"""`dev.py test`: lint, types, and three suites, each in a process of its own.

`unit` has no ComfyUI in it, `comfy` has ComfyUI inside, `server` talks to a real server. They must not share
a process: our top-level folder `nodes` and ComfyUI's module `nodes` would meet. pytest's own script is used
and not `python -m pytest`, which puts the current folder on sys.path.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from .environment import ROOT, log, prepare, venv_script

SUITES = ("unit", "comfy", "server")
SLOWEST = ("--durations=20",)


def run(args):
    began = time.monotonic()
    environment = prepare(args.comfyui, ("test",))
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env["GSN_COMFYUI"] = str(environment.comfyui)
    if args.update_schema:
        env["GSN_UPDATE_SCHEMA"] = "1"
    paths, options = split(args.rest)
    failed = []
    if not args.fast and not paths:
        for name, command in (("lint", ["ruff", "check", "--no-cache", "."]), ("types", ["pyright"])):
            log(f"--- {name}")
            script = venv_script(command[0])
            if subprocess.run([str(script), *command[1:]], cwd=ROOT, env=env).returncode:
                failed.append(name)
    totals = Counter()
    for suite in chosen_suites(args.fast, paths):
        log(f"--- tests/{suite}")
        within = [p for p in paths if suite_of(p) in (suite, None)] or [f"tests/{suite}"]
        parallel, own = ([], env) if paths else in_parallel(suite, env)
        if suite == "server":  # ComfyUI's process beside pytest's, two of them on a Ray cluster
            own = own | {"OMP_NUM_THREADS": "1"}
        code, counts = run_suite([str(venv_script("pytest")), *within, *SLOWEST, *parallel, *options], own)
        totals += counts
        # 5 is "no test was selected", which is fine in one suite when -k or -m chose among all of them
        if code and not (code == 5 and options):
            failed.append(suite)
    if not sum(totals[k] for k in ("passed", "failed", "error", "errors")):
        failed.append("no test ran")
    if failed:
        log(f"Failed: {', '.join(failed)}")
    print(closing_line(totals, time.monotonic() - began), flush=True)
    return 1 if failed else 0


def in_parallel(suite, env):
    """pytest's options and environment for one process per core, four at most: each takes up to 3 GB."""
    workers = min(os.cpu_count() or 1, 4)
    if workers == 1:
        return [], env
    # a server's tests come in order, each file with a server and a browser of its own
    how = ["-n", "2", "--dist", "loadfile"] if suite == "server" else ["-n", str(workers), "--dist", "worksteal"]
    # toy models gain nothing from a second thread, and processes that share cores lose much
    return how, env | {"OMP_NUM_THREADS": "1"}


def split(rest):
    """Test paths and pytest's own options, told apart by what exists."""
    paths = [a for a in rest if not a.startswith("-") and (ROOT / a.split("::")[0]).exists()]
    return paths, [a for a in rest if a not in paths]


def suite_of(path):
    parts = Path(path.split("::")[0]).resolve().parts
    tests = len((ROOT / "tests").parts)
    return parts[tests] if len(parts) > tests and parts[tests] in SUITES else None


def chosen_suites(fast, paths):
    if fast:
        return ("unit",)
    named = [suite_of(p) for p in paths]
    return SUITES if None in named or not named else tuple(s for s in SUITES if s in named)


CLOSING = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s.*$")


def run_suite(command, env):
    """Runs one pytest, passing its output on, and reads the counts from its closing line."""
    counts = Counter()
    piped = {"stdout": subprocess.PIPE, "text": True, "errors": "replace"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, **piped)
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        found = CLOSING.match(line.strip())
        if found:
            counts = Counter({w: int(n) for n, w in re.findall(r"(\d+) ([a-z]+)", found[1])})
    return process.wait(), counts


def closing_line(totals, seconds):
    """One line in pytest's own form for all suites together."""
    order = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warnings", "errors")
    totals = Counter({w if w.endswith(("ed", "s")) else w + "s": n for w, n in totals.items()})
    words = ", ".join(f"{totals[w]} {w}" for w in order if totals[w]) or "no tests ran"
    return f"===== {words} in {seconds:.2f}s ====="
