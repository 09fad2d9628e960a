"""RESULTS.md and the pages beside it: their tables and figures, from the rows and reports that this repository keeps.

`python -m lab.study.results` writes what stands between their markers, and the figures beside them; what is said around
those is written by hand. tests/unit/lab/test_results.py says when that is due. A study's folder is kept below
`results/` as `study.json` and `rows.jsonl.gz` (`dev.py study pack`), without its pictures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gsn.methods.steps import Step
from gsn.metrics.stats import bootstrap_mean, sign_test, wilson
from gsn.selection.step import Cell as Count
from gsn.selection.step import select
from gsn.text.prompt_sets import PromptSet

from . import tables
from .charts import Line, Point, curve
from .report import PAPER, markdown_table, ranked
from .rows import rows_data
from .store import ABOUT
from .study import PLAIN, Study, from_json

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT, FIGURES = HERE / "results", HERE / "figures"
PAGES = tuple(HERE / f"RESULTS{name}.md" for name in ("", "_SECOND_TRAINING", "_THREE_ENTITIES"))
LABELS = KEPT / "labels.jsonl"
VALIDATION = {
    "unet": ROOT / "demo" / "validation.json",
    "unet_seed1": ROOT / "demo" / "validation_unet_seed1.json",  # the same recipe, another seed
    "mmdit": ROOT / "demo" / "validation_mmdit.json",
}
_SD14 = ("Table 14", "SD 1.4")
PAPERS = {"unet": _SD14, "unet_seed1": _SD14, "mmdit": ("TIAM in % against the refined step, SD 3", "SD 3")}
GUIDED = ("with guidance after it", "then art explains / things too many")
TUNED = "Ours tuned"  # lab/study/presets
BEST = ("Ours+", "paper + guidance")  # the paper's best on the UNet, and what is nearest to it on the MM-DiT
OURS = ("Ours", "Ours (SD 3)", "Ours+", "paper + guidance", TUNED)
GUIDANCE = {"unet": "SynGen", "mmdit": "guidance"}  # the guidance of the guided studies, by itself
COST, GRID = (ROOT / "lab" / "benchmarks" / f"{name}.json" for name in ("methods", "inner_loop"))
_MARKED = re.compile(r"(<!-- ([a-z]+)(?: ([a-z0-9_]+))? -->\n).*?(<!-- / -->)", re.DOTALL)


def study_of(name: str) -> tuple[Study, list[dict]]:
    """A kept study and its rows in its own order."""
    study = from_json((KEPT / name / ABOUT).read_text(encoding="utf-8"), name)
    return study, tables.ordered(study, map(json.loads, rows_data(KEPT / name).splitlines()))


def report_of(model: str) -> dict:
    """What a demo model's validation found (lab/training/validate.py)."""
    return json.loads(VALIDATION[model].read_text(encoding="utf-8"))


def said(successes: int, n: int) -> str:
    low, high = wilson(successes, n)
    return f"{100 * successes / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


# --- the parts


def methods(name: str) -> list[str]:
    """A study's methods at their own steps, each against plain sampling of the same prompts and seeds."""
    study, rows = study_of(name)
    cost = json.loads(COST.read_text(encoding="utf-8"))
    out = []
    for one in study.sets:
        cells = _own_steps(study, rows, one)
        out += [f"![{_title_of_methods(study, one)}](figures/{_methods_file(name, one.name)})", ""]
        out += [f"**{one.name}, {one.split}** ({one.source})", ""]
        head = ("method", "success [95 % of images]", "[95 % of prompts]", "n", "subjects found, by their place",
                "won / lost", "p", "art explains", "things too many", "gradients", "time of plain")  # fmt: skip
        out += [*markdown_table(head, [_method(c, cost) for c in cells]), ""]
    return out[:-1]


