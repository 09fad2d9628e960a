"""What `dev.py test` leaves out of the products that `dev.py support` runs."""

import itertools

import pytest

from ...comfy import covering
from ...comfy.zoo_names import NAMES

AXES = [
    (("a",),),
    ((1, 2, 3), ("x", "y")),
    (NAMES, (1, 3), ("fast", "low")),
    ((0, 1), (0, 1), (0, 1), (0, 1), (0, 1)),
    (range(7), range(3), range(2), range(4)),
]


@pytest.mark.parametrize("axes", AXES, ids=lambda axes: "x".join(str(len(one)) for one in axes))
def test_every_value_and_every_pair_of_values_is_there(axes):
    chosen = covering.covering(*axes)
    for place, other in itertools.combinations(range(len(axes)), 2):
        assert {(case[place], case[other]) for case in chosen} == set(itertools.product(axes[place], axes[other]))
    assert [{case[place] for case in chosen} for place in range(len(axes))] == [set(axis) for axis in axes]
    assert len(set(chosen)) == len(chosen) and chosen == covering.covering(*axes)


def test_it_is_as_short_as_can_be_where_that_is_known():
    """No array of pairs is shorter than the product of its two longest axes."""
    assert len(covering.covering(NAMES, (1, 3), ("fast", "low"))) == 2 * len(NAMES)
    assert len(covering.covering(*[(0, 1)] * 5)) <= 8


def test_everything_with_everything_on_demand(monkeypatch):
    axes = (1, 2, 3), ("x", "y"), (True, False)
    monkeypatch.setattr(covering, "FULL", False)
    assert len(covering.cases(*axes)) == 6
    monkeypatch.setattr(covering, "FULL", True)
    assert covering.cases(*axes) == list(itertools.product(*axes))
