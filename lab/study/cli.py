"""`python dev.py study`: make a study, go on with one, and everything that is made of its folder afterwards."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path

from gsn.text.prompt_sets import NAMES, SPLITS, PromptSet, demo_set, paper_set, read_prompts
from lab.tools.environment import ROOT, STORE, SetupError, log
from lab.tools.server import ServerError

from . import tables
from .models import Model, named_model
from .run import Progress, lacking, run_here
from .scores import check_scorers, check_subjects, make_detector
from .store import Store
from .study import PLAIN, Method, Study, StudyError, joined, label_of
from .worker import Where
from .workflow import check_method, check_user_workflow, is_workflow

QUICK = {"methods": "plain,Ours", "prompts": 4, "seeds": "0-3", "split": "validation"}
EPILOG = """
The same command goes on where it was stopped. In a folder that holds a study, what is not said is as in the folder:
--out alone goes on with it, and --out with --prompts 20, say, adds prompts to it.
Other uses: study report|sheet|score|join|pack|export|page|votes DIR (each with --help). docs/study.md has all of it.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="dev.py study", description=__doc__, epilog=EPILOG)
    add = top.add_argument
    add("--out", metavar="DIR", help="the study's folder (study_out)", default="study_out")
    add("--quick", action="store_true", help="plain and Ours, 4 prompts, 4 seeds, on the demo model")
    add("--model", action="append", metavar="NAME", help="unet, mmdit, or a checkpoint's file name; may be repeated")
    add("--methods", metavar="A,B,...", help="preset names, plain, JSON presets or workflows (plain,Ours)")
    add("--steps", metavar="0,8,50%,...", help="steps in place of the methods' own, for each method that has one")
    add("--set", action="append", metavar="NAME", help=f"{', '.join(NAMES)}, or a file of prompts; may be repeated")
    add("--split", choices=SPLITS, help="of the named sets (test)")
    add("--prompts", type=int, metavar="N", help="of each set (all of the demo's, 10 or 300 of the paper's)")
    add("--seeds", metavar="0-15", help="whole numbers and ranges (0-15)")
    add("--batch", type=int, metavar="N", help="images at once (8, or 1 for a checkpoint)")
    add("--detector", help="coco, demo, none, rtdetr:FILE or a .tflite file (demo for the demo models; else coco,"
        " or none where it does not know every subject)")  # fmt: skip
    add("--threshold", type=float, metavar="T", help="a detection counts from this score on (the detector's own)")
    add("--score", action="append", metavar="NAME", help="a further score of lab/study/scores.py; may be repeated")
    for name, kind in (("sampling-steps", int), ("cfg", float), ("sampler", str), ("scheduler", str), ("size", int),
                       ("negative", str), ("dtype", str)):  # fmt: skip
        add(f"--{name}", type=kind, help="of all models of this study")
    add("--ray", metavar="ADDRESS", help="a Ray cluster, or local:2 for two workers on this machine")
    add("--workers", type=int, help="of the cluster (one per GPU, or per machine)")
    add("--without-pictures", action="store_true",
        help="go on in a folder whose pictures are elsewhere: those that are not there are not made again")  # fmt: skip
    add("--time-limit", type=float, default=1800.0, metavar="S", help="seconds that a run may take (1800)")
    add("--prepare", action="store_true", help="set this machine up and do nothing else")
    add("--json", action="store_true", help="end with one line of JSON on stdout")
    return top


def main(arguments: list[str] | None = None) -> int:
    from . import after

    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and arguments[0] in after.COMMANDS:
            return after.run(arguments)
        return run(parser().parse_args(arguments))
    except (StudyError, SetupError, ServerError) as error:
        log(f"dev.py study: {error}")
        return 1
    except KeyboardInterrupt:
        log("Stopped. Finished images are kept; the same command goes on.")
        return 130


def run(options: argparse.Namespace) -> int:
    from .report import write_results

    if options.prepare:
        log("This machine is set up.")
        return 0
    check_workers(options)
    with Store(options.out) as store:
        study = chosen_study(store, options)
        detector = make_detector(study.detector)
        check_subjects(detector, study.detector, [case for one in study.sets for case in one.cases])
        failures = make(store, study, options)
        found = write_results(store, study)
    log(summary(found))
    log(f"{store.folder / 'report.html'}")
    for messages in failures.values():
        log(f"Failed {len(messages)} times: {messages[0]}")
    if options.json:
        print(json.dumps(tables.contract(found)), flush=True)
    return 1 if failures else 0