def pairs(name: str) -> list[str]:
    """The paper's own methods against every other one, on equal prompts and seeds."""
    of = {method: cells for (method, step), cells in _by_method(name).items() if not step}
    ours = [one for one in OURS if one in of]
    head = ("against", *(said for one in ours for said in (f"{one}: won / lost", "p")))
    return markdown_table(head, [[other, *(cell for one in ours for cell in _beside(one, other, of))] for other in of])


def counts(name: str) -> list[str]:
    """How many of the named things a picture has: finer than all or not, where all are seldom there."""
    by_method: dict[str, list[dict]] = {}
    for row in study_of(name)[1]:
        by_method.setdefault(row["method"], []).append({**row, "count": sum(row["found"])})
    of = {method: tables.by_image(rows, "count") for method, rows in by_method.items()}
    most = max(len(row["found"]) for rows in by_method.values() for row in rows)
    others = [one for one in (PLAIN, *BEST) if one in of]
    head = ("method", f"pictures with 0 to {most} of {most}", "on average [95 % of prompts]",
            *(said for one in others for said in (f"against {one}: more / fewer", "p")))  # fmt: skip
    body = []
    for method, rows in by_method.items():
        pictures = [sum(row["count"] == k for row in rows) for k in range(most + 1)]
        mean, low, high = tables.over_prompts(rows, "count")
        body.append([method, " / ".join(map(str, pictures)), f"{mean:.2f} [{low:.2f}, {high:.2f}]",
                     *(cell for one in others for cell in _beside(method, one, of))])  # fmt: skip
    return markdown_table(head, body)


def _beside(one: str, other: str, of: Mapping[str, Mapping]) -> list[str]:
    return ["", ""] if one == other else _against(of[one], of[other])


def _by_method(name: str) -> dict[tuple[str, str], dict[tuple[str, int], int]]:
    """Of a kept study: (method, step) -> (prompt, seed) -> success."""
    of: dict[tuple[str, str], list[dict]] = {}
    for row in study_of(name)[1]:
        of.setdefault((row["method"], row["step"]), []).append(row)
    return {key: tables.by_image(rows) for key, rows in of.items()}


def _against(mine: Mapping[tuple, int], other: Mapping[tuple, int]) -> list[str]:
    """won / lost, and the sign test's p, on the prompts and seeds that both have."""
    won, lost = tables.against(mine, other) or (0, 0)
    return [f"{won} / {lost}", f"{sign_test(won, lost):.2g}"]


def guided(model: str) -> list[str]:
    """Refining and guiding against either alone: the kept study of guided cells beside that of all methods."""
    both, alone = _by_method(f"{model}_guided"), _by_method(model)
    head, columns = ["step"], []
    for name in (GUIDANCE[model], TUNED):
        on = both[PLAIN, ""].keys() & alone[name, ""].keys()
        count = f"{sum(alone[name, ''][k] for k in on)} of {len(on)}"
        head += [f"against {name} ({count}): won / lost", "p"]
        columns.append(alone[name, ""])
    body = [[step, *(cell for other in columns for cell in _against(cells, other))]
            for (_, step), cells in both.items() if step]  # fmt: skip
    return markdown_table(head, body)


def _own_steps(study: Study, rows: list[dict], one: PromptSet) -> list[tables.Cell]:
    """The set's cells of methods at their own steps."""
    return [c for c in tables.cells(study, rows) if (c.set, c.split) == (one.name, one.split) and not c.step]


def _methods_file(name: str, kind: str) -> str:
    return f"methods_{name}_{kind.replace(' ', '_')}.svg"


def _title_of_methods(study: Study, one: PromptSet) -> str:
    return f"Methods on the {study.models[0].name}, {one.name}"


def methods_figures(name: str) -> dict[Path, str]:
    """Each method's success, the share of its subjects, and how much of its pictures is whole drawings."""
    study, rows = study_of(name)
    drawn = {}
    for one in study.sets:
        cells = _own_steps(study, rows, one)
        drawn[FIGURES / _methods_file(name, one.name)] = _file(ranked(_title_of_methods(study, one), cells))
    return drawn


