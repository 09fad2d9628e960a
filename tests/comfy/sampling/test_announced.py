"""What a run will do, in words, with the steps of this very run: before its first model call."""

import pytest

from ..graphs import graph, guide, refine

SETTINGS = {"method": "paper", "step": 8.0, "step_unit": "auto", "iterations": 2, "lr": 0.01}


def ksampler(**settings):
    nodes = graph()
    nodes["out"]["class_type"] = "GSNKSampler"
    nodes["out"]["inputs"] |= SETTINGS | settings
    return nodes


def texts(messages):
    return [data["text"] for event, data in messages if event == "progress_text" and data["node"] == "out"]


def test_gsn_ksampler_shows_it_below_itself_first(comfy):
    result = comfy.run(ksampler(denoise=0.8, iterations=7), ["out", ("out", 2)]).check()
    (text,), (done,) = texts(result.messages), {record.step for record in result["out", 2].trace.records}
    assert text.startswith("paper: Grimal et al. 2025") and "up to 7 updates by Adam" in text
    assert f"in this run step {done.index} of 0 to 5 (sigma {done.sigma:.4g})" in text
    events = [event for event, _ in result.messages]
    assert events.index("progress_text") < events.index("progress")


def test_gsn_ksampler_shows_nothing_where_nothing_is_done(comfy):
    assert not texts(comfy.run(ksampler(iterations=0), ["out"]).check().messages)
    assert not texts(comfy.run(ksampler(method="plain"), ["out"]).check().messages)
    assert comfy.run(ksampler(denoise=0.0), ["out"]).ok  # a run without a step


def test_a_step_that_the_run_has_not_is_refused(comfy):
    result = comfy.run(ksampler(step=6.0, step_unit="index"), ["out"])
    assert not result.ok and "GSNKSampler: step 6 is past the end" in result.error and not result.progress


def test_log_and_trace_say_it_of_every_chain(comfy, caplog):
    caplog.set_level("INFO", "gsn-nodes")
    result = comfy.run(graph([refine(iterations=1), guide()]), ["out", ("p1", 1)]).check()
    trace = result["p1", 1].trace
    one, other = trace.plan
    assert one.startswith("SingleStepIterRef at step 2 of 0 to 5 (sigma ")
    assert one.endswith("refine: up to 1 updates by Adam, rate 0.05, constant; it lowers 0.5 attend_excite + 0.5 iou")
    assert other.startswith("GSNGuidance at steps 3 to 4 of 0 to 5 (sigma ") and "it lowers attend_excite" in other
    assert [message for message in caplog.messages if message in trace.plan] == trace.plan
    assert '"plan": [\n  "SingleStepIterRef at step 2' in trace.to_json()
    assert not trace.notes


@pytest.mark.parametrize("patch", [refine(iterations=0), guide(step_size=0.0)])
def test_what_is_off_is_not_announced(comfy, patch):
    assert not comfy.run(graph([patch]), ["out", ("p0", 1)]).check()["p0", 1].trace.plan
