"""TIAM against an independent computation, number by number in float64, on hand-made detections."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsn.metrics.detections import Detection
from gsn.metrics.tiam import ImageScore, Row, score_image, summary
from gsn.metrics.tiam_report import as_json, as_text
from gsn.pictures.tiam import Verdict, bars, verdicts

PROMPTS = [
    (("cat", "dog"), (None, None)),
    (("cat", "dog", "bird"), (None, None, None)),
    (("cat", "dog"), ("red", "green")),
    (("dog", "cat", "bird"), ("green", None, "red")),
]
PAINTS = {"red": (1, 0, 0), "green": (0, 0.6, 0.1)}
THRESHOLDS = (0.25, 0.5, 0.8)
SEEDS = 7


def made(rng, subjects):
    """A picture [12, 12, 3] of red and green columns, and random detections, some of other things."""
    image = np.zeros((12, 12, 3))
    columns = ["red" if rng.random() < 0.5 else "green" for _ in range(12)]
    for x, name in enumerate(columns):
        image[:, x] = PAINTS[name]
    found = []
    for label in (*subjects, *subjects, "car"):
        if rng.random() < 0.75:
            first, last = sorted(rng.choice(13, 2, replace=False).tolist())
            found.append(Detection(label, float(rng.random()), (first / 12, 0.0, last / 12, 1.0)))
    return image, columns, tuple(found)


def by_hand(subjects, colours, columns, found, threshold):
    """(found, bound, success) from the definition; the box's columns are counted, not its pixels converted."""
    there, right = [], []
    for subject, colour in zip(subjects, colours, strict=True):
        mine = [one for one in found if one.label == subject and one.score >= threshold]
        there.append(len(mine) > 0)
        if colour is None:
            right.append(None)
            continue
        shares = []
        for one in mine:
            inside = columns[round(one.box[0] * 12) : round(one.box[2] * 12)]
            shares.append(inside.count(colour) / len(inside))
        right.append(any(share >= 0.4 for share in shares))
    return there, right, all(there) and all(one is not False for one in right)


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(5)
    images = {(p, s): made(rng, PROMPTS[p][0]) for p in range(len(PROMPTS)) for s in range(SEEDS)}
    rows = [
        Row(p, s, score_image(*PROMPTS[p], found, torch.from_numpy(image), threshold), threshold)
        for (p, s), (image, _, found) in images.items()
        for threshold in THRESHOLDS
    ]
    return images, rows


def test_every_image_is_scored_as_by_hand(study):
    images, rows = study
    kinds = set()
    for row in rows:
        _, columns, found = images[row.prompt, row.seed]
        there, right, success = by_hand(*PROMPTS[row.prompt], columns, found, row.threshold)
        assert (list(row.score.found), list(row.score.bound), row.score.success) == (there, right, success)
        kinds.add((all(there), success))
    assert kinds == {(True, True), (True, False), (False, False)}  # the pictures are no easy ones


