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
import joint

HERE = Path(__file__).resolve().parent
LIMIT = {"seconds": 0.40, "extra_mb": 0.50}
PIPELINE = {"seconds": 0.40, "extra_mb": 0.25}
#: case -> (its title, script, arguments in front, variants, floors: (variant, peer, its largest shares)).
CASES = {
    "sd15": (
        "SD 1.5 shape, 512 x 512, fp32", "early_exit.py", ("sd15",), early_exit.VARIANTS["sd15"],
        (
            ("ours", "autograd", LIMIT), ("ours", "comfyui", LIMIT), ("ours", "pipeline", PIPELINE),
            ("low", "pipeline", {"extra_mb": 0.12}), ("ours", "limit", {"seconds": 1.15}),
        ),
    ),
    "sdxl": (
        "SDXL shape, 512 x 512, fp32", "early_exit.py", ("sdxl",), early_exit.VARIANTS["sdxl"],
        (("ours", "pipeline", PIPELINE),),
    ),
    "sd3": (
        "SD 3 medium's blocks, two of them, 1024 x 1024, fp32", "joint.py", (), joint.VARIANTS,
        (("ours", "naive", {"seconds": 0.60, "extra_mb": 0.06}),),
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="processes per variant (2)")
    parser.add_argument("--iterations", type=int, default=3, help="measured iterations per process (3)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; may be given again")
    options = parser.parse_args()
    report = {}
    for case in options.case or CASES:
        title, script, front, variants, floors = CASES[case]
        found = {name: [] for name in variants}
        for turn in range(options.rounds):
            for name in variants:
                found[name].append(measured(script, *front, name, str(options.iterations)))
                say(f"{case}, round {turn + 1}, {name}: {found[name][-1]}")
        result = early_exit.summary(found)
        print(table(title, result, options.rounds * options.iterations))
        kept = {f"{ours}/{peer}": verdict(result, ours, peer, shares) for ours, peer, shares in floors}
        report[case] = {"result": result, "kept": kept}
    if options.json:
        print(json.dumps({"cases": report, "machine": machine()}), flush=True)
    return 0


def verdict(result: dict, ours: str, peer: str, limits: dict[str, float]) -> bool:
    """Prints a variant as a share of its peer, next to the limits; True when all are kept."""
    shares = {key: result[ours][key] / result[peer][key] for key in limits}
    said = ", ".join(f"{key} {share:.2f} (limit {limits[key]:.2f})" for key, share in shares.items())
    kept = all(share <= limits[key] for key, share in shares.items())
    print(f"{ours} against {peer}: {said}: {'kept' if kept else 'missed'}")
    return kept


def measured(script: str, *arguments: str) -> dict:
    child = subprocess.run([sys.executable, str(HERE / script), *arguments],
                           env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def table(title: str, result: dict, n: int) -> str:
    rows = [f"| one iteration, {title}, CPU, n = {n} | seconds | extra memory MB |", "|---|---|---|"]
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