def make(store: Store, study: Study, options: argparse.Namespace) -> dict:
    """Everything that is missing; what failed, by cell."""
    from tqdm import tqdm

    with tqdm(total=len(store.rows), desc="checking", unit="image", leave=False, disable=not store.rows) as bar:
        absent = store.check_images(bar, options.without_pictures)
    store.drop_partial(study.batches())
    for line in store.said:
        log(line)
    if store.said:
        log(f"{len(store.said)} damaged entries of earlier runs, listed in {store.folder / 'rejected.jsonl'}.")
    if absent:
        log(f"{absent} pictures are not in {store.folder}; their rows are kept.")
    todo = lacking(store, study)
    if not todo:
        log(f"All {study.images} images are there.")
        return {}
    missing = sum(len(batch.seeds) for batch in todo)
    progress = Progress(study.images, study.images - missing)
    where = Where(sys.executable, os.environ["GSN_COMFYUI"], os.environ.get("GSN_BASE", str(STORE / "base")), flags())

    def started(versions: dict) -> None:
        study.made_with.update(versions)
        store.begin(study)

    try:
        if options.ray:
            from .on_ray import run_on_ray

            run_on_ray(store, study, todo, where, options.time_limit, progress, started, options.ray, options.workers)
        else:
            run_here(store, study, todo, where, options.time_limit, progress, started)
    finally:
        progress.close()
        log(f"{progress.made} images made now, {len(store.rows)} of {study.images} in {store.folder}")
    return progress.failures


def check_workers(options: argparse.Namespace) -> None:
    """Raises StudyError for workers that could not be had."""
    from .on_ray import workers_here

    here = workers_here(options.ray) if options.ray else None
    if options.workers is None:
        return
    if options.workers < 1:
        raise StudyError(f"--workers {options.workers}: at least 1 is needed")
    if here or not options.ray:
        raise StudyError("--workers is for --ray ADDRESS of a cluster; on this machine write --ray local:2 for two")


def flags() -> tuple[str, ...] | None:
    """ComfyUI's own flags from GSN_COMFYUI_FLAGS; None: what the machine needs."""
    given = os.environ.get("GSN_COMFYUI_FLAGS")
    return None if given is None else tuple(given.split())


def summary(found: list[tables.Cell]) -> str:
    lines = []
    for one in found:
        against = "" if one.won is None else f"   won {one.won}, lost {one.lost}, p {one.p:.3g}"
        rate = f"{100 * one.rate:5.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]"
        lines.append(f"{one.model}  {one.set}  {one.label:24} {rate} of {one.n}{against}")
    return "\n".join(lines) or "No image was scored."


# --- from options to a study


def chosen_study(store: Store, options: argparse.Namespace) -> Study:
    """What is asked, joined with what the folder holds."""
    asked = asked_study(options, store.study)
    study = asked if store.study is None else joined(store.study, asked)
    store.begin(study)
    return study


def asked_study(options: argparse.Namespace, before: Study | None = None) -> Study:
    """before: the folder's study, which says all that the options do not. A quick one is the same in any folder."""
    if options.quick:
        before = None

    def wanted(name: str, default):
        given = getattr(options, name)
        return given if given is not None else QUICK.get(name, default) if options.quick else default

    models = chosen_models(options, before)
    demo = all(not one.checkpoint for one in models)
    if not demo and any(not one.checkpoint for one in models):
        raise StudyError("a study holds demo models or checkpoints, not both: they know different words")
    methods = chosen_methods(wanted("methods", None), options.steps, before)
    scorers = before.scorers if before and options.score is None else tuple(options.score or ())
    check_scorers(scorers, models)
    sets = chosen_sets(options.set, wanted("split", None), wanted("prompts", None), demo, before)
    seeds = before.seeds if before and options.seeds is None else chosen_seeds(wanted("seeds", "0-15"))
    batch = options.batch if options.batch is not None else before.batch if before else 8 if demo else 1
    if batch < 1:
        raise StudyError("--batch must be at least 1")
    detector = options.detector or (before.detector if before else usual_detector(demo, sets))
    return Study(models, methods, sets, seeds, batch, detector, chosen_threshold(options, detector, before), scorers,
                 made_with())  # fmt: skip


def chosen_models(options: argparse.Namespace, before: Study | None) -> tuple[Model, ...]:
    settings = {"steps": options.sampling_steps, "cfg": options.cfg, "sampler": options.sampler,
                "scheduler": options.scheduler, "width": options.size, "height": options.size,
                "negative": options.negative, "dtype": options.dtype}  # fmt: skip
    given = {name: value for name, value in settings.items() if value is not None}
    known = {one.checkpoint or one.name: one for one in (before.models if before else ())}
    names = options.model or list(known) or ["unet"]
    return tuple(replace(known.get(name) or named_model(name), **given) for name in names)


