"""Measurements against named peers: ``python dev.py bench``.

Each variant runs in a process of its own, in turn, for a number of rounds, so that a change in the machine's speed
meets all of them. Ratios are between medians of one run of this program; nothing here is a test with a clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import early_exit

HERE = Path(__file__).resolve().parent
#: The project's own limits, against the same pass without early exit.
LIMITS = {"time_ratio": 0.40, "memory_ratio": 0.50}


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="processes per variant (2)")
    parser.add_argument("--iterations", type=int, default=3, help="measured iterations per process (3)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = {name: [] for name in early_exit.VARIANTS}
    for turn in range(options.rounds):
        for name in early_exit.VARIANTS:
            found[name].append(measured(name, options.iterations))
            say(f"round {turn + 1}, {name}: {found[name][-1]}")
    result = early_exit.summary(found)
    kept = all(result["ours"][key] <= limit for key, limit in LIMITS.items())
    print(table(result))
    print("limits against `whole`: " + ", ".join(f"{k} {result['ours'][k]:.2f} (<= {v})" for k, v in LIMITS.items()))
    if options.json:
        print(json.dumps({"early_exit": result, "limits": LIMITS, "kept": kept, "machine": machine()}), flush=True)
    return 0 if kept else 1


def measured(name: str, iterations: int) -> dict:
    child = subprocess.run([sys.executable, str(HERE / "early_exit.py"), name, str(iterations)],
                           env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def table(result: dict) -> str:
    rows = ["| one iteration, SD 1.5 shape, 512 x 512, fp32, CPU | seconds | ratio | extra memory MB | ratio |",
            "|---|---|---|---|---|"]
    rows += [f"| {name} | {one['seconds']:.2f} | {one['time_ratio']:.2f} | {one['extra_mb']:.0f} |"
             f" {one['memory_ratio']:.2f} |" for name, one in result.items()]
    return "\n".join(rows)


def machine() -> dict:
    import torch

    return {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
            "torch": torch.__version__}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
