"""What ships says the same everywhere: the measured numbers, the preset and the templates."""

import json
from pathlib import Path

import pytest

from gsn.methods.model_presets import MODEL_PRESETS
from lab.tools import demo

ROOT = Path(__file__).resolve().parents[3]
FILES = ("validation", "validation_mmdit")


@pytest.fixture(scope="module")
def report():
    return json.loads((ROOT / "demo" / "validation.json").read_text())


def typical_prompt(report):
    """The test prompt whose rates, plain and refined, lie nearest the averages: the demo's prompt is not picked."""
    test, seeds = report["test"], len(report["test"]["seeds"])
    refined = next(cell for cell in test["curve"] if cell["step"] == report["chosen"]["step"])

    def distance(number):
        part = slice(number * seeds, (number + 1) * seeds)
        cells = (test["plain"], refined)
        return sum(abs(sum(map(all, cell["found"][part])) / seeds - cell["success"]) for cell in cells)

    return test["prompts"][min(range(len(test["prompts"])), key=distance)]


@pytest.mark.parametrize(("file", "name"), [("validation", "demo"), ("validation_mmdit", "demo mmdit")])
def test_the_preset_is_the_measured_noise_level_and_slice(file, name):
    report = json.loads((ROOT / "demo" / f"{file}.json").read_text())
    preset = MODEL_PRESETS[name]
    assert preset.refine_sigma == pytest.approx(report["sigma"], rel=1e-3)
    assert preset.columns == {"words": "words", "1:-1": "padded"}[report["chosen"]["slice"]]


TEMPLATES = [
    ("gsn_two_nodes", "SingleStepIterRef"),
    ("gsn_before_after", "GSNKSampler"),
    ("gsn_success_rate", "GSNKSampler"),
]


@pytest.mark.parametrize(("name", "kind"), TEMPLATES)
def test_the_demo_templates_have_the_measured_rate_and_cfg(report, name, kind):
    nodes = json.loads((ROOT / "workflows" / f"{name}.json").read_text())["nodes"]
    values = {node["type"]: node["widgets_values"] for node in nodes}
    sampler = values["KSampler" if kind == "SingleStepIterRef" else kind]
    assert sampler[2:6] == [50, report["chosen"]["cfg"], "ddpm", "ddim_uniform"]
    assert values["GSNSubjects"][0] == ("" if "GSNPromptSet" in values else typical_prompt(report))
    own = values[kind]
    place = own.index("auto")  # step unit, iterations, lr
    assert own[place + 1 : place + 3] == [50, report["chosen"]["lr"]]


@pytest.mark.parametrize(
    ("file", "steps"), [("validation", [0, 4, 8, 12, 16, 20]), ("validation_mmdit", [0, 2, 4, 6, 8, 12, 16, 20])]
)
def test_the_demo_model_neglects_and_answers_to_the_method(file, steps):
    report = json.loads((ROOT / "demo" / f"{file}.json").read_text())
    plain, curve = report["test"]["plain"], report["test"]["curve"]
    chosen = next(cell for cell in curve if cell["step"] == report["chosen"]["step"])
    assert plain["n"] >= 20 * 16 and len(report["test"]["prompts"]) >= 20
    assert 0.15 <= plain["success"] <= 0.60
    assert chosen["success"] - plain["success"] >= 0.10 and chosen["low"] > plain["high"]
    best = max(curve, key=lambda cell: cell["success"])
    assert [cell["step"] for cell in curve] == steps and best["step"] not in (steps[0], steps[-1])
    print(f"plain {plain['success']:.3f}, step {chosen['step']} {chosen['success']:.3f}, n {plain['n']}")


@pytest.mark.parametrize(("which", "sampler"), [("unet", [50, 3.0, "ddpm", "ddim_uniform"]),
                                                ("mmdit", [28, 5.0, "euler", "simple"])])  # fmt: skip
def test_dev_py_demo_samples_a_model_as_it_was_measured(which, sampler):
    """The rate is the template's: validation chose the same for both."""
    kinds = {"1": "GSNDemoModel", "2": "GSNSubjects", "3": "GSNKSampler", "4": "EmptyLatentImage"}
    inputs = {"1": {"which": "unet"}, "2": {"text": "a cat"}, "4": {"batch_size": 4}}
    inputs["3"] = dict.fromkeys(("steps", "cfg", "sampler_name", "scheduler", "lr"))
    prompt = {key: {"class_type": kind, "inputs": inputs[key]} for key, kind in kinds.items()}
    info = {"GSNDemoModel": {"input": {"required": {"which": [["unet", "mmdit"]]}}}}
    demo.configure(prompt, info, {"model": which, "prompt": None, "method": None})
    assert list(inputs["3"].values()) == [*sampler, None]
    assert inputs["1"] == {"which": which} and inputs["4"] == {"batch_size": 1}
    rates = [json.loads((ROOT / "demo" / f"{file}.json").read_text())["chosen"]["lr"] for file in FILES]
    assert rates[0] == rates[1]


def test_every_node_has_a_place_in_a_template():
    templates = [json.loads(path.read_text()) for path in (ROOT / "workflows").glob("*.json")]
    shown = {node["type"] for template in templates for node in template["nodes"]}
    assert set(json.loads((ROOT / "tests" / "schema.json").read_text())) <= shown


def test_what_needs_files_that_do_not_ship_waits_in_its_template():
    """GSNImageScores is there, muted, with a note on its models: a template runs as it is."""
    muted = 2  # the editor's number for it
    for path in (ROOT / "workflows").glob("*.json"):
        nodes = json.loads(path.read_text())["nodes"]
        wanting = [node for node in nodes if node["type"] == "GSNImageScores"]
        note = " ".join(node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
        assert all(node["mode"] == muted for node in wanting), path.stem
        assert not wanting or "models/gsn_metrics/clip-vit-base-patch16" in note


def test_readme_names_every_template():
    table = (ROOT / "README.md").read_text().split("## Ready workflows")[1].split("## ")[0]
    for path in (ROOT / "workflows").glob("*.json"):
        assert f"| `{path.stem}` |" in table
