"""A subject's place as a mask: which cells it takes, and what is refused."""

from dataclasses import replace

import pytest
import torch

from gsn.attention.maps import AttentionMaps, SubjectMaps
from gsn.losses import LOSSES
from gsn.losses.objective import objective
from gsn.text.regions import with_masks
from gsn.text.subjects import Subject, SubjectError, Subjects, TextStream, token_table

CAT, DOG = Subject("cat", {"clip": (1,)}), Subject("dog", {"clip": (2,)})
STREAM = TextStream("clip", 0, 4, (1, 2), (0,), ("<start>", "cat", "dog", "<end>"))
GRID = (4, 6)


def prompt(*items):
    return Subjects("cat dog", items, (STREAM,))


def loss(subjects, maps):
    return LOSSES["box_retention"].function(SubjectMaps(maps, AttentionMaps(maps.movedim(1, -1))), subjects)


def masks():
    """[2, 40, 60]: the left half; the right third, and a sliver of the fourth column that is less than half a cell."""
    both = torch.zeros(2, 40, 60)
    both[0, :, :30] = 1
    both[1, :, 36:] = 1
    return both


def test_a_mask_is_the_cells_of_which_half_lies_in_it():
    placed = prompt(*with_masks((CAT, DOG), masks()))
    inside = torch.zeros(1, 2, *GRID)
    inside[0, 0, :, :3] = 1
    inside[0, 1, :, 4:] = 1
    assert torch.allclose(loss(placed, inside), torch.tensor([0.25]))  # the least there is
    swapped = loss(placed, inside.flip(1))
    assert torch.allclose(swapped, torch.tensor([0.5]))  # neither overlaps its own
    leaf = torch.rand(1, 2, *GRID).requires_grad_(True)
    loss(placed, leaf).sum().backward()
    assert float(leaf.grad.abs().sum()) > 0


def test_a_mask_counts_before_a_box_and_a_box_still_does():
    boxed = tuple(replace(one, box=(0.0, 0.0, 1.0, 1.0)) for one in (CAT, DOG))
    maps = torch.rand(1, 2, *GRID)
    masked = prompt(*with_masks(boxed, masks()))
    assert torch.equal(loss(masked, maps), loss(prompt(*with_masks((CAT, DOG), masks())), maps))
    one_of_each = prompt(masked.items[0], boxed[1])
    objective("box_retention").check(one_of_each, GRID)
    assert not torch.equal(loss(one_of_each, maps), loss(masked, maps))
    assert "mask of cat: 50% of the picture" in token_table(masked)


def test_what_cannot_be_used_is_refused():
    with pytest.raises(SubjectError, match="'masks' has 1 masks, and the prompt has 2 subjects .cat, dog."):
        with_masks((CAT, DOG), masks()[0])
    with pytest.raises(SubjectError, match="the mask of 'dog' is empty"):
        with_masks((CAT, DOG), masks() * torch.tensor([1.0, 0.0])[:, None, None])
    thin = torch.zeros(40, 60)
    thin[:, 28:31] = 1
    with pytest.raises(ValueError, match="mask of 'cat': it covers no half of a cell .* 6 x 4 cells"):
        objective("box_retention").check(prompt(*with_masks((CAT,), thin)), GRID)
    objective("box_retention").check(prompt(*with_masks((CAT,), thin)), (4, 30))
    with pytest.raises(ValueError, match="need a box for every subject, and dog has none.*masks will do"):
        objective("box_retention").check(prompt(*with_masks((CAT,), masks()[0]), DOG), GRID)
