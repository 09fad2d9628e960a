"""Losses that keep subjects apart and in place: published values, and each formula a second time in plain loops."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from gsn.attention.maps import AttentionMaps, Earlier, MapProcessing, SubjectMaps, smooth, subject_maps
from gsn.attention.masks import otsu_masks, peak_components
from gsn.interventions.context import Context, History
from gsn.losses import LOSSES
from gsn.losses.objective import Term, objective
from gsn.text.subjects import Subjects
from gsn.trace import StepInfo, Trace

from .golden import attention, subjects
from .made_up import of_streams, rows_from, subject
from .masks_in_loops import cells, slow_component, slow_otsu

PADDED = MapProcessing()
GOLDEN = subjects([5], [8])
BOXES = ((0.0, 0.1, 0.5, 1.0), (0.4, 0.0, 1.0, 0.3), (0.5, 0.5, 0.5001, 0.5001))
PIECES = ("<start>", "a", "red", "cat", "and", "zebra", "fish", "or", "old", "wet", "dog", "<end>")
GRID = (16, 16)
PROMPT = Subjects(
    "prompt",
    (
        subject("cat", [3], [2], box=BOXES[0]),
        subject("zebra fish", [5, 6], box=BOXES[1]),
        subject("dog", [10], [8], [9], box=BOXES[2]),
    ),
    of_streams(("clip", PIECES)),
)
NAMES = (
    "self_conflict", "clean", "alignment", "segregation", "retention", "box_retention", "focus", "conform",
    "self_cross",
)  # fmt: skip


def seen(batch=2, grid=(5, 6), seed=0, earlier=True, fine=False):
    """Random AttentionMaps in float64 with self-attention, and an Earlier."""
    g = torch.Generator().manual_seed(seed)
    h, w = grid

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    probabilities = draw(batch, h, w, len(PIECES)).mul(0.5).softmax(-1) / 4
    itself = draw(batch, h * w, h * w).mul(2).softmax(-1)
    finer = draw(batch, h, w, len(PIECES)).mul(0.5).softmax(-1) / 4 if fine else None
    found = AttentionMaps(probabilities, finer, rows_from(itself))
    past = [subject_maps(AttentionMaps(draw(batch, h, w, len(PIECES)).softmax(-1)), PROMPT, PADDED).maps for _ in "ab"]
    return found, Earlier(*past) if earlier else Earlier(), itself


def loss(name, maps, about=PROMPT, **settings):
    return LOSSES[name].function(maps, about, **settings)


def maps_of(found, earlier, about=PROMPT):
    return subject_maps(found, about, PADDED, earlier)


# Each of them a second time: numpy in float64, one number after the other.


def slow_iou(a, b):
    return sum(min(a[c], b[c]) for c in cells(a)) / sum(a[c] + b[c] for c in cells(a))


def slow_smooth(image, taps=(0.2119416, 0.5761169, 0.2119416)):
    h, w = image.shape

    def mirrored(i, n):
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i

    out = np.zeros_like(image)
    for y, x in cells(image):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                weight = taps[dy + 1] * taps[dx + 1]
                out[y, x] += weight * image[mirrored(y + dy, h), mirrored(x + dx, w)]
    return out


def slow(name, m, image, past, average, itself, attributes, about):
    """m: [S, h, w] maps; image: [h, w, T]; past, average: [S, h, w]; itself: [N, N]; attributes: list of maps."""
    w = m.shape[2]
    s = range(len(m))

    def row(c):
        return slow_smooth(itself[c[0] * w + c[1]].reshape(m.shape[1:]))

    if name == "self_conflict":
        rows = [row(max(cells(one), key=lambda c, one=one: one[c])) for one in m]
        return np.mean([slow_iou(rows[i], rows[j]) for i, j in combinations(s, 2)])
    if name == "clean":
        total = 0.0
        for one in m:
            inside = slow_component(one, slow_otsu(one))
            outside = max([one[c] for c in cells(one) if not inside[c]], default=0.0)
            total += outside if outside > min(one[c] for c in cells(one) if inside[c]) else 0.0
        return total
    if name == "alignment":
        return sum(np.mean([abs(m[i][c] - (0.9 * average[i][c] + 0.1 * m[i][c])) for c in cells(m[i])]) for i in s)
    if name == "segregation":
        return sum(slow_iou(m[i], m[j]) for i, j in combinations(s, 2))
    if name == "retention":
        return sum(1 - slow_iou(m[i], slow_otsu(past[i]).astype(float)) for i in s)
    if name == "box_retention":
        kept = []
        for i in s:
            x0, y0, x1, y1 = about.items[i].box
            h = m.shape[1]
            box = np.zeros(m.shape[1:])
            for y, x in cells(box):
                inside_y = int(y0 * (h - 1)) <= y < int(y1 * (h - 1)) + 1
                box[y, x] = inside_y and int(x0 * (w - 1)) <= x < int(x1 * (w - 1)) + 1
            kept.append(1 - slow_iou(m[i], box))
        return (np.mean(kept) + max(1 - one.max() for one in m)) / 2
    if name == "focus":
        taps = np.exp([-0.5, 0, -0.5])
        blurred = [slow_smooth(image[..., k], taps / taps.sum()) for k in range(image.shape[2])]

        def divergence(group):
            p = [one**3 / sum(one[c] ** 3 for c in cells(one)) for one in group]
            mixed = sum(p) / len(p)
            kl = [sum(one[c] * math.log(one[c] / mixed[c]) for c in cells(one)) for one in p]
            return sum(kl) / len(kl) / math.log(len(p))

        words = [(item, *item.attributes) for item in about.items]
        groups = [[p for word in group for p in word.tokens["clip"]] for group in words]
        within = [divergence([blurred[k] for k in group]) for group in groups if len(group) > 1]
        apart = divergence([sum(blurred[k] for k in group) / len(group) for group in groups])
        return ((sum(within) / len(within) if within else 0.0) + 1 - apart) / 2
    if name == "conform":
        members = [(i, m[i]) for i in s] + [(i, a) for i, a in enumerate(attributes) if a is not None]
        members += [(i, past[i]) for i in s] if past is not None else []
        values = []
        for a, (owner, one) in enumerate(members):

            def e(other, one=one):
                return math.exp((one * other).sum() / math.sqrt((one**2).sum() * (other**2).sum()) / 0.5)

            against = sum(e(other) for o, other in members if o != owner)
            partners = [other for b, (o, other) in enumerate(members) if o == owner and b != a] or [one]
            values += [-math.log(e(p) / (e(p) + against)) for p in partners]
        return np.mean(values)
    if name == "self_cross":
        attended = []
        for one in m:
            mask = slow_otsu(one)
            total = sum(one[c] * row(c) for c in cells(one) if mask[c])
            attended.append(total / total.sum())
        return np.mean([np.minimum(attended[i], m[j] / m[j].sum()).sum() for i, j in permutations(s, 2)])
    raise AssertionError(name)


def slowly(name, maps, itself, about=PROMPT):
    """[B] by loops."""

    def image(tensor, b):
        return None if tensor is None else tensor[b].double().numpy()

    return [
        slow(
            name, image(maps.maps, b), image(maps.attention.probabilities, b), image(maps.earlier.previous, b),
            image(maps.earlier.average, b), image(itself, b), [image(a, b) for a in maps.attributes], about,
        )
        for b in range(maps.maps.shape[0])
    ]  # fmt: skip


# Masks


def test_golden_otsu_mask_and_peaks():
    maps = subject_maps(attention(), GOLDEN, PADDED).maps
    assert float(otsu_masks(maps)[0, 0].float().mean()) == pytest.approx(0.0742188, abs=1e-7)
    assert [divmod(cell, 16) for cell in maps.flatten(2).argmax(2)[0].tolist()] == [(12, 0), (2, 5)]


@pytest.mark.parametrize("scale", [1.0, 0.2, 0.02])
def test_masks_again_in_loops(scale):
    torch.manual_seed(0)
    maps = smooth(torch.rand(3, 4, 9, 7) ** 3 * scale, 0.5)
    masks = otsu_masks(maps)
    parts = peak_components(maps, masks)
    for b in range(3):
        for s in range(4):
            image = maps[b, s].numpy()
            assert (masks[b, s].numpy() == slow_otsu(image)).all()
            assert (parts[b, s].numpy() == slow_component(image, slow_otsu(image))).all()
    assert bool((parts != masks).any()) and not parts.requires_grad


def test_a_map_of_one_level_is_a_mask_of_ones():
    flat = torch.stack([torch.zeros(4, 5), torch.full((4, 5), 0.3), torch.rand(4, 5) / 256, torch.ones(4, 5)])[None]
    assert otsu_masks(flat).all() and peak_components(flat, otsu_masks(flat)).all()


def test_a_spot_on_nothing_is_the_spot():
    spot = torch.zeros(1, 1, 4, 5)
    spot[..., 1:3, 2] = 0.6
    assert torch.equal(otsu_masks(spot), spot > 0)


def test_a_component_follows_a_winding_way_and_no_diagonal():
    way = torch.tensor([[1, 1, 1, 0, 1], [0, 0, 1, 0, 0], [1, 1, 1, 0, 1], [1, 0, 0, 1, 0], [1, 1, 1, 0, 1]]).bool()
    maps = way.float()[None, None].clone()
    maps[..., 0, 0] = 2
    wanted = way.clone()
    wanted[0, 4] = wanted[2, 4] = wanted[3, 3] = wanted[4, 4] = False
    assert torch.equal(peak_components(maps, way[None, None])[0, 0], wanted)


# Losses


def test_golden_initno():
    value = objective("attend_excite", "clean").evaluate(attention(), GOLDEN, PADDED)
    assert float(value.terms["attend_excite"]) == pytest.approx(0.8000530, abs=1e-5)
    assert float(value.terms["clean"]) == pytest.approx(0.3811809, abs=1e-5)


def test_segregation_is_the_golden_overlap_times_the_pairs():
    three = subjects([5], [8], [11])
    assert float(loss("segregation", subject_maps(attention(), GOLDEN, PADDED))) == pytest.approx(0.0483342, abs=1e-5)
    value = float(loss("segregation", subject_maps(attention(), three, PADDED)))
    assert value == pytest.approx(3 * 0.0411991, abs=3e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_again_in_loops(name, seed):
    found, earlier, itself = seen(seed=seed)
    maps = maps_of(found, earlier)
    settings = {"cells": 30} if name == "self_cross" else {}
    value = loss(name, maps, **settings)
    assert value.shape == (2,)
    assert value.tolist() == pytest.approx(slowly(name, maps, itself), rel=1e-6)
    low, high = LOSSES[name].bounds
    assert bool((value >= low).all() & (value <= high).all())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "alignment"])
def test_gradient_by_finite_differences(name):
    found, earlier, itself = seen(batch=1, grid=(4, 5), seed=3)
    logits = found.probabilities.log().requires_grad_(True)
    attends = itself.log().requires_grad_(True)

    def total(z, a):
        attention = AttentionMaps(z.softmax(-1) / 4, None, rows_from(a.softmax(-1)))
        return loss(name, maps_of(attention, earlier)).sum()

    through_words, through_rows = torch.autograd.grad(total(logits, attends), (logits, attends), allow_unused=True)
    assert (through_rows is not None) == ("self_rows" in LOSSES[name].needs)
    assert (through_words is not None) == (name != "self_conflict")  # which asks the words only for places
    assert torch.autograd.gradcheck(total, (logits, attends), eps=1e-6, atol=1e-6)


def test_the_average_that_alignment_compares_with_holds_still():
    found, earlier, _ = seen()
    maps = maps_of(found, earlier).maps.requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss("alignment", SubjectMaps(maps, found, (), earlier)).sum(), maps)
    assert torch.equal(gradient, (maps - earlier.average).sign() / 30)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_single_images(name):
    found, earlier, itself = seen()
    together = loss(name, maps_of(found, earlier))
    for b in (0, 1):
        one = AttentionMaps(found.probabilities[b : b + 1], None, rows_from(itself[b : b + 1]))
        past = Earlier(earlier.previous[b : b + 1], earlier.average[b : b + 1])
        assert torch.allclose(loss(name, maps_of(one, past)), together[b], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_zero_and_flat_maps_give_numbers_and_gradients(name):
    for level in (0.0, 0.25):
        maps = torch.full((1, 3, 5, 6), level, requires_grad=True)
        probabilities = torch.full((1, 5, 6, len(PIECES)), level, requires_grad=True)
        found = AttentionMaps(probabilities, None, rows_from(torch.full((1, 30, 30), 1 / 30)))
        about = SubjectMaps(maps, found, (maps[:, 0], None, None), Earlier(maps.detach(), maps.detach()))
        value = loss(name, about)
        low, high = LOSSES[name].bounds
        assert low - 1e-6 <= value.item() <= high + 1e-6
        if value.requires_grad:
            gradients = torch.autograd.grad(value.sum(), (maps, probabilities), allow_unused=True)
            assert all(torch.isfinite(one).all() for one in gradients if one is not None)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_close_to_float64_down_to_tiny_attention(name):
    """Joint attention leaves a word 1e-4 and less; a cube of that must not vanish."""
    found, earlier, itself = seen(grid=(16, 16))
    thin = AttentionMaps(found.probabilities * 1e-4, None, found.self_rows)
    exact = loss(name, maps_of(thin, earlier))
    past = Earlier(earlier.previous.float(), earlier.average.float())
    rough = loss(name, maps_of(AttentionMaps(thin.probabilities.float(), None, rows_from(itself.float())), past))
    assert rough.dtype == torch.float32
    assert rough.tolist() == pytest.approx(exact.tolist(), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_one_subject(name):
    about = Subjects("prompt", PROMPT.items[:1], PROMPT.streams)
    found, earlier, itself = seen()
    if LOSSES[name].least_subjects == 2:
        with pytest.raises(ValueError, match="at least 2"):
            objective(name).check(about, GRID)
        value = objective(name, "attend_excite").evaluate(found, about, PADDED).terms
        assert set(value) == {"attend_excite"}
        return
    objective(name).check(about, GRID)
    past = Earlier(earlier.previous[:, :1], earlier.average[:, :1])
    maps = maps_of(found, past, about)
    assert loss(name, maps, about).tolist() == pytest.approx(slowly(name, maps, itself, about), rel=1e-6)


def test_at_a_runs_first_look_there_is_nothing_to_stay_near():
    maps = maps_of(*seen(earlier=False)[:2])
    assert torch.equal(loss("alignment", maps), torch.zeros(2))
    assert torch.equal(loss("retention", maps), torch.zeros(2))


def test_a_second_spot_is_what_clean_takes_away():
    one = torch.zeros(1, 1, 7, 7)
    one[..., 1, 1], one[..., 1, 2] = 0.8, 0.6
    assert float(loss("clean", SubjectMaps(one, AttentionMaps(one)))) == 0
    two = one.clone()
    two[..., 5, 5] = 0.7
    assert float(loss("clean", SubjectMaps(two, AttentionMaps(two)))) == pytest.approx(0.7)
    two[..., 5, 5] = 0.5  # strong, yet weaker than all of the first spot
    assert float(loss("clean", SubjectMaps(two, AttentionMaps(two)))) == 0


def test_focus_is_0_for_words_that_agree_and_subjects_apart_and_1_for_the_reverse():
    def value(*at):
        """One spot for each token."""
        attention = torch.zeros(1, 8, 8, len(PIECES))
        for token, (y, x) in zip((2, 3, 5, 6, 8, 9, 10), at, strict=True):
            attention[0, y : y + 2, x : x + 2, token] = 1e-3
        return float(loss("focus", maps_of(AttentionMaps(attention), None)))

    cat, fish, dog = (0, 0), (0, 5), (5, 2)
    assert value(cat, cat, fish, fish, dog, dog, dog) == pytest.approx(0, abs=1e-4)
    assert value(*[cat] * 7) == pytest.approx(0.5, abs=1e-4)
    assert value(cat, fish, cat, fish, cat, fish, dog) > 0.6


def test_focus_takes_the_tokens_of_every_text_encoder():
    streams = of_streams(("clip", ("<start>", "cat", "dog")), ("t5", ("cat", "ca", "t", "dog")))
    items = (subject("cat", {"clip": (1,), "t5": (1, 2)}), subject("dog", {"clip": (2,), "t5": (3,)}))
    about = Subjects("prompt", items, streams)
    probabilities = torch.rand(1, 5, 5, 7, dtype=torch.float64)
    maps = subject_maps(AttentionMaps(probabilities), about, MapProcessing(columns="words"))
    one = (subject("cat", {"clip": (1, 4, 5)}), subject("dog", {"clip": (2, 6)}))  # the same columns, counted as one
    same = Subjects("prompt", one, of_streams(("clip", ("<start>", *"abcdef"))))
    assert torch.equal(loss("focus", maps, about), loss("focus", maps, same))


def test_conform_at_the_first_step_moves_undescribed_subjects_apart():
    about = Subjects("prompt", PROMPT.items[1:2] * 2, PROMPT.streams)
    spots = torch.eye(4).reshape(4, 1, 2, 2)

    def value(a, b):
        maps = torch.stack([spots[a, 0], spots[b, 0]])[None]
        return float(loss("conform", SubjectMaps(maps, AttentionMaps(maps), (None, None)), about))

    assert value(0, 0) == pytest.approx(math.log(2))
    assert value(0, 1) == pytest.approx(math.log(1 + math.exp(-2)))


def test_conform_reads_the_describing_words_where_the_subjects_are_read():
    found, earlier, itself = seen()
    maps = maps_of(found, Earlier())
    assert [one is None for one in maps.attributes] == [False, True, False]
    columns = [p for p in range(1, 11)]  # PADDED: all but the start and the last
    stretched = (100 * found.probabilities[..., columns]).softmax(-1)
    assert torch.allclose(maps.attributes[0], smooth(stretched[..., 1][:, None], 0.5)[:, 0])
    finer = maps_of(seen(fine=True)[0], Earlier())
    assert not torch.allclose(finer.attributes[0], maps.attributes[0])
    assert loss("conform", maps).tolist() == pytest.approx(slowly("conform", maps, itself), rel=1e-6)


def test_self_cross_asks_no_more_cells_than_it_may_and_as_many_as_count():
    found, earlier, itself = seen(grid=(8, 9), seed=5)
    asked = []

    def rows(cells):
        asked.append(cells.shape)
        return found.self_rows(cells)

    maps = maps_of(AttentionMaps(found.probabilities, None, rows), earlier)
    exact = loss("self_cross", maps, cells=1000)
    most = int(otsu_masks(maps.maps).flatten(2).sum(2).max())
    assert torch.allclose(loss("self_cross", maps, cells=most), exact, rtol=1e-12)
    assert not torch.allclose(loss("self_cross", maps, cells=2), exact)
    assert asked == [(2, 3 * 72), (2, 3 * most), (2, 6)]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("self_cross", {"cells": 0}, "1 or more"),
        ("conform", {"temperature": 0.0}, "above 0"),
        ("conform", {"temperature": math.nan}, "above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        objective(Term(name, settings=tuple(settings.items()))).check(PROMPT, GRID)


def test_box_retention_needs_a_box_for_every_subject():
    objective("box_retention").check(PROMPT, GRID)
    unboxed = Subjects("prompt", (*PROMPT.items[:2], subject("dog", [10])), PROMPT.streams)
    with pytest.raises(ValueError, match="'box_retention' need a box for every subject, and dog has none"):
        objective("box_retention").check(unboxed, GRID)


def test_over_a_run_the_average_follows_every_look_and_the_step_before_is_the_last_look_there():
    looks = [seen(batch=2, seed=seed)[0] for seed in range(4)]
    history, average, past, before = History(), None, None, None

    class Entry:
        subjects = PROMPT

        def __init__(self):
            self.history = history

        def __call__(self, latent, rows):
            return AttentionMaps(looks[at].probabilities[rows])

    entry = Entry()
    for at, step in enumerate((0, 0, 1, 1)):
        opened = Context(StepInfo(step, 5.0, 0.2), 50, objective("alignment", "retention"), PADDED, Trace())
        opened.one_by_one = at == 2  # images apart see each their own past
        value = opened.evaluate(torch.zeros(2, 1, 2, 2), (entry,), grad=False)
        maps = maps_of(looks[at], Earlier()).maps
        average = maps if average is None else 0.9 * average + 0.1 * maps
        past = before if step != (0, 0, 0, 1)[at] else past
        wanted = (maps - average).abs().flatten(2).mean(2).sum(1)
        assert torch.allclose(value.terms["alignment"].double(), wanted, atol=1e-6)
        kept = torch.zeros(2) if past is None else loss("retention", maps_of(looks[at], Earlier(past)))
        assert torch.allclose(value.terms["retention"].double(), kept.double(), atol=1e-6)
        before = maps
    assert past is not None
