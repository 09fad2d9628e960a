"""Attention replaced for the whole process: the gradient as without the replacement, or a refusal that names it."""

import pytest
import torch
import torch.nn.functional as F

from .. import zoo_graphs as zoo
from ..graphs import graph, refine, samples

PYTORCHS = F.scaled_dot_product_attention


def without_backward(*args, **kwargs):
    """As a fused kernel without one."""
    return PYTORCHS(*args, **kwargs).detach()


def wrapped(*args, **kwargs):
    return PYTORCHS(*args, **kwargs)


def of_comfyui(backward, asks):
    """ComfyUI's attention as a pack may put it in its place: with a backward or not, asking for overrides or not."""
    import comfy.ldm.modules.attention as attention

    plain = attention.attention_pytorch.__wrapped__

    def replaced(q, k, v, heads, *args, **kwargs):
        out = plain(q, k, v, heads, *args, **kwargs)
        return out if backward else out.detach()

    return attention.wrap_attn(replaced) if asks else replaced


FAMILIES = ("sd_xs", "flux_dev")


def nodes_of(family, dtype="fp32"):
    if family == "sd_xs":
        nodes = graph([refine()])
        nodes["1"]["inputs"] |= {"dtype": dtype, "compute": dtype}
        return nodes
    nodes = zoo.graph(family, [zoo.refine(iterations=3)], steps=3)
    nodes["1"]["inputs"] |= {"dtype": dtype, "compute": dtype}
    return nodes


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_kernel_without_backward_in_the_place_of_pytorchs_is_refused(comfy, monkeypatch, family, dtype):
    monkeypatch.setattr(F, "scaled_dot_product_attention", without_backward)
    result = comfy.run(nodes_of(family, dtype), ["out"])
    assert not result.ok and not result.progress
    assert "without_backward (" in result.error and "test_replaced_attention.py" in result.error
    assert result.error.startswith("SingleStepIterRef: attention is computed by")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_harmless_one_changes_nothing(comfy, monkeypatch, family):
    wanted = samples(comfy.run(nodes_of(family), ["out"]))
    monkeypatch.setattr(F, "scaled_dot_product_attention", wrapped)
    assert torch.equal(samples(comfy.run(nodes_of(family), ["out"])), wanted)


@pytest.mark.parametrize(
    ("family", "module"), [("sd_xs", "comfy.ldm.modules.attention"), ("flux_dev", "comfy.ldm.flux.math")]
)
@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("backward", [True, False])
def test_a_function_in_the_place_of_comfyuis(comfy, monkeypatch, family, module, asks, backward):
    """A UNet's maps are read at its blocks, a transformer's by the override, for which the function has to ask.

    One that is made as ComfyUI's are, in the module where they are, is exchanged in the gradient pass as they are.
    """
    wanted = samples(comfy.run(nodes_of(family), ["out"]))
    monkeypatch.setattr(f"{module}.optimized_attention", of_comfyui(backward, asks))
    result = comfy.run(nodes_of(family), ["out"])
    if (backward or asks) if family == "sd_xs" else (backward and asks):
        assert torch.allclose(samples(result), wanted, atol=1e-4)
    else:
        assert not result.ok and not result.progress and "of_comfyui.<locals>.replaced (" in result.error
        assert ("asks for no override" in result.error) == backward


def test_without_gradients_it_is_nobodys_business(comfy, monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", without_backward)
    capture = ("AttentionCapture", {"blocks": "auto", "resolution": "auto", "columns": "auto", "record_steps": "1"})
    assert samples(comfy.run(graph([capture]), ["out"])).isfinite().all()
