"""Everything that this project does from the command line."""

import argparse
import json
import os
import subprocess
import sys
import time

from .environment import ROOT, SetupError, log, prepare
from .server import Server, ServerError


def parser():
    top = argparse.ArgumentParser(prog="dev.py", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="demo|test|serve|bench|study|support|train")

    def command(name, help, run, add_help=True):
        sub = commands.add_parser(name, help=help, description=help, add_help=add_help)
        sub.add_argument("--comfyui", metavar="PATH", default=os.environ.get("GSN_COMFYUI"))
        sub.set_defaults(run=run)
        return sub

    demo = command("demo", "before and after on the shipped demo model, through the real server", run_demo)
    demo.add_argument("--out", metavar="DIR", default="demo_out", help="where the pictures go (demo_out)")
    demo.add_argument("--prompt", metavar="TEXT", help="two or more of the demo model's nouns")
    demo.add_argument("--seeds", metavar="N", type=int, default=8, help="seeds 0 to N-1, all counted (8)")
    demo.add_argument("--method", metavar="NAME", help="a preset of GSNKSampler")
    demo.add_argument("--model", choices=("unet", "mmdit"), default="unet")
    demo.add_argument("--json", action="store_true", help="end with one line of JSON on stdout")

    test = command("test", "lint, types, and every test; further arguments go to pytest", run_test)
    test.add_argument("--fast", action="store_true", help="only the tests that need no ComfyUI")
    test.add_argument("--update-schema", action="store_true", help="rewrite tests/schema.json from the nodes")

    serve = command("serve", "ComfyUI in the browser with this pack and the demo model", run_serve)
    serve.add_argument("--port", type=int, default=8188)

    command("bench", "measurements against named peers (arguments: lab/benchmarks/run.py --help)", run_script)
    # --help is its own, with all of its arguments
    command("study", "prompts x seeds x methods x steps, with a report", run_study, add_help=False)
    command("support", "run the tests of all model families and write docs/support.md", run_support)
    command("train", "make the demo models again (arguments: lab/training/run.py --help)", run_script)
    return top


def main(argv=None):
    args, rest = parser().parse_known_args(argv)
    if rest and args.command in ("demo", "serve"):
        parser().error(f"unknown arguments: {' '.join(rest)}")
    args.rest = rest
    try:
        return args.run(args)
    except (SetupError, ServerError) as e:
        log(f"dev.py: {e}")
        return 1
    except KeyboardInterrupt:
        log("Stopped.")
        return 130


def module(name):
    """As -m does, which would let a package of the same name in the caller's folder come first."""
    return "-c", f"import runpy, sys; sys.path[0] = {str(ROOT)!r}; runpy.run_module({name!r}, None, '__main__', True)"


def in_venv(environment, *command):
    """Becomes Python in the virtual environment: whoever stops this process, by whatever signal, stops the work itself.
    It stays in the caller's folder, where relative paths are meant. The repository root is on its path, so ComfyUI
    must not be."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GSN_COMFYUI": str(environment.comfyui)}
    line = [str(environment.python), *map(str, command)]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execve(line[0], line, env)
    child = subprocess.Popen(line, env=env)  # there exec leaves the shell without a process to wait for
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the child has it too, and stops its server first


def run_demo(args):
    began = time.monotonic()
    environment = prepare(args.comfyui)
    request = {
        "out": os.path.abspath(args.out),
        "prompt": args.prompt,
        "seeds": args.seeds,
        "method": args.method,
        "model": args.model,
        "json": args.json,
        "comfyui": str(environment.comfyui),
        "base": str(environment.base),
        "setup_seconds": round(time.monotonic() - began, 1),
    }
    return in_venv(environment, *module("lab.tools.demo"), json.dumps(request))


def run_test(args):
    from . import checks

    return checks.run(args)


def run_serve(args):
    environment = prepare(args.comfyui)
    log("Starting ComfyUI ...")
    output = environment.base / "output"
    with Server(environment, args.port, log_file=environment.base / "serve.log", output=output) as server:
        print(f"{server.url}", flush=True)
        log("Workflow > Browse Templates > gsn-nodes has the examples. Ctrl-C stops the server.")
        try:
            while True:
                server.check_alive()
                time.sleep(0.5)
        except KeyboardInterrupt:
            log("Stopping ComfyUI.")
    return 0


def run_support(args):
    return in_venv(prepare(args.comfyui, ("test",)), *module("lab.tools.support"))


CHECKPOINTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")


def run_study(args):
    """Also passes on where ComfyUI's base folder is, and asks for what only some studies use."""
    wanted = {
        "ray": any(one.startswith("--ray") for one in args.rest),
        "detect": any("coco" in one or one == "--prepare" or one.endswith(CHECKPOINTS) for one in args.rest),
    }
    environment = prepare(args.comfyui, [extra for extra, asked in wanted.items() if asked])
    os.environ["GSN_BASE"] = str(environment.base)
    return in_venv(environment, *module("lab.study"), *args.rest)


SCRIPTS = {"bench": ("lab/benchmarks/run.py", ("test",)), "train": ("lab/training/run.py", ())}


def run_script(args):
    script, extras = SCRIPTS[args.command]
    if not (ROOT / script).exists():
        raise SetupError(f"{script} is not in this copy of the project (the published pack leaves it out).")
    environment = prepare(args.comfyui, extras)
    return in_venv(environment, ROOT / script, *args.rest)