def _file(svg: str) -> str:
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _method(cell: tables.Cell, cost: dict) -> list[str]:
    def score(name: str, form: str) -> str:
        return "" if name not in cell.more else f"{{:{form}}} [{{:{form}}}, {{:{form}}}]".format(*cell.more[name])

    return [
        cell.label,
        said(cell.successes, cell.n),
        f"[{100 * cell.prompts_low:.1f}, {100 * cell.prompts_high:.1f}]",
        str(cell.n),
        " / ".join(f"{100 * k / n:.0f} %" for k, n in cell.by_position),
        "" if cell.won is None else f"{cell.won} / {cell.lost}",
        "" if cell.p is None else f"{cell.p:.1g}",
        score("explained", ".3f"),
        score("extra", ".2f"),
        "" if cell.gradients is None else f"{cell.gradients:.0f}",
        f"{cost[cell.model][cell.method]['ratio']:.1f} x" if cell.method in cost.get(cell.model, {}) else "",
    ]


def steps(model: str) -> list[str]:
    """Success against the refined step: by the recipe's own sampler, and guided ones of a kept study."""
    test, guided = report_of(model)["test"], guided_cells(model)
    n = test["plain"]["n"]
    paper = papers_curve(model)
    head = ["step", f"success [95 %], n = {n}", "won / lost, to plain", *(GUIDED if guided else []),
            f"the paper's, {PAPERS[model][1]}, 2 entities"]  # fmt: skip
    body = [["plain", said(_successes(test["plain"]), n), *[""] * (len(head) - 2)]]
    for cell in test["curve"]:
        step = str(cell["step"])
        body.append([step, said(_successes(cell), n), f"{cell['won']} / {cell['lost']}",
                     *(_guided(guided.get(step)) if guided else []), paper.get(cell["step"], "")])  # fmt: skip
    return [f"![{_title(model, n)}](figures/steps_{model}.svg)", "", *markdown_table(head, body)]


def papers_curve(model: str) -> dict[int, str]:
    """The paper's own numbers by the step's index."""
    published = json.loads(PAPER.read_text(encoding="utf-8"))["tables"]
    (table,) = (one for one in published if one["title"].startswith(PAPERS[model][0]))
    kinds = [i for i, name in enumerate(table["columns"]) if name.startswith("2 entities")]
    return {row[1]: ", guided ".join(f"{row[i]:.1f} %" for i in kinds) for row in table["rows"]}


def figure(model: str) -> str:
    """`steps` as an SVG file."""
    test, guided = report_of(model)["test"], guided_cells(model)
    n = test["plain"]["n"]

    def point(name: str, cell: dict) -> Point:
        return Point(name, _successes(cell) / n, *wilson(_successes(cell), n))

    lines = [Line("refined", [point(str(cell["step"]), cell) for cell in test["curve"]])]
    if guided:
        points = [Point(step, cell.rate, cell.low, cell.high) for step, cell in guided.items()]
        lines.append(Line(f"then guided, {min(cell.n for cell in guided.values())} pictures", points))
    ticks = [str(cell["step"]) for cell in test["curve"]]
    return _file(
        curve(_title(model, n), ticks, lines, point("plain", test["plain"]), f"refined step ({test['sampler']})")
    )


def _title(model: str, n: int) -> str:
    return f"Success against the step, {model}, {n} pictures a point"


def _successes(cell: dict) -> int:
    return sum(map(all, cell["found"]))


def guided_cells(model: str) -> dict[str, tables.Cell]:
    """The one method with guidance after its refinement, by its step, from a study of its own."""
    name = f"{model}_guided"
    if not (KEPT / name / ABOUT).exists():
        return {}
    return {cell.step: cell for cell in tables.cells(*study_of(name)) if cell.step}


