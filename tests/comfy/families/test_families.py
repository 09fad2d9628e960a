"""Every family, sampled through the real executor: the loss falls over ten iterations, and off is off."""

from types import SimpleNamespace

import pytest
import torch

from ..graphs import samples
from ..zoo_graphs import graph, refine
from ..zoo_names import NAMES


@pytest.fixture(scope="module", params=NAMES)
def family(request, comfy):
    """A plain run of one family, and a refined one."""
    comfy.has(request.param)
    session = comfy.session()

    def run(*args, **options):
        return session.run(graph(request.param, *args, steps=3, **options), ["out"])

    refined = session.run(graph(request.param, [refine()], steps=3), ["out", ("p0", 1)]).check()
    return SimpleNamespace(run=run, plain=samples(run()), refined=refined)


def test_loss_falls_over_ten_iterations(family):
    losses = [record.loss for record in family.refined["p0", 1].trace.records]
    assert len(losses) == 11
    assert torch.as_tensor(losses[-1]).mean() < torch.as_tensor(losses[0]).mean()
    assert torch.isfinite(samples(family.refined)).all()


def test_off_is_equal(family):
    assert not torch.equal(samples(family.refined), family.plain)
    off = [refine(iterations=0), refine(iterations=2, lr=0.0)]
    assert torch.equal(samples(family.run(off)), family.plain)
    assert torch.equal(samples(family.run([refine()], subjects=False)), family.plain)


def test_every_toy_is_tested(comfy):
    """Of an older ComfyUI all that it has a class for."""
    assert set(NAMES) == comfy.toy.TOYS.keys() | comfy.toy.LACKING
