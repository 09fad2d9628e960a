"""Cases for tests of many things together: every pair of values at least once, or everything with everything.

`dev.py test` runs the first, `dev.py support` and the weekly workflow the second (GSN_TEST_PRODUCT=full).
"""

import itertools
import os

FULL = os.environ.get("GSN_TEST_PRODUCT") == "full"


def pairs_of(case):
    """The pairs of values that a case holds, as ((place, value), (place, value))."""
    return set(itertools.combinations(enumerate(case), min(2, len(case))))


def covering(*axes):
    """Few tuples of one value per axis that hold every pair of values of two axes; always the same ones.

    Greedy: of all tuples the one that holds most pairs that are still missing, the first of equals. Where the first
    axis is the longest, its values follow one another, so that what they need is made once.
    """
    everything = list(itertools.product(*axes))
    held = {case: pairs_of(case) for case in everything}
    missing, chosen = set().union(*held.values()), []
    while missing:
        best = max(everything, key=lambda case: len(held[case] & missing))
        chosen.append(best)
        missing -= held[best]
    return sorted(chosen, key=everything.index)


def cases(*axes):
    """A covering array of the axes, or their product."""
    return list(itertools.product(*axes)) if FULL else covering(*axes)


def joined(case):
    """The id of a fixture's case, as pytest makes it of a test's parameters."""
    return "-".join(map(str, case))
