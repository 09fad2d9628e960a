"""Drawings are arrays with the right content: what a sheet must show is found in its pixels."""

import math

import numpy as np
import pytest
import torch

from gsn.pictures import heatmaps as draw
from gsn.pictures import loss_curve as curve
from gsn.pictures.axes import ticks
from gsn.pictures.canvas import plain
from gsn.pictures.colours import heat
from gsn.trace import KeptMaps, Record, StepInfo, Stop, Trace

STEP = StepInfo(8, 5.633, 0.42)


def a_trace(batch=2, labels=("cat", "dog"), grid=(16, 12), iterations=5):
    """A refinement whose subjects' peaks double, at a place of their own."""
    maps = torch.zeros(batch, len(labels), *grid)
    for s in range(len(labels)):
        maps[:, s, 3 + 6 * s, 4] = 0.3
    trace = Trace(labels, "a photo of a cat and a dog", batch)
    trace.kept = [
        KeptMaps("refine", STEP, 0, "before", maps, loops=True),
        KeptMaps("refine", STEP, iterations, "after", 2 * maps, loops=True),
    ]
    for i in range(iterations + 1):
        loss = [1 / (i + 1 + b) for b in range(batch)]
        maxima = [[0.3 + 0.05 * i] * len(labels)] * batch
        terms = {"attend_excite": loss, "iou": loss}
        trace.records.append(Record("refine", STEP, i, loss, terms, maxima, [0.1] * batch, 0.1 * i, loops=True))
    trace.stops = [Stop("refine", STEP, ["all iterations done"] * batch, [iterations] * batch)]
    return trace


def guided(steps=30):
    trace = Trace(("cat",), "a cat", 1)
    for i in range(steps):
        step = StepInfo(i, 14.0 - i / 3, i / steps)
        trace.kept.append(KeptMaps("guide", step, 0, "before", torch.full((1, 1, 8, 8), 0.1 + i / 100)))
        trace.records.append(Record("guide", step, 0, [1 - i / 99], {"x": [1 - i / 99]}, [[0.2]], [0.1], 0.1))
    return trace


def is_sheet(image):
    return (
        image.shape[0] == 1
        and image.shape[-1] == 3
        and image.dtype == torch.float32
        and image.min() >= 0
        and image.max() <= 1
        and image.std() > 0.01
    )


def test_heat_runs_from_dark_to_bright_and_clips():
    colours = heat(np.linspace(-1, 2, 301))
    light = colours @ [0.3, 0.6, 0.1]
    assert light[0] < 0.01 and light[-1] > 0.9
    assert (np.diff(light) >= -1e-6).all()
    assert np.isfinite(heat(np.array([np.nan]))).all()


@pytest.mark.parametrize("when", draw.WHEN)
@pytest.mark.parametrize("picture", [None, (128, 96), (640, 480), (40, 30)])
def test_heatmaps_of_any_picture_size(when, picture):
    image = None if picture is None else torch.rand(2, *picture, 3)
    assert is_sheet(draw.heatmaps(a_trace(), image, when=when))


def test_before_and_after_share_one_scale():
    """The peak before has the colour of half the scale, the peak after its brightest."""
    sheet = draw.heatmaps(a_trace(batch=1), opacity=1.0)[0].numpy()
    found = {level: np.abs(sheet - heat(np.array(level))).max(-1).min() for level in (0.5, 1.0)}
    assert found[0.5] < 0.02 and found[1.0] < 0.02
    weak = a_trace(batch=1)
    weak.kept = weak.kept[:1] * 2
    alone = draw.heatmaps(weak, opacity=1.0)[0].numpy()
    assert alone.shape == sheet.shape and not np.array_equal(alone, sheet)


def test_a_map_keeps_its_place_over_the_picture():
    trace = a_trace(batch=1, labels=("cat",), grid=(16, 16))
    trace.kept = [KeptMaps("observe", STEP, 0, "seen", trace.kept[0].maps)]
    picture = torch.zeros(1, 256, 256, 3)
    colour = draw._overlay(trace.kept[0].maps[0, 0], 0.3, picture[0], (256, 256), 1.0)
    y, x = np.unravel_index(colour.sum(-1).argmax(), (256, 256))
    assert abs(y - 3.5 * 16) < 8 and abs(x - 4.5 * 16) < 8
    assert is_sheet(draw.heatmaps(trace, picture))


def test_opacity_zero_shows_the_picture_in_grey():
    picture = torch.rand(64, 64, 3)
    shown = draw._overlay(torch.rand(8, 8), 1.0, picture, (64, 64), 0.0)
    assert np.allclose(shown, picture.mean(-1, keepdim=True).numpy(), atol=1e-4)


