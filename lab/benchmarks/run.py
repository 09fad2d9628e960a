"""Measurements against named peers: ``python dev.py bench [--quick] [CASE...]``.

Each variant runs in a process of its own, in turn, for a number of rounds, so that a change in the machine's speed
meets all of them. Ratios are between medians of one run of this program; nothing here is a test with a clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import early_exit
import inside
import joint

HERE = Path(__file__).resolve().parent
UNITS = {"seconds": "s", "extra_mb": "MB"}


@dataclass(frozen=True)
class Floor:
    """A variant of ours, its peer, and the largest shares of the peer's figures that it may have.

    most: an absolute limit of ours, in the unit of the figures.
    """

    ours: str
    peer: str
    shares: dict[str, float | None]  # None: reported without a limit
    most: float | None = None


@dataclass(frozen=True)
class Case:
    """script with its arguments in front; iterations: of one process, None for the command line's number.

    depth: of the whole model, where variants NAME@1 and NAME@2 have one and two of its blocks: NAME is worked out.
    """

    title: str
    script: str
    front: tuple[str, ...]
    variants: tuple[str, ...]
    floors: tuple[Floor, ...]
    iterations: int | None = None
    depth: int | None = None


PIPELINE = {"seconds": 0.40, "extra_mb": 0.25}
WITHOUT_EXIT = {"seconds": 0.40, "extra_mb": 0.50}
CASES = {
    "sd15": Case(
        "one iteration, SD 1.5 shape, 512 x 512, fp32", "early_exit.py", ("sd15",), early_exit.VARIANTS["sd15"],
        (
            Floor("ours", "pipeline", PIPELINE), Floor("low", "pipeline", {"seconds": None, "extra_mb": 0.12}),
            Floor("ours", "limit", {"seconds": 1.15}), Floor("ours", "comfyui", WITHOUT_EXIT),
            Floor("ours", "autograd", WITHOUT_EXIT), Floor("ours", "step", {"seconds": None}),
            Floor("low", "step", {"seconds": None}),
        ),
    ),
    "sdxl": Case(
        "one iteration, SDXL shape, 512 x 512, fp32", "early_exit.py", ("sdxl",), early_exit.VARIANTS["sdxl"],
        (
            Floor("ours", "pipeline", PIPELINE), Floor("low", "pipeline", {"seconds": None, "extra_mb": 0.12}),
            Floor("all", "pipeline", {"seconds": None, "extra_mb": None}), Floor("ours", "step", {"seconds": None}),
            Floor("low", "step", {"seconds": None}),
        ),
    ),
    "sd3": Case(
        "one iteration, SD 3 medium's blocks, four of them, 1024 x 1024, fp32", "joint.py", ("sd3",),
        joint.VARIANTS["sd3"],
        (
            Floor("ours", "naive", {"seconds": 0.60, "extra_mb": None}),
            Floor("low", "naive", {"seconds": 0.60, "extra_mb": 0.06}),
        ),
    ),
    "sd3_step": Case(
        "one iteration and one sampling step, SD 3 medium's 24 blocks (from one and two), 1024 x 1024, fp32",
        "joint.py", ("sd3",), joint.VARIANTS["sd3_step"],
        (Floor("ours", "step", {"seconds": None}), Floor("low", "step", {"seconds": None})), depth=24,
    ),
    "flux_step": Case(
        "one iteration and one sampling step, Flux.1's 19 double and 38 single blocks (from 1 + 2 and 2 + 4),"
        " 1024 x 1024, fp32", "joint.py", ("flux",), joint.VARIANTS["flux_step"],
        (Floor("ours", "step", {"seconds": None}),), depth=19,
    ),
    "capture": Case(
        "maps of one SD 3 block at 1024 x 1024, fp32", "joint.py", ("sd3",), joint.VARIANTS["capture"],
        (Floor("capture", "capture_naive", {"extra_mb": None}, most=250),),
    ),
    "whole": Case(
        "whole run of 50 steps, 50 iterations, SD 1.5 shape at half width, 512 x 512, fp32", "inside.py", (),
        inside.VARIANTS["whole"], (Floor("paper", "plain", {"seconds": 1.35}),), iterations=1,
    ),
    "unused": Case(
        "plain run of ten steps with the pack loaded", "inside.py", (), inside.VARIANTS["unused"],
        (Floor("unused", "plain_short", {"seconds": None}),), iterations=2,
    ),
    "import": Case(
        "loading the pack", "inside.py", (), inside.VARIANTS["import"],
        (Floor("import", "import_peer", {"seconds": None}, most=0.3),), iterations=1,
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} (all)")
    parser.add_argument("--quick", action="store_true", help="one round of one iteration: a look, not a measurement")
    parser.add_argument("--rounds", type=int, default=2, help="processes per variant (2)")
    parser.add_argument("--iterations", type=int, default=3, help="measured iterations per process (3)")
    parser.add_argument("--variants", metavar="A,B,...", help="these alone, and the ratios between them (all)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    unknown = set(options.case) - set(CASES)
    if unknown:
        parser.error(f"no case called {', '.join(sorted(unknown))}; there are: {', '.join(CASES)}")
    names = options.case or list(CASES)
    known = {variant for name in names for variant in CASES[name].variants}
    wanted = set(options.variants.split(",")) if options.variants else known
    if wanted - known:
        parser.error(f"no variant called {', '.join(sorted(wanted - known))}; there are: {', '.join(sorted(known))}")
    rounds = 1 if options.quick else options.rounds
    report = []
    print(f"On {machine()}", flush=True)
    for name in names:
        case = CASES[name]
        found: dict[str, list[dict]] = {variant: [] for variant in case.variants if variant in wanted}
        count = 1 if options.quick else case.iterations or options.iterations
        for turn in range(rounds):
            for variant in found:
                found[variant].append(measured(case.script, *case.front, variant, str(count)))
                say(f"{name}, round {turn + 1}, {variant}: {found[variant][-1]}")
        result = summary(found)
        if case.depth is not None:
            result |= whole(result, case.depth)
        print(table(case.title, result, rounds * count))
        for row in rows(name, case, result, rounds * count):
            print(sentence(row), flush=True)
            report.append(row)
    if options.json:
        print(json.dumps(report), flush=True)
    return 0


def summary(found: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    """Each variant's medians over all rounds."""
    return {
        name: {"seconds": statistics.median(s for one in runs for s in one["seconds"]),
               "extra_mb": statistics.median(one["memory"] for one in runs) / 1e6}
        for name, runs in found.items()
    }  # fmt: skip


