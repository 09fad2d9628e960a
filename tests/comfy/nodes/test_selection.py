"""GSNStepSelection through ComfyUI's own executor: from scores to a preset that samples at the chosen step."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from .. import preset_graphs as presets

TABLE = "step,set,successes,n\n0,a,10,100\n3,a,60,100\n6,a,30,100\n0,b,5,100\n3,b,40,100\n6,b,35,100"


def select(comfy, table=TABLE, model=True, **inputs):
    settings = {"scores": table, "file": "", "preset": "paper", "steps": 12, "scheduler": "ddim_uniform"}
    nodes = {"s": {"class_type": "GSNStepSelection", "inputs": settings | inputs}}
    if model:
        nodes["model"] = {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}}
        nodes["s"]["inputs"]["model"] = ["model", 0]
    return comfy.run(nodes, [("s", slot) for slot in range(4)])


@pytest.fixture
def folder(comfy, tmp_path):
    """An input and an output folder of this test's own."""
    import folder_paths

    before = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    folder_paths.set_output_directory(str(tmp_path / "output"))
    yield tmp_path
    folder_paths.set_input_directory(before[0])
    folder_paths.set_output_directory(before[1])


def test_the_chosen_step_in_every_unit_and_a_preset_that_refines_there(comfy, folder):
    result = select(comfy, save_as="presets/mine.json").check()
    sheet, sigma, said, text = (result["s", slot] for slot in range(4))
    assert sheet.dim() == 4 and sheet.shape[-1] == 3
    assert f"refine at sigma {sigma:.4g} (" in said and "step 3)" in said and "% of the schedule" in said
    assert json.loads(text)["noise"] == "ddpm" and str(folder / "input" / "presets" / "mine.json") in said
    assert (folder / "input" / "presets" / "mine.json").read_text() == text
    _, trace, told, _ = presets.run(comfy, "plain", file="presets/mine.json")  # 12 steps of ddim_uniform
    assert trace.records[0].step.index == 3 and trace.records[0].step.sigma == pytest.approx(sigma, rel=1e-5)
    assert "mine.json" in told and "step chosen on 600 images" in told
    elsewhere = presets.graph("plain", file="presets/mine.json", steps=30, scheduler="karras")
    there = comfy.run(elsewhere, ["out", ("preset", 1)]).check()["preset", 1].trace.records[0].step
    assert there.index != 3 and there.sigma == pytest.approx(sigma, rel=0.15)


def test_without_a_model_the_step_stays_as_given(comfy):
    result = select(comfy, TABLE.replace("3,", "30%,").replace("0,a", "0%,a").replace("0,b", "0%,b")
                    .replace("6,", "60%,"), model=False).check()  # fmt: skip
    assert result["s", 1] == 30 and json.loads(result["s", 3])["moves"][0]["at"] == "30%"


def test_a_study_folder_is_read_and_seen_when_it_grows(comfy, folder):
    study = folder / "output" / "study"
    study.mkdir(parents=True)
    common = {"model": "demo", "method": "Ours", "set": "a", "prompt": "p"}
    rows = [common | {"step": step, "seed": seed, "success": seed < right} for step, right in ((0, 1), (3, 8))
            for seed in range(10)]  # fmt: skip
    (study / "study.json").write_text("{}")  # and what else lies in a study's folder
    (study / "rejected.jsonl").write_text("{}")
    write = (study / "rows.jsonl").write_text
    write("\n".join(map(json.dumps, rows)))
    nodes = {"s": {"class_type": "GSNStepSelection", "inputs": {"scores": "", "file": "study", "preset": "paper"}}}
    session = comfy.session()
    assert session.run(nodes, [("s", 1)]).check()["s", 1] == 3
    more = [row | {"step": 6, "success": True} for row in rows[:10]]
    write("\n".join(map(json.dumps, rows + more)) + '\n{"model": "de')
    result = session.run(nodes, [("s", 1), ("s", 2)]).check()
    assert result["s", 1] == 6 and "left out: line 31: not JSON" in result["s", 2]


def test_packed_rows_are_read(comfy, folder):
    study = folder / "output" / "packed"
    study.mkdir(parents=True)
    (study / "study.json").write_text("{}")
    rows = [{"step": step, "seed": seed, "prompt": "p", "success": seed < step} for step in (1, 3) for seed in range(9)]
    (study / "rows.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    for file in ("packed", "packed/rows.jsonl.gz"):
        assert select(comfy, file=file, model=False).check()["s", 1] == 3
    (study / "rows.jsonl.gz").write_bytes(b"rows")
    assert "perhaps in gzip" in select(comfy, file="packed", model=False).error


def test_shrinking_is_a_switch(comfy):
    table = "step,set,successes,n\n0,a,60,160\n3,a,70,160\n6,a,66,160\n0,b,0,160\n3,b,0,160\n6,b,1,160"
    steps = [select(comfy, table, model=False, shrink_noise=on).check()["s", 1] for on in (True, False)]
    assert steps == [3, 6]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"table": ""}, "there are no scores"),
        ({"table": "step,successes,n\n3,1,2"}, "only one (3)"),
        ({"table": "step,successes,n\n3,1,2\n99,1,2"}, "step 99 is past the end"),
        ({"preset": "InitNO+"}, "refines at 2 steps"),
        ({"preset": "Ours (SD 3)"}, "names noise levels of flow models"),
        ({"file": "../study"}, "outside ComfyUI's output and input folders"),
        ({"file": "study"}, "there is no 'study'"),
        ({"save_as": "../mine.json"}, "outside ComfyUI's input folder"),
        ({"save_as": "mine.png"}, "end it with .json"),
        ({"preset_file": "none.json"}, "there is no preset file 'none.json'"),
    ],
)
def test_refusals_name_the_node(comfy, inputs, words):
    result = select(comfy, **inputs)
    assert not result.ok and "GSNStepSelection" in result.error and words in result.error, result.error


def test_a_folder_without_its_one_file_is_refused(comfy, folder):
    (folder / "output" / "study").mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        Path(folder / "output" / "study" / name).write_text("x")
        result = select(comfy, file="study")
        assert "GSNStepSelection" in result.error
    assert "a.csv, b.csv" in result.error


def test_nothing_of_it_touches_a_model(comfy):
    plain = comfy.run(presets.graph(), ["out"]).check()["out"]["samples"]
    select(comfy).check()
    assert torch.equal(comfy.run(presets.graph(), ["out"]).check()["out"]["samples"], plain)