def chosen_sets(
    named: list[str] | None, split: str | None, count: int | None, demo: bool, before: Study | None
) -> tuple[PromptSet, ...]:
    """The named sets, or the folder's, at another count or split where one is given."""
    known = {(one.name, one.split): one for one in (before.sets if before else ())}
    if named or not known:
        asked = [(name, split or "test") for name in named or [NAMES[0]]]
    else:
        asked = list(dict.fromkeys((name, split or own) for name, own in known))
    of_file = next((name for name, _ in asked if name not in NAMES and not named), None)
    if of_file and (split or count):
        raise StudyError(f"the folder's prompts '{of_file}' are those of a file; name it again, with --set")
    return tuple(known[key] if count is None and key in known else chosen_set(*key, count, demo) for key in asked)


def chosen_seeds(text: str) -> tuple[int, ...]:
    from gsn.methods.sweep import read_seeds

    try:
        return read_seeds(text)
    except ValueError as error:
        raise StudyError(f"--seeds: {error}") from None


def usual_detector(demo: bool, sets: tuple[PromptSet, ...]) -> str:
    """The demo models' own; for checkpoints the COCO detector that ships, unless it could never find a subject."""
    from gsn.metrics.detections import COCO

    if demo:
        return "demo"
    known = all(subject in COCO for one in sets for case in one.cases for subject in case.subjects)
    return "coco" if known else "none"


def chosen_threshold(options: argparse.Namespace, detector: str, before: Study | None) -> float:
    """As given; else the folder's, where the detector is the folder's; else the detector's own."""
    if options.threshold is None and before and detector == before.detector:
        return before.threshold
    made = make_detector(detector)
    return options.threshold if options.threshold is not None else made.threshold if made else 0.0


def chosen_methods(text: str | None, steps: str | None, before: Study | None) -> tuple[Method, ...]:
    """`plain` has no step; with steps given, each other method is taken at each of them."""
    if text is None and steps is None and before:
        return before.methods
    found = []
    for method in named_methods(text or "plain,Ours") if text or not before else each_once(before.methods):
        moved = steps is not None and not method.step and method.name != PLAIN
        wanted = [one.strip() for one in steps.split(",")] if moved else [method.step]
        found += [checked(replace(method, step=step)) for step in wanted]
    if not found:
        raise StudyError("--methods names no method")
    labels = [one.label for one in found]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise StudyError(f"the method '{twice[0]}' is named twice")
    return tuple(found)


def named_methods(text: str) -> list[Method]:
    """A name, or a file of a preset or a workflow; with its own step after an @."""
    found = []
    for name in filter(None, (one.strip() for one in text.split(","))):
        name, _, step = (part.strip() for part in name.partition("@"))
        method = Method(name) if not name.endswith(".json") else method_file(Path(name))
        found.append(replace(method, step=step))
    return found


def each_once(methods: tuple[Method, ...]) -> list[Method]:
    """Without their steps."""
    return list(dict.fromkeys(replace(one, step="") for one in methods))


def method_file(path: Path) -> Method:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"the method {path} cannot be read: {error}") from None
    if is_workflow(text):
        check_user_workflow(path.name, text)
        return Method(path.stem, kind="workflow", file=text)
    return Method(path.stem, kind="preset file", file=text)


def checked(method: Method) -> Method:
    """With its step as the pack writes it. Raises StudyError for what can be known to fail."""
    from gsn.methods.preset_file import PresetError, from_json
    from gsn.methods.steps import StepError, parse_steps
    from gsn.methods.sweep import at_step, read_variants

    check_method(method)
    try:
        step = method.step and str(parse_steps(method.step)[0])
        if method.kind == "preset file":
            preset = from_json(method.file)
            if step:
                at_step(method.name, preset, parse_steps(step)[0])
        elif method.kind == "preset":
            read_variants(label_of(method.name, step))
    except PresetError as error:
        raise StudyError(f"the preset {method.name}.json: {error}") from None
    except (StepError, ValueError) as error:
        raise StudyError(str(error)) from None
    return Method(method.name, step, method.kind, method.file)


def chosen_set(name: str, split: str, count: int | None, demo: bool) -> PromptSet:
    try:
        if name not in NAMES:
            return cut(read_prompts(name), count)
        if demo:
            return demo_set(name, split, count)
        return paper_set(name, split, count or (10 if split == "validation" else 300))
    except (ValueError, OSError) as error:
        raise StudyError(f"--set: {error}") from None


def cut(found: PromptSet, count: int | None) -> PromptSet:
    if count is None or count >= len(found.cases):
        return found
    return PromptSet(found.name, found.split, f"{found.source}, the first {count}", found.cases[:count])


def made_with() -> dict:
    import torch

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = text.partition('version = "')[2].partition('"')[0]
    return {"gsn-nodes": version, "machine": platform.machine(), "threads": torch.get_num_threads()}
