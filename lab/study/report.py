"""report.html and report.md: the tables with intervals, the step curves, the pictures side by side, and the paper's own
numbers. The HTML is one file with nothing outside it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from gsn.metrics.stats import wilson

from . import tables
from .charts import Line, Point, curve, ranking
from .store import REJECTED, Store
from .study import PLAIN, Study, label_of
from .tables import Cell

PAPER = Path(__file__).with_name("paper.json")
SHEET_PROMPTS, SHEET_SEEDS, SHEET_METHODS, THUMBNAIL = 12, 4, 4, 112
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; color: #1e1e22; padding: 0 1em }
table { border-collapse: collapse; margin: .6em 0 1.4em } th, td { padding: .25em .7em; border-bottom: 1px solid #ddd }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child, th:first-child { text-align: left }
.sheet td { text-align: left; vertical-align: top; padding: .3em } .sheet img { display: block; border: 3px solid }
.sheet img.yes { border-color: #167a3e } .sheet img.no { border-color: #b22222 }
.sheet img.unknown { border-color: #999 }
.sheet .gap { width: 118px; flex: none } .wide { overflow-x: auto }
svg text { font: 12px system-ui, sans-serif } .note { color: #555; max-width: 70em } figure { margin: 1em 0 }
"""
HEAD = ("method", "success", "95 % of images", "95 % of prompts", "n", "recall", "recall by place", "won / lost", "p",
        "gradients", "s / image")  # fmt: skip
LEGEND = (
    "Success: every subject found, and with its colour where one is asked for. The first interval is Wilson's over"
    " images, the second a bootstrap over prompts, which is the wider one where images of a prompt succeed or fail"
    " together. Won and lost: pairs of the same prompt and seed in which only the method, or only plain sampling,"
    " succeeded; p: the exact sign test of them, for each row by itself. Seconds depend on the machine, the batch and"
    " what else it did."
)
SCORES = " Further scores: the mean over images and, in brackets, a 95 % bootstrap over prompts."


def write_results(store: Store, study: Study) -> list[Cell]:
    """The tables and the report, written anew so that they are never older than the rows."""
    rows = tables.ordered(study, store.rows.values())
    found = tables.cells(study, rows)
    store.write("table.json", tables.table_json(study, rows))
    store.write("table.csv", tables.table_csv(study, rows))
    store.write("report.md", markdown(study, found, rows))
    store.write("report.html", html(store, study, found, rows))
    return found


# --- what both forms say


def groups(found: Sequence[Cell]) -> dict[tuple[str, str, str], list[Cell]]:
    """Cells by (model, set, split), in their order."""
    out: dict[tuple[str, str, str], list[Cell]] = {}
    for one in found:
        out.setdefault((one.model, one.set, one.split), []).append(one)
    return out


def title_of(key: tuple[str, str, str]) -> str:
    model, name, split = key
    return f"{model}: {name}" + (f", {split}" if split else "")


def values_of(one: Cell, columns: Sequence[str]) -> list[str]:
    """columns: of scorers."""
    places = " / ".join(f"{100 * k / n:.0f} %" for k, n in one.by_position)
    return [
        one.label,
        f"{100 * one.rate:.1f} %",
        f"{100 * one.low:.1f} to {100 * one.high:.1f}",
        f"{100 * one.prompts_low:.1f} to {100 * one.prompts_high:.1f}",
        f"{one.n} ({one.prompts} x {one.seeds})",
        f"{100 * one.recall:.1f} %",
        places,
        "" if one.won is None else f"{one.won} / {one.lost}",
        "" if one.p is None else f"{one.p:.2g}",
        "" if one.gradients is None else f"{one.gradients:.1f}",
        f"{one.seconds:.2f}",
        *("" if name not in one.more else "{:.4g} ({:.4g} to {:.4g})".format(*one.more[name]) for name in columns),
    ]


def legend(found: Sequence[Cell]) -> str:
    return LEGEND + (SCORES if tables.score_columns(found) else "")