def test_words_choose_subjects():
    trace = a_trace()
    both, one = draw.heatmaps(trace), draw.heatmaps(trace, words=" Dog ,")
    assert one.shape[2] < both.shape[2]
    with pytest.raises(ValueError, match="'cow'.*cat, dog"):
        draw.heatmaps(trace, words="cat, cow")


def test_pictures_of_another_run_are_refused():
    with pytest.raises(ValueError, match="batch size 2, but 3 pictures"):
        draw.heatmaps(a_trace(batch=2), torch.rand(3, 64, 64, 3))


def test_a_run_without_maps_shows_pictures_and_reason():
    trace = Trace(batch=2, notes=["nothing to do: zero iterations or zero strength"])
    image = torch.rand(2, 64, 64, 3)
    assert is_sheet(draw.heatmaps(trace, image))
    told, untold = draw.heatmaps(trace), draw.heatmaps(Trace())
    assert is_sheet(told) and (told < 0.5).sum() > (untold < 0.5).sum()


def test_a_filmstrip_has_at_most_24_moments_with_first_and_last():
    kept = guided(60).kept
    thinned = draw._thinned(kept)
    assert len(thinned) == 24 and thinned[0] is kept[0] and thinned[-1] is kept[-1]
    assert is_sheet(draw.heatmaps(guided(60), when=draw.WHEN[1]))


def test_guidance_alone_is_shown_by_its_first_and_last_moment():
    kept = guided().kept
    assert draw._pairs(kept) == [kept[0], kept[-1]]
    assert draw._pairs(kept[:1]) == kept[:1]
    assert draw._pairs([*kept, *a_trace().kept])[0].action == "refine"


def test_flat_and_broken_maps_are_drawn():
    trace = a_trace(batch=1)
    zero = torch.zeros(1, 2, 4, 4)
    trace.kept = [
        KeptMaps("refine", STEP, 0, "before", zero, loops=True),
        KeptMaps("refine", STEP, 1, "after", zero * math.nan, loops=True),
    ]
    assert is_sheet(draw.heatmaps(trace, torch.rand(1, 64, 64, 3)))


@pytest.mark.parametrize("batch, subjects", [(1, 1), (1, 2), (4, 3), (16, 9)])
def test_curves_of_any_batch(batch, subjects):
    trace = a_trace(batch, tuple(f"thing {i}" for i in range(subjects)), grid=(60, 60))
    assert is_sheet(curve.loss_curve(trace))


def test_curves_have_one_row_per_action():
    trace = a_trace(batch=1, labels=("cat",))
    one = curve.loss_curve(trace)
    trace.records += guided().records
    two = curve.loss_curve(trace)
    trace.records += a_trace(batch=1, labels=("cat",)).records  # a second refinement at the same step
    three = curve.loss_curve(trace)
    assert one.shape[1] < two.shape[1] < three.shape[1]
    assert len(curve._runs(trace.records)) == 3


def test_curves_survive_what_is_not_finite_constant_or_absent():
    trace = a_trace(batch=1)
    trace.records[2].loss[0] = math.nan
    trace.records[3].maxima[0][0] = math.inf
    assert is_sheet(curve.loss_curve(trace))
    still = Trace(("cat",), "", 1)
    still.records = [Record("observe", STEP, 0, [0.5], {}, [[0.5]], [0.0], 0.1)]
    assert is_sheet(curve.loss_curve(still))
    assert is_sheet(curve.loss_curve(Trace(notes=["nothing to do"])))
    unseen = Trace(("cat",), "a cat", 1)
    unseen.records = [Record("observe", STEP, 0, [math.nan], {}, [[math.nan]], [0.0], 0.1)]
    assert is_sheet(curve.loss_curve(unseen))


def test_stop_reasons_are_one_sentence_where_images_agree():
    trace = a_trace(batch=2)
    assert curve._stop_lines(trace, trace.records) == ["every image: all iterations done (5 updates)"]
    trace.stops = [Stop("refine", STEP, ["all iterations done", "loss at or below 0.2"], [5, 3])]
    lines = curve._stop_lines(trace, trace.records)
    assert lines == ["image 1: all iterations done (5 updates)", "image 2: loss at or below 0.2 (3 updates)"]


def test_any_text_is_drawn():
    assert plain("café\n σ 猫") == "cafe ? ?"
    trace = a_trace(labels=("naïve cat", "犬"))
    trace.prompt = "word " * 200
    assert is_sheet(draw.heatmaps(trace)) and is_sheet(curve.loss_curve(trace))


def test_ticks_are_round_and_inside():
    for low, high in [(0, 1), (0.137, 0.1371), (-3, 12345), (0, 1e-9)]:
        found = ticks(low, high, 5)
        assert 1 <= len(found) <= 6 and all(low <= t <= high * (1 + 1e-9) for t in found)
