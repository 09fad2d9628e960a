"""Images looked at one by one see what they see in the whole batch, where there are fewer conditionings than images.

ComfyUI gives them out in turn: of two for four images the third has the first.
"""

from types import SimpleNamespace

import pytest
import torch

from ..graphs import graph, refine
from ..probe import Probe, own_forward


def two_texts(entry):
    cond = entry["model_conds"]["c_crossattn"]
    entry["model_conds"]["c_crossattn"] = cond._copy_with(torch.cat([cond.cond[:1], cond.cond[:1].roll(3, 1)]))


def two_masks(entry):
    entry["mask"] = torch.stack([torch.ones(13, 16), torch.zeros(13, 16)])


@pytest.mark.parametrize("given", [two_texts, two_masks], ids=lambda given: given.__name__)
def test_maps(comfy, monkeypatch, given):
    def look(run, action, step):
        given(run.facts.entries[0][0])
        with own_forward(comfy, run, step) as forward, torch.no_grad():
            x = step.x.detach().clone()
            whole = forward(x, slice(0, 4)).probabilities
            return whole, [forward(x[i : i + 1], slice(i, i + 1)).probabilities for i in range(4)]

    probe = Probe(comfy, monkeypatch, look)
    nodes = graph([refine()])
    nodes["4"]["inputs"]["batch_size"] = 4
    comfy.run(nodes, ["out"]).check()
    whole, alone = probe.found
    assert torch.allclose(whole, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize(("image", "hint"), [(0, 0), (1, 1), (2, 0), (3, 1)])
def test_hints(comfy, image, hint):
    control = SimpleNamespace(cond_hint_original=torch.arange(2.0).view(2, 1, 1, 1), previous_controlnet=None)
    own = comfy.pack("gsn.host.attention.forward")._own_control(control, slice(image, image + 1), 4)
    assert own.cond_hint_original.tolist() == [[[[hint]]]] and len(control.cond_hint_original) == 2