def table_of(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Head and body."""
    columns = tables.score_columns(cells)
    return [*HEAD, *columns], [values_of(one, columns) for one in cells]


def facts(study: Study, rows: Sequence[dict], rejected: int) -> list[str]:
    seeds = f"{len(study.seeds)} seeds ({study.seeds[0]} to {study.seeds[-1]}), {study.batch} at once"
    said = [f"{len(rows)} of {study.images} images; {seeds}; detector: {study.detector}."]
    for model in study.models:
        dtype = "" if model.dtype == "default" else f", {model.dtype}"
        said.append(f"{model.name}: {model.steps} steps of {model.sampler} ({model.scheduler}), CFG {model.cfg:g},"
                    f" {model.width} x {model.height}{dtype}.")  # fmt: skip
    said += [f"{one.name}{' ' + one.split if one.split else ''}: {one.source}." for one in study.sets]
    said.append("Made with " + ", ".join(f"{key} {value}" for key, value in study.made_with.items()) + ".")
    if rejected:
        said.append(f"{rejected} damaged entries of earlier runs were made again ({REJECTED}).")
    return said


def curves(found: Sequence[Cell]) -> list[tuple[str, list[str], list[Line], Cell | None]]:
    """(title, ticks, lines, plain) wherever methods were run at two steps or more."""
    out = []
    for key, cells in groups(found).items():
        by_method: dict[str, list[Cell]] = {}
        for one in cells:
            if one.step:
                by_method.setdefault(one.method, []).append(one)
        chosen = {name: part for name, part in by_method.items() if len(part) > 1}
        if not chosen:
            continue
        ticks = list(dict.fromkeys(one.step for part in chosen.values() for one in part))
        lines = [Line(name, [Point(c.step, c.rate, c.low, c.high) for c in part]) for name, part in chosen.items()]
        plain = next((one for one in cells if one.method == PLAIN), None)
        out.append((title_of(key), ticks, lines, plain))
    return out


def ranked(title: str, cells: Sequence[Cell]) -> str:
    """An SVG of each cell's success, its subjects found, and how much of it is whole drawings."""
    lines = [
        Line("all named are there", [Point(c.label, c.rate, c.low, c.high) for c in cells]),
        Line("of the named ones, found", [Point(c.label, c.recall, *wilson(*c.subjects)) for c in cells]),
        Line("the art explains", [Point(c.label, *c.more["explained"]) for c in cells if "explained" in c.more]),
    ]
    return ranking(title, lines, "share, with its 95 % interval")


# --- Markdown


def markdown(study: Study, found: Sequence[Cell], rows: Sequence[dict]) -> str:
    out = ["# Study", "", *(f"* {one}" for one in facts(study, rows, 0)), ""]
    for key, cells in groups(found).items():
        out += [f"## {title_of(key)}", "", *markdown_table(*table_of(cells)), ""]
    if found:
        out += [legend(found), ""]
    for title, _, lines, plain in curves(found):
        out += [f"## Step curve, {title}", ""]
        body = [[p.x, line.name, f"{100 * p.value:.1f} %", f"{100 * p.low:.1f} to {100 * p.high:.1f}"]
                for line in lines for p in line.points]  # fmt: skip
        if plain is not None:
            body.insert(0, ["", PLAIN, f"{100 * plain.rate:.1f} %", f"{100 * plain.low:.1f} to {100 * plain.high:.1f}"])
        out += [*markdown_table(["step", "method", "success", "95 % of images"], body), ""]
    paper = json.loads(PAPER.read_text(encoding="utf-8"))
    out += ["## The paper's own numbers", "", paper["source"], paper["setting"], f"**{paper['note']}**", ""]
    for table in paper["tables"]:
        out += [f"### {table['title']}", "", *markdown_table(table["columns"], table["rows"]), ""]
    return "\n".join(out)


def markdown_table(head: Sequence, body) -> list[str]:
    lines = ["| " + " | ".join(map(str, head)) + " |", "| --- " * len(head) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in body]


# --- HTML


def html(store: Store, study: Study, found: Sequence[Cell], rows: Sequence[dict]) -> str:
    path = store.folder / REJECTED
    rejected = path.read_bytes().count(b"\n") if path.exists() else 0
    out = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Study</title><style>{STYLE}</style>',
           "<h1>Study</h1><ul>"]  # fmt: skip
    out += [*(f"<li>{escape(one)}</li>" for one in facts(study, rows, rejected)), "</ul>"]
    for key, cells in groups(found).items():
        out += [f"<h2>{escape(title_of(key))}</h2>", _html_table(*table_of(cells))]
        if len(cells) > 1:
            out.append(f"<figure>{ranked(f'Methods, {title_of(key)}', cells)}</figure>")
    if found:
        out.append(f'<p class="note">{escape(legend(found))}</p>')
    for title, ticks, lines, plain in curves(found):
        level = None if plain is None else Point(PLAIN, plain.rate, plain.low, plain.high)
        drawn = curve(f"Success against the step, {title}", ticks, lines, level, "refined step")
        out.append(f"<figure>{drawn}</figure>")
    for key in dict.fromkeys((row["model"], row["set"], row["split"]) for row in rows):
        part = [row for row in rows if (row["model"], row["set"], row["split"]) == key]
        out.append(sheet(store, title_of(key), part))
    paper = json.loads(PAPER.read_text(encoding="utf-8"))
    out.append("<h2>The paper's own numbers</h2>")
    out += [f'<p class="note">{escape(paper[name])}</p>' for name in ("source", "setting")]
    out.append(f"<p><strong>{escape(paper['note'])}</strong></p>")
    for table in paper["tables"]:
        out += [f"<h3>{escape(table['title'])}</h3>", _html_table(table["columns"], table["rows"])]
    return "\n".join([*out, "</html>", ""])


