"""The step found online, on maps that settle at a known step."""

import pytest
import torch

from gsn.interventions import Context, History, Refine, RefineSettled
from gsn.losses import PAPER, Evaluation
from gsn.maps import AttentionMaps, MapProcessing
from gsn.plan import Action
from gsn.preset_file import from_json, to_json
from gsn.presets import Move, Preset
from gsn.steps import Step
from gsn.trace import StepInfo, Trace


class Moving:
    """A forward and objective whose map moves a share of its mass to the other cell, by image and step.

    shares: [images][steps], how much of the map lies in the second of two cells. Loss 0.5 |z - 1|^2.
    """

    subjects = None
    terms = ()

    def __init__(self, shares):
        self.shares = torch.tensor(shares)
        self.history = History()
        self.step = 0
        self.calls = []

    def __call__(self, latent, rows):
        self.calls.append((self.step, rows.start, rows.stop))
        self.rows = rows
        return AttentionMaps(latent)

    def evaluate(self, attention, subjects, processing, earlier):
        loss = 0.5 * (attention.probabilities - 1).square().flatten(1).sum(1)
        share = self.shares[self.rows, self.step]
        maps = torch.stack([1 - share, share], -1)[:, None, None]
        return Evaluation(loss, {"quadratic": loss}, maps)


def run(model, intervention, images=1):
    """The latent after each step, and the trace of all."""
    memory, trace, z = {}, Trace(), torch.zeros(images, 1, 2, 2)
    latents = []
    for step in range(model.shares.shape[1]):
        model.step = step
        last = step == model.shares.shape[1] - 1
        opened = Context(
            StepInfo(step, 9.0 - step, step / 10), 50, model, MapProcessing(), trace, memory=memory, is_last=last
        )
        z = intervention.apply(z, (model,), opened)
        latents.append(z)
    return latents, trace


def moved(latents):
    """Per image the steps at which it changed."""
    before = torch.zeros_like(latents[0])
    steps = [[] for _ in latents[0]]
    for step, z in enumerate(latents):
        for i in range(len(z)):
            if not torch.equal(z[i], before[i]):
                steps[i].append(step)
        before = z
    return steps


def test_it_refines_once_where_the_maps_have_settled_as_refine_does():
    model = Moving([[0.0, 0.5, 0.8, 0.85, 0.86, 0.86]])  # changes 0.5, 0.3, 0.05
    latents, trace = run(model, RefineSettled(4, 0.05, level=0.1))
    assert moved(latents) == [[3]]
    model.step = 3
    alone = Context(StepInfo(3, 6.0, 0.3), 50, model, MapProcessing(), Trace())
    assert torch.equal(latents[-1], Refine(4, 0.05).apply(torch.zeros(1, 1, 2, 2), (model,), alone))
    assert "changed by 0.050" in trace.stops[3].reasons[0] and trace.stops[3].iterations == [4]
    assert "not refined here: its maps changed by 0.300" in trace.stops[2].reasons[0]


def test_a_settled_run_is_not_looked_at_again():
    model = Moving([[0.0, 0.0, 0.9, 0.1]])
    _, trace = run(model, RefineSettled(2, level=0.1))
    assert {step for step, *_ in model.calls} == {0, 1}
    assert [stop.step.index for stop in trace.stops] == [0, 1]


def test_maps_that_never_settle_are_refined_at_the_last_step():
    latents, trace = run(Moving([[0.0, 0.5, 0.0, 0.5]]), RefineSettled(3, level=0.1))
    assert moved(latents) == [[3]]
    assert "the last step it may be" in trace.stops[-1].reasons[0]


def test_one_step_alone_is_that_step():
    latents, trace = run(Moving([[0.3]]), RefineSettled(3))
    assert moved(latents) == [[0]]
    assert "nothing to compare with" in trace.stops[0].reasons[0]


def test_each_image_of_a_batch_has_its_own_step():
    shares = [[0.0, 0.5, 0.51, 0.9], [0.0, 0.5, 0.9, 0.91], [0.2, 0.9, 0.91, 0.91]]
    together, trace = run(Moving(shares), RefineSettled(3, level=0.1), images=3)
    assert moved(together) == [[2], [3], [2]]
    for i, one in enumerate(shares):
        alone, _ = run(Moving([one]), RefineSettled(3, level=0.1))
        assert torch.allclose(together[-1][i], alone[-1][0], atol=1e-7)
    at_two = [record for record in trace.records if record.step.index == 2]
    assert [record.iteration for record in at_two] == [0, 1, 2, 3]
    assert at_two[-1].loss[1] == at_two[0].loss[1] and at_two[-1].loss[0] < at_two[0].loss[0]
    assert trace.stops[2].iterations == [3, 0, 3]
    assert trace.kept[-1].maps.shape[0] == 3


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, float("nan")])
def test_a_level_that_cannot_be_crossed_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        RefineSettled(level=level).check(PAPER)


def test_no_iterations_is_off():
    assert RefineSettled(0).idle


def test_it_can_be_written_in_a_preset_and_read_again():
    preset = Preset((Move(RefineSettled(7, level=0.1), PAPER, Step(), Step()),), "any", "", "", "")
    again = from_json(to_json(preset))
    assert again.moves == preset.moves
    assert "maps change by 0.1 or less" in again.moves[0].intervention.describe()


def test_one_step_to_find_is_refused():
    with pytest.raises(ValueError, match="first and a last step"):
        Action("node", RefineSettled(), Step()).check_places([3])