def test_rates_equal_an_independent_computation(study):
    images, rows = study
    found = summary(rows)
    assert [one.threshold for one in found] == list(THRESHOLDS)
    for one in found:
        verdict = {(p, s): by_hand(*PROMPTS[p], images[p, s][1], images[p, s][2], one.threshold) for p, s in images}
        success = {key: value[2] for key, value in verdict.items()}
        per_prompt = [math.fsum(success[p, s] for s in range(SEEDS)) / SEEDS for p in range(len(PROMPTS))]
        assert one.tiam == pytest.approx(math.fsum(per_prompt) / len(per_prompt), abs=1e-9)
        assert one.tiam_low <= one.tiam <= one.tiam_high
        assert [one.by_prompt[p].rate for p in range(len(PROMPTS))] == pytest.approx(per_prompt, abs=1e-9)
        for s in range(SEEDS):
            rate = math.fsum(success[p, s] for p in range(len(PROMPTS))) / len(PROMPTS)
            assert one.by_seed[s].rate == pytest.approx(rate, abs=1e-9)
        for place in range(3):
            there = [value[0][place] for value in verdict.values() if place < len(value[0])]
            assert one.by_position[place].n == len(there)
            assert one.by_position[place].rate == pytest.approx(math.fsum(there) / len(there), abs=1e-9)
            right = [value[1][place] for value in verdict.values() if place < len(value[1])]
            right = [value for value in right if value is not None]
            bound = one.bound_by_position[place]
            assert bound.n == len(right) and bound.rate == pytest.approx(math.fsum(right) / len(right), abs=1e-9)
        k, n, z = sum(success.values()), len(success), 1.959963984540054
        middle = (k + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
        assert (one.images.low, one.images.high) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_a_class_named_twice_is_satisfied_by_one_instance():
    one = [Detection("cat", 0.9)]
    assert score_image(("cat", "cat"), (None, None), one).success


def test_any_instance_of_the_colour_will_do():
    image = torch.zeros(4, 8, 3)
    image[:, 4:, 0] = 1
    found = [Detection("cat", 0.9, (0, 0, 0.5, 1)), Detection("cat", 0.5, (0.5, 0, 1, 1))]
    assert score_image(("cat",), ("red",), found, image, 0.5).bound == (True,)
    assert score_image(("cat",), ("red",), found, image, 0.6).bound == (False,)  # the red one is not sure enough
    assert score_image(("cat",), ("black",), found, image, 0.6).success


def test_an_image_with_nothing_found_is_no_success():
    assert score_image(("cat", "dog"), (None, "red"), (), torch.zeros(4, 4, 3)) == ImageScore(
        (False, False), (None, False), False
    )


def test_the_threshold_itself_counts():
    assert score_image(("cat",), (None,), [Detection("cat", 0.25)], threshold=0.25).success
    assert not score_image(("cat",), (None,), [Detection("cat", 0.2499999)], threshold=0.25).success


def test_tiam_is_a_mean_over_prompts_and_not_over_images():
    yes, no = ImageScore((True,), (None,), True), ImageScore((False,), (None,), False)
    rows = [Row("a", 0, yes), *(Row("b", s, no) for s in range(3))]
    (one,) = summary(rows)
    assert one.tiam == 0.5 and one.images.rate == 0.25
    assert one.bound_by_position == (None,)


def test_what_cannot_be_scored_is_refused():
    for arguments, message in [
        (((), (), ()), "0 subjects"),
        ((("cat",), (), ()), "1 subjects and 0 colours"),
        ((("cat",), ("red",), ()), "no picture"),
        ((("cat",), ("mauve",), [Detection("cat", 1)], torch.zeros(2, 2, 3)), "'mauve' cannot be told"),
    ]:
        with pytest.raises(ValueError, match=message):
            score_image(*arguments)
    with pytest.raises(ValueError, match="no scored image"):
        summary([])
    twice = Row("a", 1, ImageScore((True,), (None,), True))
    with pytest.raises(ValueError, match="two rows for prompt 'a', seed 1"):
        summary([twice, twice])
    summary([twice, Row("a", 1, twice.score, label="Ours")])  # the same image by another method


# ---- what is told and drawn ------------------------------------------------------------------------------


def test_the_text_tells_every_rate(study):
    text = as_text(summary(study[1]), "by hand", "to be trusted")
    main = summary(study[1])[0]
    assert f"TIAM {100 * main.tiam:.1f} % [{100 * main.tiam_low:.1f}" in text and "4 prompts, 28 images" in text
    assert "by hand, threshold 0.25" in text and "to be trusted" in text
    assert f"third subject: {100 * main.by_position[2].rate:.1f} %" in text
    for part in ("by seed:", "by prompt:", "by threshold:", "with its colour"):
        assert part in text


def test_the_text_of_one_prompt_promises_no_interval_over_prompts():
    text = as_text(summary([Row("a", 0, ImageScore((True,), (None,), True))]), "x")
    assert "bootstrap" not in text and "by prompt" not in text and "100.0 %" in text


def test_the_json_has_every_image_at_the_first_threshold(study):
    told = json.loads(as_json(summary(study[1]), study[1], "by hand"))
    assert len(told["images"]) == 28 and len(told["summaries"]) == 3
    assert set(told["summaries"][0]["by_prompt"]) == {"0", "1", "2", "3"}
    first = next(row for row in study[1] if row.threshold == 0.25)
    assert told["images"][0]["found"] == list(first.score.found)


def close(image, colour, tolerance=0.02):
    """How many pixels [1, H, W, 3] have a colour of 0..255."""
    return int((image - torch.tensor(colour) / 255).abs().amax(-1).lt(tolerance).sum())


def test_frames_and_boxes_say_what_was_found():
    from gsn.pictures.colours import LINES, NO, YES

    found = (Detection("cat", 0.9, (0.25, 0.25, 0.75, 0.75)), Detection("dog", 0.3, (0, 0, 0.2, 0.2)))
    grey = torch.full((64, 64, 3), 0.5)
    sheets = {}
    for threshold in (0.25, 0.5):
        score = score_image(("cat", "dog"), (None, None), found, None, threshold)
        seen = [Verdict(grey, "a photo of a cat and a dog", ("cat", "dog"), (None, None), found, score)]
        sheets[threshold] = verdicts(seen, threshold)
    assert close(sheets[0.25], YES) > 4 * 224 and close(sheets[0.25], NO) < close(sheets[0.5], NO)
    assert close(sheets[0.25], LINES[0]) > 2 * 224  # the cat's box is half the tile's side long
    assert close(sheets[0.5], LINES[0]) > 2 * 224 and close(sheets[0.5], NO) > 4 * 224


def test_only_so_many_pictures_are_drawn():
    seen = [
        Verdict(torch.zeros(8, 8, 3), "p", ("cat",), (None,), (), ImageScore((False,), (None,), False))
        for _ in range(130)
    ]
    assert verdicts(seen, 0.5).shape == verdicts(seen[:64] + seen[:1], 0.5).shape


def test_bars_grow_with_the_rate():
    from gsn.pictures.colours import LINES

    def blue(first, second):
        rows = [Row("a", s, ImageScore((s < first, s < second), (None, None), False)) for s in range(10)]
        return close(bars(summary(rows)[0], "ten pictures"), LINES[0])

    assert blue(10, 0) == pytest.approx(blue(0, 10), rel=0.02) and blue(10, 10) > 1.8 * blue(10, 0) > 3 * blue(2, 0)


def test_labels_are_told_apart():
    yes, no = ImageScore((True, True), (None, None), True), ImageScore((True, False), (None, None), False)
    rows = [Row(prompt, "image 1", score, label=label) for label, prompts in (("plain", "ab"), ("paper @ 8", "abc"))
            for prompt, score in zip(prompts, (yes, no, yes), strict=False)]  # fmt: skip
    (main,) = summary(rows)
    counts = {name: (one.successes, one.n) for name, one in main.by_label.items()}
    assert counts == {"plain": (1, 2), "paper @ 8": (2, 3)}
    assert summary([Row("a", 0, yes)])[0].by_label == {}
    text = as_text((main,), "by hand")
    assert "3 prompts, 5 images of 2 labels together" in text and "  paper @ 8: 66.7 % [" in text
    told = json.loads(as_json((main,), rows, "by hand"))
    assert [one["label"] for one in told["images"]] == [row.label for row in rows]
    assert told["summaries"][0]["by_label"]["plain"]["n"] == 2
    bare = summary([replace(row, label="", seed=i) for i, row in enumerate(rows)])[0]
    assert bars(main, "five").shape[1] > bars(bare, "five").shape[1]  # a bar for each