def _html_table(head: Sequence, body) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{escape(str(one))}</th>" for one in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in body]
    return "\n".join([*lines, "</table>"])


def sheet(store: Store, title: str, rows: Sequence[dict]) -> str:
    """The first prompts and seeds, none chosen by their looks: a row per prompt, a column per method.
    Where pictures are not in the folder: the first of those that are."""
    everything, rows = rows, [row for row in rows if store.has_picture(row)]
    gone = len(everything) - len(rows)
    head = f"<h2>Pictures, {escape(title)}</h2>"
    lacking = f"{gone} of {len(everything)} pictures are not in the folder; their scores are counted. " if gone else ""
    if not rows:
        return f'{head}<p class="note">{lacking}</p>'
    labels = list(dict.fromkeys((row["method"], row["step"]) for row in rows))
    labels = sorted(labels, key=lambda one: one[0] != PLAIN)[: SHEET_METHODS + 1]
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    seeds = list(dict.fromkeys(row["seed"] for row in rows))[:SHEET_SEEDS]
    by_key = {(row["method"], row["step"], row["prompt"], row["seed"]): row for row in rows}
    shown = min(len(prompts), SHEET_PROMPTS)
    some = f"{lacking}The first {shown} of {len(prompts)} prompts, seeds {', '.join(map(str, seeds))}"
    out = [f'{head}<p class="note">{escape(some)}; green: success, red: not.</p>',
           '<div class="wide"><table class="sheet"><tr><th></th>']  # fmt: skip
    out += [f"<th>{escape(label_of(name, step))}</th>" for name, step in labels]
    for prompt in prompts[:SHEET_PROMPTS]:
        out.append(f"</tr><tr><td>{escape(prompt)}</td>")
        for name, step in labels:
            made = [by_key.get((name, step, prompt, seed)) for seed in seeds]
            out.append("<td><div style='display:flex'>" + "".join(_picture(store, one) for one in made) + "</div></td>")
    return "".join([*out, "</tr></table></div>"])


def _picture(store: Store, row: dict | None) -> str:
    if row is None:
        return '<span class="gap"></span>'
    kind = {True: "yes", False: "no", None: "unknown"}[row["success"]]
    lost = "" if row["found"] is None else "; no " + ", ".join(
        subject for subject, found in zip(row["subjects"], row["found"], strict=True) if not found)  # fmt: skip
    what = escape(f"seed {row['seed']}{lost if lost != '; no ' else ''}")
    return f'<img class="{kind}" alt="{what}" title="{what}" src="{thumbnail(store.picture(row))}">'


def thumbnail(picture: bytes, size: int = THUMBNAIL) -> str:
    """A JPEG as a data address."""
    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
    small.thumbnail((size, size), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
