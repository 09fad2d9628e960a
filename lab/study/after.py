"""What is made of a study's folder afterwards: `python dev.py study NAME DIR`, for each NAME of `COMMANDS`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from lab.tools.environment import STORE, log

from . import export, tables, user_study
from .contact_sheet import contact_sheet
from .report import write_results
from .rows import PACKED
from .scores import check_scorers, make_detector, make_scorers, pixels, scored
from .store import ABOUT, Store
from .study import PLAIN, Study, StudyError, joined
from .worker import Where


def run(arguments: list[str]) -> int:
    name, rest = arguments[0], arguments[1:]
    parser = argparse.ArgumentParser(prog=f"dev.py study {name}", description=COMMANDS[name].__doc__)
    parser.add_argument("folder", metavar="DIR", help="the study's folder")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON on stdout")
    return COMMANDS[name](parser, rest)


def _store(folder: str) -> Store:
    """Of a study that is there; a mistyped name makes no folder."""
    if not (Path(folder) / ABOUT).is_file():
        raise StudyError(f"{folder} holds no study: it has no {ABOUT}")
    return Store(folder)


def _opened(store: Store) -> Study:
    """Its study, which `_store` has made sure of, and what was wrong with the folder told."""
    assert store.study is not None
    for line in store.said:
        log(line)
    store.said.clear()
    return store.study


def _model(study: Study, name: str | None) -> str:
    names = [one.name for one in study.models]
    if name is None and len(names) > 1:
        raise StudyError(f"the study has the models {', '.join(names)}; choose one with --model")
    if name is not None and name not in names:
        raise StudyError(f"the study has no model {name}; it has {', '.join(names)}")
    return name or names[0]


def _results(store: Store, study: Study, as_json: bool) -> None:
    found = write_results(store, study)
    log(f"{store.folder / 'report.html'}")
    if as_json:
        print(json.dumps(tables.contract(found)), flush=True)


def report(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Write table.json, table.csv, report.html and report.md anew from the rows that are there."""
    options = parser.parse_args(rest)
    with _store(options.folder) as store:
        _results(store, _opened(store), options.json)
    return 0


