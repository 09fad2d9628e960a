"""The tables of methods in README and docs/study.md, and of memory in lab/benchmarks/README.md, from the presets and
from what was measured.

`python -m lab.tools.methods` writes them; tests/unit/house/test_methods_table.py says when that is due. README's last
column comes from lab/benchmarks/methods.json, which methods.py there measures on the demo models; the factors of real
models are counted with steps.json there, the rows against `step` that `dev.py bench sd15 sdxl sd3_step flux_step
--json` printed; memory with lab/benchmarks/kept.json, which lab/benchmarks/kept.py writes.
"""

import json
import sys
from dataclasses import replace

from gsn.interventions.distribution import Distribution
from gsn.methods.model_presets import MODEL_PRESETS
from gsn.methods.presets import PRESETS, ddpm_sigma
from gsn.methods.steps import Schedule

from .environment import ROOT

README, STUDY, BENCHMARKS = ROOT / "README.md", ROOT / "docs" / "study.md", ROOT / "lab" / "benchmarks" / "README.md"
MEASURED, IN_STEPS, KEPT = (ROOT / "lab" / "benchmarks" / f"{name}.json" for name in ("methods", "steps", "kept"))
TEST = 4 * 300 * 16  # images of the paper's test, of one method
TOGETHER = 16  # images of one prompt there: what SAGA's one distribution serves
# Column of the study's costs -> case of the benchmark, steps, noise levels, key among the families of presets
REAL = {
    "SD 1.4": ("sd15", 50, "ddpm", "sd1"),
    "SDXL": ("sdxl", 50, "ddpm", "sdxl"),
    "SD 3": ("sd3_step", 28, "flow", "sd3"),
    "Flux": ("flux_step", 28, "flow", "flux"),
}


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


def gradients(preset, noise="ddpm"):
    """Gradient evaluations per image at most: of the paper's own run of 50 DDPM steps, or 28 flow steps.

    noise: of the run, where the preset is for any.
    """
    noise = noise if preset.noise == "any" else preset.noise
    schedule, model = SCHEDULES[noise], MODEL_PRESETS["sd1" if noise == "ddpm" else "sd3"]
    counts = {"": 0, "attributes": 0, "no attributes": 0}
    for move in preset.moves:
        if move.last is None:
            steps = 0 if schedule.find(move.first, model.refine_sigma) is None else 1
        else:
            steps = len(schedule.between(move.first, move.last, model.guide_sigmas))
        counts[move.only] += steps * move.intervention.gradients
    return counts[""] + max(counts["attributes"], counts["no attributes"])


def step_rows():
    """(case, variant) -> a row of `dev.py bench`: a gradient evaluation against an ordinary step of a real model."""
    return {(row["case"], row["variant"]): row for row in json.loads(IN_STEPS.read_text())}


def in_steps(case):
    """One gradient evaluation as a multiple of an ordinary sampling step, at a real model's shapes."""
    return step_rows()[case, "ours"]["ratio"]


def ratios():
    """What the costs are counted with, in Markdown."""
    rows = step_rows()
    lines = ["| model | r | with *memory: low* | n |", "| --- " * 4 + "|"]
    for model, (case, *_) in REAL.items():
        found = [rows.get((case, variant)) for variant in ("ours", "low")]
        said = [f"{one['ratio']:.2f}" if one else "not measured" for one in found]
        lines.append(f"| {model} | {' | '.join(said)} | {rows[case, 'ours']['n']} |")
    return "\n".join(lines) + "\n"


def factor(preset, model):
    """Time of a run of a real model in plain runs, counted: None where the preset is not for it, or has no count."""
    case, steps, noise, family = REAL[model]
    if preset.noise not in ("any", noise) or preset.family not in ("any", family):
        return None
    count = gradients(preset, noise)
    if preset.moves and not count:
        return None
    shared = tuple(move for move in preset.moves if isinstance(move.intervention, Distribution))
    once = gradients(replace(preset, moves=shared), noise)
    return 1 + in_steps(case) * (count - once + once / TOGETHER) / steps


def costs():
    """The study's costs in Markdown: factor, and GPU hours of the paper's test for each second of a plain image."""
    lines = ["| method | gradients | " + " | ".join(f"{m}: times plain, hours" for m in REAL) + " |"]
    lines.append("| --- " * (2 + len(REAL)) + "|")
    for name, preset in PRESETS.items():
        found = [factor(preset, model) for model in REAL]
        if any(found):
            cells = ["" if one is None else f"{one:.2f} x, {one * TEST / 3600:.1f}" for one in found]
            lines.append(f"| {name} | {gradients(preset)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cost(name, preset, measured):
    """A method's time in plain runs, for README: measured on a demo model, or else counted for the model it is for."""
    if not preset.moves:
        return "1"
    found = measured.get("mmdit" if preset.noise == "flow" else "unet", {})
    if name in found:
        return f"{found[name]['ratio']:.1f} x"
    counted = [(model, factor(preset, model)) for model, (*_, family) in REAL.items() if family == preset.family]
    return f"{counted[0][1]:.1f} x, counted for {counted[0][0]}" if counted else "not measured"


def table():
    """README's table in Markdown."""
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    lines = ["| method | from | when to use it | gradients per image | time of a plain run |", "| --- " * 5 + "|"]
    for name, preset in PRESETS.items():
        said = gradients(preset) or "none"
        lines.append(f"| {name} | {preset.source} | {preset.use} | {said} | {cost(name, preset, measured)} |")
    return "\n".join(lines) + "\n"


def memory():
    """What a gradient pass keeps of one picture of 1024 x 1024 in bfloat16, by model, in Markdown."""
    lines = ["| model | GB | with *memory: low* |", "| --- " * 3 + "|"]
    for name, one in json.loads(KEPT.read_text()).items():
        gigabytes = [2e-9 * one[way] * one["cells"] for way in ("fast", "low")]
        lines.append(f"| {name} | {gigabytes[0]:.2f} | {gigabytes[1]:.2f} |")
    return "\n".join(lines) + "\n"


def with_tables(text):
    """A document with the tables between its markers made anew."""
    for name, made in (("methods", table), ("ratios", ratios), ("costs", costs), ("memory", memory)):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        if begin in text:
            before, rest = text.split(begin)
            text = before + begin + made() + end + rest.split(end)[1]
    return text


def main():
    for path in (README, STUDY, BENCHMARKS):
        path.write_text(with_tables(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