def _guided(cell: tables.Cell | None) -> list[str]:
    if cell is None:
        return [""] * len(GUIDED)
    explained, extra = (cell.more[name][0] for name in ("explained", "extra"))
    return [f"{said(cell.successes, cell.n)}, n = {cell.n}", f"{explained:.3f} / {extra:.2f}"]


def regret(_: str) -> list[str]:
    """Of the step that validation chose: its success on the test prompts beside the best step's there."""
    body = []
    for model, path in VALIDATION.items():
        if not path.exists():
            continue
        found = report_of(model)
        chosen, n = found["chosen"], found["test"]["plain"]["n"]
        candidates = validated(found)
        choice = select([Count(Step(step, "index"), "validation", k, of) for step, k, of in candidates])
        test = {c["step"]: [all(pair) for pair in c["found"]] for c in found["test"]["curve"]}
        best = max(test, key=lambda step: sum(test[step]))
        mine, seeds = test[chosen["step"]], len(found["test"]["seeds"])
        by_prompt = [(sum(test[best][i : i + seeds]) - sum(mine[i : i + seeds])) / seeds for i in range(0, n, seeds)]
        low, high = bootstrap_mean(by_prompt)[1:]
        lost = 100 * (sum(test[best]) - sum(mine)) / n
        pairs = list(zip(test[best], mine, strict=True))
        p = sign_test(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
        body.append([
            model,
            ", ".join(f"{step}: {100 * k / of:.1f} %" for step, k, of in candidates),
            f"{chosen['step']}, the best in {100 * choice.wins[choice.best]:.0f} % of resamples",
            said(sum(mine), n),
            f"{best}: {said(sum(test[best]), n)}",
            f"{lost:.1f} points [{100 * low:.1f}, {100 * high:.1f}], p {p:.2g}",
        ])  # fmt: skip
    head = ("model", "validation, 12 prompts x 8 seeds", "chosen step", "its success on the test prompts",
            "best step there", "regret [95 % of prompts]")  # fmt: skip
    return markdown_table(head, body)


def validated(report: dict) -> list[tuple[int, int, int]]:
    """(step, successes, n) of the validation's cells that differ from the chosen one in the step alone."""
    lr = report["chosen"]["lr"]
    return [(step, round(c["success"] * c["n"]), c["n"]) for step, rate, c in _refined_cells(report) if rate == lr]


def _refined_cells(report: dict) -> list[tuple[int, float, dict]]:
    """(step, rate, cell) of the validation's refined cells with the chosen CFG and slice, in order."""
    chosen, found = report["chosen"], []
    for name, cell in report["validation"]["cells"].items():
        match = re.fullmatch(r"step (\d+), lr ([\d.]+), CFG ([\d.]+), (.+)", name)
        if match and float(match[3]) == chosen["cfg"] and match[4] == chosen["slice"]:
            found.append((int(match[1]), float(match[2]), cell))
    return sorted(found, key=lambda one: one[:2])


def rates(model: str) -> list[str]:
    """The learning rate at 50 updates, on the validation prompts, as lab/training/validate.py chose it."""
    body = [[str(step), str(lr), said(round(cell["success"] * cell["n"]), cell["n"]),
             f"{cell['loss_before']:.3f} to {cell['loss_after']:.3f}", f"{cell['shift']:.2f}"]
            for step, lr, cell in _refined_cells(report_of(model))]  # fmt: skip
    return markdown_table(("step", "learning rate", "success [95 %], n = 96", "loss", "latent moved by (rms)"), body)


def updates(model: str) -> list[str]:
    """Updates x learning rate on a model's validation prompts."""
    plain, at = _updates_study(f"{model}_updates") if (KEPT / f"{model}_updates" / ABOUT).exists() else _inner_loop()
    numbers = sorted({iterations for iterations, _ in at}, reverse=True)
    columns = sorted({lr for _, lr in at})
    body = [[str(i), *(said(*at[i, lr]) if (i, lr) in at else "" for lr in columns)] for i in numbers]
    return markdown_table((f"updates (plain: {said(*plain)})", *(f"rate {lr}" for lr in columns)), body)


def _updates_study(name: str) -> tuple[tuple[int, int], dict]:
    """(successes, n) of plain sampling, and by (updates, rate) of presets that refine once, from a kept study."""
    study, rows = study_of(name)
    cells = {cell.method: (cell.successes, cell.n) for cell in tables.cells(study, rows)}
    moves = {one.name: json.loads(one.file)["moves"][0] for one in study.methods if one.file}
    return cells[PLAIN], {(move["iterations"], move["lr"]): cells[one] for one, move in moves.items()}


def _inner_loop() -> tuple[tuple[int, int], dict]:
    """The same from lab/benchmarks/inner_loop.py, which knows the UNet alone."""
    cells = json.loads(GRID.read_text(encoding="utf-8"))["validation"]
    counts = {name: (sum(one["found"]), len(one["found"])) for name, one in cells.items()}
    settings = {name: one["setting"] for name, one in cells.items() if one["setting"]}
    return counts[PLAIN], {
        (setting["iterations"], setting["lr"]): counts[name]
        for name, setting in settings.items()
        if not _special(setting)
    }


def _special(setting: dict) -> bool:
    return bool(setting.get("threshold") or setting.get("patience") or setting.get("blocks", "auto") != "auto")


def labels(_: str) -> list[str]:
    """The detector beside a person's eyes, on the pictures of labels.jsonl.

    A line there: model, method, prompt, seed, subjects; `seen` by the person and `found` by the detector, per subject.
    """
    rows = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    groups = dict.fromkeys((row["model"], row["method"]) for row in rows)
    body = [_labelled(" ".join(key), [r for r in rows if (r["model"], r["method"]) == key]) for key in groups]
    head = ("pictures", "n", "subjects seen, of them found", "not seen, of them found", "success by eye",
            "by the detector")  # fmt: skip
    return markdown_table(head, [*body, _labelled("**all**", rows)])


def _labelled(name: str, rows: Sequence[dict]) -> list[str]:
    pairs = [pair for row in rows for pair in zip(row["seen"], row["found"], strict=True)]
    hits, seen = sum(a and b for a, b in pairs), sum(a for a, _ in pairs)
    alarms, absent = sum(b and not a for a, b in pairs), sum(not a for a, _ in pairs)
    by_eye, by_detector = (sum(all(row[key]) for row in rows) for key in ("seen", "found"))
    share = f"{hits} of {seen}: {said(hits, seen)}" if seen else "none seen"
    false = f"{alarms} of {absent}: {said(alarms, absent)}" if absent else "all seen"
    return [name, str(len(rows)), share, false, said(by_eye, len(rows)), said(by_detector, len(rows))]


PARTS: dict[str, Callable[[str], Sequence[str]]] = {
    "methods": methods, "pairs": pairs, "counts": counts, "steps": steps, "guided": guided, "regret": regret,
    "rates": rates, "updates": updates, "labels": labels,
}  # fmt: skip


def written(text: str) -> str:
    """A page with its parts made anew. Raises KeyError on a marker that names no part."""

    def part(match: re.Match) -> str:
        return match[1] + "\n".join(PARTS[match[2]](match[3] or "")) + "\n" + match[4]

    return _MARKED.sub(part, text)


def figures() -> dict[Path, str]:
    found = {FIGURES / f"steps_{model}.svg": figure(model) for model, path in VALIDATION.items() if path.exists()}
    for part, name in marked():
        if part == "methods":
            found |= methods_figures(name)
    return found


def marked() -> list[tuple[str, str]]:
    """Every part that a page shows, and of what."""
    return [found.group(2, 3) for page in PAGES for found in _MARKED.finditer(page.read_text(encoding="utf-8"))]


def write() -> None:
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
    FIGURES.mkdir(exist_ok=True)
    for path, drawn in figures().items():
        path.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    write()