def sheet(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Make one picture: prompts down, methods across, one seed; blue-green frames where everything named was found."""
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="as in the report (all)")
    parser.add_argument("--model", metavar="NAME", help="where the study has several")
    parser.add_argument("--seed", type=int, help="one of the study's (its first)")
    parser.add_argument("--prompts", type=int, default=12, metavar="N", help="the first that have pictures (12)")
    parser.add_argument("--to", metavar="FILE", help="sheet.png in the folder, or a name that ends as Pillow knows")
    options = parser.parse_args(rest)
    with _store(options.folder) as store:
        study = _opened(store)
        model = _model(study, options.model)
        labels = options.methods or [one.label for one in study.methods]
        unknown = set(labels) - {one.label for one in study.methods}
        if unknown:
            raise StudyError(f"the study has no method '{min(unknown)}'")
        rows = [row for row in tables.ordered(study, store.rows.values()) if row["model"] == model]
        seed = study.seeds[0] if options.seed is None else options.seed
        path = Path(options.to or store.folder / "sheet.png")
        try:
            contact_sheet(store, rows, labels, seed, options.prompts).save(path)
        except (OSError, ValueError) as error:
            raise StudyError(f"--to {path}: {error}") from None
    log(str(path))
    if options.json:
        print(json.dumps({"sheet": str(path), "seed": seed, "methods": list(labels)}), flush=True)
    return 0


def score(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Score the pictures that are there again: by another detector, by detections from a file, with further columns."""
    parser.add_argument("--detections", metavar="FILE", help="JSON of any detector; images as rows.jsonl names them")
    parser.add_argument("--detector", help="coco, demo, none or a .tflite file")
    parser.add_argument("--threshold", type=float, metavar="T", help="a detection counts from this score on")
    parser.add_argument("--score", action="append", metavar="NAME", help="a further score; may be repeated")
    options = parser.parse_args(rest)
    with _store(options.folder) as store:
        study = rescored(store, _opened(store), options)
        _results(store, study, options.json)
    return 0


def rescored(store: Store, study: Study, options: argparse.Namespace) -> Study:
    """The study with its new scores; the rows are replaced in one step, once all are there."""
    seen, name, usual = _detections(options)
    threshold = options.threshold if options.threshold is not None else usual
    base = os.environ.get("GSN_BASE", str(STORE / "base"))
    where = Where(sys.executable, os.environ.get("GSN_COMFYUI", base), base)
    check_scorers(options.score or (), study.models)
    scorers = make_scorers(options.score or (), where.metrics)
    cases = {(one.name, one.split, case.text): case for one in study.sets for case in one.cases}
    fresh = []
    for row in store.rows.values():
        case = cases.get((row["set"], row["split"], row["prompt"]))
        if case is None:
            raise StudyError(f"{row['image']} is of a prompt that the study does not have")
        images = pixels([store.picture(row)])
        (scores,) = scored(images, case, seen(row, images), threshold, scorers)
        kept = {key: value for key, value in scores.items() if value is not None or name}
        fresh.append({**row, **kept})
    store.replace_rows(fresh)
    changed = replace(study, scorers=tuple(dict.fromkeys([*study.scorers, *(options.score or ())])))
    if name:
        changed = replace(changed, detector=name, threshold=threshold)
    store.begin(changed)
    return changed


def _detections(options: argparse.Namespace):
    """(row, images) -> its detections; the detector's name, or "" where the old scores stay; its usual threshold."""
    from gsn.metrics.detections import read_detections

    if options.detections:
        try:
            file = read_detections(options.detections)
        except (ValueError, OSError) as error:
            raise StudyError(f"--detections: {error}") from None

        def looked_up(row: dict, images):
            if row["image"] not in file.images:
                raise StudyError(f"{options.detections} has no entry for {row['image']}; list every picture")
            missing = [one for one in row["subjects"] if one not in file.classes]
            if missing:
                raise StudyError(f"the detector of {options.detections} has no class {missing[0]!r}")
            return [file.images[row["image"]]]

        return looked_up, f"file {file.detector or Path(options.detections).name}", 0.25
    detector = make_detector(options.detector or "none")
    if detector is None:
        return (lambda row, images: None), options.detector or "", 0.0
    if detector.detect is None:
        raise StudyError("RT-DETR runs in ComfyUI while pictures are made; give its detections by --detections")
    return (lambda row, images: detector.detect(images)), options.detector, detector.threshold


def join(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Take into DIR, new or not, what other folders have finished of the same prompts, settings and seeds."""
    parser.add_argument("others", nargs="+", metavar="OTHER", help="a study's folder, perhaps of another machine")
    options = parser.parse_args(rest)
    others = [_store(folder) for folder in options.others]
    with Store(options.folder) as store:
        for one in others:
            with one as other:
                theirs = _opened(other)
                study = theirs if store.study is None else joined(store.study, theirs)
                other.check_images(without_pictures=True)
                store.begin(study)
                log("\n".join([*other.said, f"{other.folder}: {store.take(other, study.batches())}"]))
        _results(store, _opened(store), options.json)
    return 0


def pack(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Keep the rows compressed from now on, for a folder whose rows go into git: rows.jsonl becomes rows.jsonl.gz."""
    options = parser.parse_args(rest)
    with _store(options.folder) as store:
        _opened(store)
        store.pack()
    log(str(store.folder / PACKED))
    if options.json:
        print(json.dumps({"rows": str(store.folder / PACKED)}), flush=True)
    return 0


def export_(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Copy one method's pictures into the layout that GenEval's or T2I-CompBench's own programs read."""
    parser.add_argument("--layout", choices=export.LAYOUTS, required=True)
    parser.add_argument("--method", required=True, metavar="NAME", help="as in the report: Ours, or Ours @ 8")
    parser.add_argument("--model", metavar="NAME", help="where the study has several")
    parser.add_argument("--to", required=True, metavar="DIR", help="a new folder")
    options = parser.parse_args(rest)
    with _store(options.folder) as store:
        study = _opened(store)
        rows = tables.ordered(study, store.rows.values())
        method, _, step = (part.strip() for part in options.method.partition("@"))
        model = _model(study, options.model)
        count = export.export(store, rows, options.layout, method, step, model, Path(options.to))
    log(f"{count} pictures in {options.to}")
    if options.json:
        print(json.dumps({"layout": options.layout, "images": count, "to": options.to}), flush=True)
    return 0


def page(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Make a page on which people compare two methods without knowing which is which, and the key to its sides."""
    parser.add_argument("--methods", nargs=2, metavar="NAME", help="as in the report (plain and the first other)")
    parser.add_argument("--model", metavar="NAME", help="where the study has several")
    parser.add_argument("--trials", type=int, default=16, metavar="N", help="pairs to show (16, as in the paper)")
    parser.add_argument("--seed", type=int, default=0, help="of the order and the sides (0)")
    options = parser.parse_args(rest)
    with _store(options.folder) as store:
        study = _opened(store)
        model = _model(study, options.model)
        others = [one.label for one in study.methods if one.name != PLAIN]
        labels = tuple(options.methods or (PLAIN, *others[:1]))
        rows = tables.ordered(study, store.rows.values())
        chosen = user_study.trials(rows, model, labels, options.trials, options.seed)
        path = user_study.write_page(store, model, labels, chosen, options.seed)
        log(f"{path}: send this one. {store.folder / user_study.KEY} names the sides: keep it.")
    if options.json:
        print(json.dumps({"page": str(path), "trials": len(chosen), "methods": list(labels)}), flush=True)
    return 0


def votes(parser: argparse.ArgumentParser, rest: list[str]) -> int:
    """Count the choice files that people sent back: how often each method was chosen, with intervals."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="choice files, one per person")
    options = parser.parse_args(rest)
    path = Path(options.folder) / user_study.KEY
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"the key {path} cannot be read ({error}); make the page again as before") from None
    people = [user_study.read_choices(Path(one), key) for one in options.files]
    found = user_study.preference(key, people)
    log(user_study.said(found))
    if options.json:
        print(json.dumps(asdict(found)), flush=True)
    return 0


COMMANDS = {
    "report": report, "sheet": sheet, "score": score, "join": join, "pack": pack, "export": export_, "page": page,
    "votes": votes,
}  # fmt: skip