def whole(result: dict[str, dict[str, float]], depth: int) -> dict[str, dict[str, float]]:
    """The figures of `depth` blocks from those of one and two: each further block adds what the second did."""
    shallow = {name.partition("@")[0]: one for name, one in result.items() if name.endswith("@1")}
    return {
        name: {figure: one[figure] + (depth - 1) * (result[f"{name}@2"][figure] - one[figure]) for figure in one}
        for name, one in shallow.items()
        if f"{name}@2" in result
    }


def rows(name: str, case: Case, result: dict, n: int) -> Iterator[dict]:
    """One row per figure of each floor both of whose variants ran; `kept` None where there is no limit."""
    for floor in case.floors:
        if not {floor.ours, floor.peer} <= set(result):
            continue
        for figure, largest in floor.shares.items():
            ours, peer = result[floor.ours][figure], result[floor.peer][figure]
            kept = None if largest is None else ours <= largest * peer
            if floor.most is not None:
                kept = kept is not False and ours <= floor.most
            yield {"case": name, "variant": floor.ours, "ours": ours, "peer": peer, "ratio": ours / peer,
                   "unit": UNITS[figure], "peer_name": floor.peer, "n": n, "limit": largest, "most": floor.most,
                   "kept": kept}  # fmt: skip


def sentence(row: dict) -> str:
    limits = [f"limit {row['limit']:.2f}"] if row["limit"] is not None else []
    limits += [f"at most {row['most']:g} {row['unit']}"] if row["most"] is not None else []
    said = {None: "", True: ": kept", False: ": missed"}[row["kept"]]
    figures = f"{row['ours']:.3g} {row['unit']} of {row['peer']:.3g}, {row['ratio']:.3f}"
    return f"{row['variant']} against {row['peer_name']}: {figures} ({', '.join(limits) or 'no limit'}){said}"


def measured(script: str, *arguments: str) -> dict:
    child = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(child.stdout.splitlines()[-1])


def table(title: str, result: dict, n: int) -> str:
    lines = [f"| {title}, CPU, n = {n} | seconds | extra memory MB |", "|---|---|---|"]
    lines += [f"| {name} | {one['seconds']:.2f} | {one['extra_mb']:.0f} |" for name, one in result.items()]
    return "\n".join(lines)


def machine() -> str:
    import torch

    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
