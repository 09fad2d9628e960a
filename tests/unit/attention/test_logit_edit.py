"""Edits of attention against closed forms in numpy."""

import math

import numpy as np
import pytest
import torch

from gsn.attention.logit_edit import LogitEdit, on_grid
from gsn.interventions.reweight import Reweight, owners
from gsn.interventions.temperature import Temperature
from gsn.losses.objective import PAPER
from gsn.text.subjects import Subject, Subjects, TextStream

# a text of two streams: start, a, red, cat, dog, end | cat, dog
CLIP = TextStream("clip", 0, 6, (1, 2, 3, 4), (0,), ("<start>", "a", "red", "cat", "dog", "<end>"))
T5 = TextStream("t5", 6, 2, (0, 1), (), ("cat", "dog"))
CAT = Subject("cat", {"clip": (3,), "t5": (0,)}, (Subject("red", {"clip": (2,)}),))
DOG = Subject("dog", {"clip": (4,), "t5": (1,)})
TEXT = Subjects("a red cat dog", (CAT, DOG), (CLIP, T5))


def edited(logits, edit):
    """[h w, T] logits of one image after the edit, and their softmax, in numpy."""
    factor = 1.0 if edit.factor is None else edit.factor.numpy()
    bias = 0.0 if edit.bias is None else edit.bias[0].flatten(0, 1).numpy()
    changed = logits * factor + bias
    weights = np.exp(changed - changed.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("scope", "columns"),
    [("whole text", range(8)), ("words", [1, 2, 3, 4, 6, 7]), ("subjects", [2, 3, 4, 6, 7])],
)
def test_temperature_is_a_factor_on_the_columns_meant(scope, columns):
    logits = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    found = edited(logits, Temperature(1.5, scope).edit(TEXT, 8, None))
    wanted = logits.copy()
    wanted[:, list(columns)] *= 1.5
    wanted = np.exp(wanted) / np.exp(wanted).sum(-1, keepdims=True)
    assert np.abs(found - wanted).max() < 1e-6


def test_temperature_of_the_whole_text_needs_no_subjects_and_the_others_do():
    assert torch.equal(Temperature(2.0).edit(None, 3, None).factor, torch.full((3,), 2.0))
    assert Temperature(2.0, "words").edit(None, 3, None) is None
    assert not Temperature(2.0).needs_subjects and Temperature(2.0, "subjects").needs_subjects


def test_reweighting_multiplies_attention_weights():
    """A cell of the cat, one of the dog, one of nobody: exp(l) times own, times others, as it was."""
    own = torch.tensor([[[[True, False, False]], [[False, True, False]]]])  # [1, 2, 1, 3]
    logits = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    found = edited(logits, Reweight(own=3.0, others=0.25).edit(TEXT, 8, own))
    weights = np.exp(logits)
    cat, dog = [2, 3, 6], [4, 7]
    weights[0, cat], weights[0, dog] = 3 * weights[0, cat], weights[0, dog] / 4
    weights[1, dog], weights[1, cat] = 3 * weights[1, dog], weights[1, cat] / 4
    assert np.abs(found - weights / weights.sum(-1, keepdims=True)).max() < 1e-6


def test_others_at_zero_take_nothing_and_stay_finite():
    own = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    own = torch.cat([own, ~own], 1)
    edit = Reweight(own=1.0, others=0.0).edit(TEXT, 8, own)
    assert torch.isfinite(edit.bias).all() and torch.isfinite(edit.bias.half()).all()
    assert edited(np.zeros((1, 8), np.float32), edit)[0, [4, 7]].max() < 1e-8


def test_a_word_of_two_subjects_is_foreign_to_neither():
    both = Subjects("", (Subject("a", {"clip": (1, 2)}), Subject("b", {"clip": (2, 3)})), (CLIP,))
    owner = torch.tensor([True, False]).view(1, 2, 1, 1)
    bias = Reweight(own=1.0, others=0.5).edit(both, 6, owner).bias.flatten()
    assert torch.allclose(bias, torch.tensor([0, 0, 0, math.log(0.5), 0, 0]))


def test_owners_stand_out_of_their_own_map_and_no_cell_has_two():
    maps = torch.tensor([[[[9.0, 8, 0, 0]], [[0.0, 3, 0, 0]]]])
    found = owners(maps, 1.0)
    # first map: mean 4.25, deviation 4.26, so 9 is 1.11 above; second: mean 0.75, deviation 1.30, so 3 is 1.73 above
    assert found.tolist() == [[[[True, False, False, False]], [[False, True, False, False]]]]
    assert not owners(torch.full((1, 2, 3, 3), 0.5), 1.0).any(), "a flat map owns nothing"
    assert int(owners(torch.rand(2, 3, 5, 5), -9.0).sum(1).amax()) == 1


def test_edits_compose_in_order():
    first = LogitEdit(torch.tensor([2.0]), torch.ones(1, 1, 1, 1))
    both = first.then(LogitEdit(torch.tensor([3.0]), torch.full((1, 1, 1, 1), 5.0)))
    assert float(both.factor) == 6 and float(both.bias) == 8  # 3 (2 l + 1) + 5
    assert LogitEdit().then(first) == first


def test_repeated_for_a_text_that_is_there_twice():
    edit = LogitEdit(torch.tensor([1.0, 2.0]), torch.arange(2.0).view(1, 1, 1, 2)).repeated(2)
    assert edit.factor.tolist() == [1, 2, 1, 2] and edit.bias.flatten().tolist() == [0, 1, 0, 1]


def test_owners_on_a_larger_grid():
    small = torch.tensor([[[[True, False]]]])
    assert on_grid(small, (2, 4)).tolist() == [[[[True, True, False, False]] * 2]]
    assert on_grid(small, (1, 2)) is small


def test_off_is_idle():
    assert Temperature(1.0).idle and Reweight(1.0, 1.0).idle
    assert not Temperature(1.1).idle and not Reweight(1.0, 0.5).idle and not Reweight(2.0, 1.0).idle


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Temperature(math.nan), "temperature factor"),
        (Temperature(1.2, "nouns"), "whole text"),
        (Reweight(own=-1.0), "'own'"),
        (Reweight(others=math.inf), "'others'"),
        (Reweight(threshold=math.nan), "threshold"),
    ],
)
def test_parameters_that_cannot_work_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong.check(PAPER)
