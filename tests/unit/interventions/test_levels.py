"""Levels of losses: one that the loss cannot come to is refused, and one that it can come to is not."""

import math

import pytest
import torch

from gsn.attention.maps import AttentionMaps, Earlier, SubjectMaps
from gsn.interventions.init_noise import InitNoise
from gsn.interventions.refine import Refine
from gsn.losses import LOSSES
from gsn.losses.objective import Term, objective
from gsn.text.subjects import Subject, Subjects, TextStream


def subjects(count):
    items = tuple(Subject(f"s{i}", {"clip": (i + 1,)}) for i in range(count))
    stream = TextStream("clip", 0, count + 2, tuple(range(1, count + 1)), (0,), ("x",) * (count + 2))
    return Subjects("", items, (stream,))


def apart(count):
    """[1, S, 4, S]: every subject alone in its column."""
    return torch.eye(count)[None, :, None].repeat(1, 1, 4, 1)


def value(loss, maps, previous, **settings):
    seen = SubjectMaps(maps, AttentionMaps(maps.movedim(1, -1)), (None,) * maps.shape[1], Earlier(previous, previous))
    return float(LOSSES[loss].function(seen, subjects(maps.shape[1]), **settings))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_lowest_value_is_one_that_the_loss_comes_to_and_never_below(count):
    for temperature in (0.5, 2.0):
        least = LOSSES["conform"].lowest(count, {"temperature": temperature})
        assert value("conform", apart(count), None, temperature=temperature) == pytest.approx(least, rel=1e-5)
    assert value("retention", apart(count), apart(count)) == pytest.approx(LOSSES["retention"].lowest(count, {}))
    torch.manual_seed(0)
    for _ in range(20):
        maps, previous = torch.rand(2, 1, count, 4, 6) ** 8
        assert value("conform", maps, previous) > LOSSES["conform"].lowest(count, {})
        assert value("retention", maps, previous) >= LOSSES["retention"].lowest(count, {})


CONFORM, RETENTION = objective("conform"), objective("retention")
WARM = objective(Term("conform", settings=(("temperature", 2.0),)))
BESIDE = objective("attend_excite", "retention")
OUT = {  # loss, the level's name and value, subjects of each entry (none: not known yet), what is said
    "conform": (CONFORM, "conform", 0.01, (), "never below 0.126928$"),
    "three subjects": (CONFORM, "conform", 0.2, (3,), "never below 0.239545$"),
    "its temperature": (WARM, "conform", 0.4, (), "never below 0.474077$"),
    "in the total": (CONFORM.scaled(2), "total", 0.2, (2,), "total is 0.2, .* never below 0.253856$"),
    "retention": (RETENTION, "retention", 0.4, (), "never below 0.5 after a run's first step"),
    "retention of two": (RETENTION, "retention", 0.9, (2,), "never below 1 after"),
    "of the fewer": (RETENTION, "retention", 0.9, (3, 2), "never below 1 after"),
    "one region of two": (objective("tv"), "tv", -2.5, (2,), "never below -2$"),
}


@pytest.mark.parametrize("case", OUT)
def test_a_level_out_of_reach_is_refused(case):
    goal, name, level, counts, said = OUT[case]
    for intervention in (Refine(stop=((name, level),)), InitNoise(stop=((name, level),))):
        with pytest.raises(ValueError, match=said):
            intervention.check_run(goal, (0,), counts)
        if not counts:
            with pytest.raises(ValueError, match=said):
                intervention.check(goal)


IN = {
    "as it is told": (CONFORM, "conform", 0.126928, (2,)),
    "three subjects, not known yet": (CONFORM, "conform", 0.2, ()),
    "retention": (RETENTION, "retention", 1.0, (2,)),
    "the total at the first step": (BESIDE, "total", 0.5, (2,)),
    "two regions": (objective("tv"), "tv", -2.5, (2, 2)),
    "absent": (objective("attend_excite", "conform"), "conform", 0.1, (1,)),
}


@pytest.mark.parametrize("case", IN)
def test_a_level_that_can_be_reached_is_taken(case):
    goal, name, level, counts = IN[case]
    Refine(stop=((name, level),)).check_run(goal, (0,), counts)


@pytest.mark.parametrize(
    "other, level, known, about, said",
    [
        ("attend_excite", -0.1, False, 2, "waits for 'attend_excite' at or below -0.1, where it never comes"),
        ("attend_excite", math.nan, False, 2, "at or below nan; give a finite number"),
        ("conform", 0.1, False, 2, "never below 0.126928"),
        ("conform", 0.2, True, 3, "never below 0.239545"),
    ],
)
def test_a_loss_that_waits_for_what_never_comes_is_refused(other, level, known, about, said):
    goal = objective(other, Term("iou", while_below=(other, level)))
    with pytest.raises(ValueError, match=said):
        goal.check(subjects(about), (4, 4))
    if known:
        goal.check_terms()
    else:
        with pytest.raises(ValueError, match=said):
            goal.check_terms()
    objective(other, Term("iou", while_below=(other, 0.5))).check(subjects(about), (4, 4))
