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
#: The project's own limits for ours, as a share of the same pass without early exit.
LIMITS = {"seconds": 0.40, "extra_mb": 0.50}
#: The passes without early exit, by plain autograd.
PEERS = ("autograd", "comfyui")


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
    print(table(result))
    kept = {peer: verdict(result, peer) for peer in PEERS}
    if options.json:
        report = {"early_exit": result, "limits": LIMITS, "kept": kept, "machine": machine()}
        print(json.dumps(report), flush=True)
    return 0


def verdict(result: dict, peer: str) -> bool:
    """Prints ours as a share of the peer, next to the limits; True when both are kept."""
    shares = {key: result["ours"][key] / result[peer][key] for key in LIMITS}
    said = ", ".join(f"{key} {share:.2f} (limit {LIMITS[key]:.2f})" for key, share in shares.items())
    kept = all(share <= LIMITS[key] for key, share in shares.items())
    print(f"ours against {peer}: {said}: {'kept' if kept else 'missed'}")
    return kept


def measured(name: str, iterations: int) -> dict:
    child = subprocess.run([sys.executable, str(HERE / "early_exit.py"), name, str(iterations)],
                           env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def table(result: dict) -> str:
    rows = ["| one iteration, SD 1.5 shape, 512 x 512, fp32, CPU | seconds | extra memory MB |", "|---|---|---|"]
    rows += [f"| {name} | {one['seconds']:.2f} | {one['extra_mb']:.0f} |" for name, one in result.items()]
    return "\n".join(rows)


def machine() -> dict:
    import torch

    return {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
            "torch": torch.__version__}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
