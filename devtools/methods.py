"""README's table of methods, from the presets and from what was measured of them.

`python -m devtools.methods` writes it; tests/unit/test_methods_table.py says when that is due. The last column comes
from benchmarks/methods.json, which benchmarks/methods.py measures.
"""

import json
import sys

from gsn.model_presets import MODEL_PRESETS
from gsn.presets import PRESETS, ddpm_sigma
from gsn.steps import Schedule

from .environment import ROOT

BEGIN, END = "<!-- methods -->\n", "<!-- /methods -->\n"
README, MEASURED = ROOT / "README.md", ROOT / "benchmarks" / "methods.json"


def _flow_sigma(index):
    """SD 3's 28 steps."""
    u = 1 - index / 27 * (1 - 0.002994)
    return 3 * u / (1 + 2 * u)


def _ddpm_percent(percent):
    """Presets ask for the beginning alone."""
    return 14.6146 if percent <= 0 else 0.0


SCHEDULES = {
    "ddpm": Schedule((*(ddpm_sigma(i) for i in range(50)), 0.0), _ddpm_percent, 14.62),
    "flow": Schedule((*(_flow_sigma(i) for i in range(28)), 0.0), lambda percent: 1 - percent, 1.0),
}


def gradients(preset):
    """Gradient evaluations per image at most: of the paper's own run of 50 DDPM steps, or 28 flow steps."""
    noise = "ddpm" if preset.noise == "any" else preset.noise
    schedule, model = SCHEDULES[noise], MODEL_PRESETS["sd1" if noise == "ddpm" else "sd3"]
    counts = {"": 0, "attributes": 0, "no attributes": 0}
    for move in preset.moves:
        if move.last is None:
            steps = 0 if schedule.find(move.first, model.refine_sigma) is None else 1
        else:
            steps = len(schedule.between(move.first, move.last, model.guide_sigmas))
        counts[move.only] += steps * move.intervention.gradients
    return counts[""] + max(counts["attributes"], counts["no attributes"])


def table():
    """The table in Markdown."""
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    lines = ["| method | from | when to use it | gradients per image | time of a plain run |", "| --- " * 5 + "|"]
    for name, preset in PRESETS.items():
        cost = f"{measured[name]['ratio']:.1f} x" if name in measured else "not measured"
        lines.append(f"| {name} | {preset.source} | {preset.use} | {gradients(preset) or 'none'} | {cost} |")
    return "\n".join(lines) + "\n"


def with_table(text):
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def main():
    README.write_text(with_table(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
