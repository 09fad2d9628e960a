"""One model call inside a real run, looked at by itself: the pack's own, and plain autograd on the whole matrix."""

import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch


class Probe:
    """Stands in for the refinement inside a real run, and looks at one model call in its place."""

    def __init__(self, comfy, monkeypatch, look):
        self.found = None
        host = comfy.pack("gsn.host.sampling.run")

        def act(run, action, info, step, denoised, noise_seed):
            self.found = look(run, action, step)
            return torch.zeros_like(step.x)

        monkeypatch.setattr(host.Run, "act", act)


def words_of(run):
    """Every word's column on the text axis, of every chunk and stream."""
    return run.facts.entries[0][1].word_columns()


def objective(maps, words=range(1, 9)):
    """A fixed random functional of these columns."""
    maps = maps[..., list(words)]
    weights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(7))
    return (maps * weights).sum() * 100


@contextmanager
def own_forward(comfy, run, step, needs=frozenset(), recompute=False):
    """The pack's own call at the step, as (latent, rows) -> AttentionMaps."""
    with ExitStack() as stack:
        stack.enter_context(comfy.pack("gsn.host.gradient.differentiable").differentiable(step.model, "test"))
        blocks = comfy.pack("gsn.host.gradient.checkpointing").track_blocks(
            run.reading.family.blocks(step.model), run.reading.last(needs), recompute
        )
        position = stack.enter_context(blocks)
        host = comfy.pack("gsn.host.attention.forward")
        ordinary = host.OpenedStep(
            step.x.detach().clone(), step.sigma.clone(), 1.0, step.model, step.model_k, step.extra_args
        )
        entry, subjects = run.facts.entries[0]
        yield host.EntryForward(entry, subjects, run.histories[0], run.reading, needs, position, ordinary)


def ours(comfy, run, action, step, recompute=False):
    """The pack's own call: maps and gradient at the step's latent, and the loss as a function."""
    with own_forward(comfy, run, step, recompute=recompute) as forward:
        x, rows = step.x.detach().clone(), slice(0, step.x.shape[0])
        leaf = x.clone().requires_grad_(True)
        maps = forward(leaf, rows).probabilities
        words = words_of(run)
        (gradient,) = torch.autograd.grad(objective(maps, words), leaf)
        direction = gradient / gradient.norm()
        with torch.no_grad():
            ends = [objective(forward(x + s * 2e-2 * direction, rows).probabilities.double(), words) for s in (1, -1)]
        return maps.detach(), gradient, float(ends[0] - ends[1]) / 4e-2


@dataclass
class Seen:
    """One attention call where text meets image: its text columns, and the call in which the image meets itself.

    text, image: [B, N, text] and [B, N, N] of the full softmax, mean over heads; the image's renormalised.
    """

    text: torch.Tensor
    image: torch.Tensor


@contextmanager
def plain_pass(comfy, toy, run, step):
    """Plain autograd through every layer to the model's end, with the full matrix of probabilities.

    Yields the latent, the Seen calls of the layers that are read, and of those with finer maps.
    """
    import comfy.model_management as mm
    import comfy.samplers as samplers

    text, image = sum(s.length for s in run.facts.entries[0][1].streams), None
    found, before_text, places = [], [], []

    def watch(function, q, k, v, heads, mask=None, **kwargs):
        if not kwargs.get("skip_reshape"):
            queries, keys = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k))
        else:
            queries, keys = q, k
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
        n, m = queries.shape[2], keys.shape[2]
        if toy.cross is not None:
            text_key, row, joint = 0, 0, n != m == toy.cross(text)
        elif toy.text_at == "behind":
            text_key, row, joint = image, 0, n == m and m >= text + image
        else:
            text_key, row = toy.text_at(text)
            joint = n == m and m >= row + image
        if joint or (toy.cross is not None and n == m):
            logits = (queries @ keys.transpose(-1, -2)).float() * queries.shape[-1] ** -0.5
            if mask is not None:
                logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
            full = logits.softmax(-1).mean(1)
            rows = full if toy.cross is not None else full[:, row : row + image]
            if not joint:
                before_text[:] = [rows]
            else:
                itself = rows[..., row : row + image]
                if toy.cross is not None:
                    options = kwargs.get("transformer_options") or {}
                    places.append((options.get("block"), options.get("block_index")))
                    if places[-1][0] is not None and places[-1:] == places[-2:-1]:
                        found.pop()  # of a block that asks the text in attn1 as well, attn2 is what is read
                    itself = before_text.pop() if before_text else torch.full_like(rows, torch.nan)
                found.append(Seen(rows[..., text_key : text_key + text], itself / itself.sum(-1, keepdim=True)))
        return comfy_attention(q, k, v, heads, mask=mask, **kwargs)

    from comfy.ldm.modules.attention import attention_pytorch as comfy_attention

    rope = comfy.pack("gsn.host.gradient.differentiable")
    changes = rope.Changes()
    if toy.silent is not None:
        changes.set(vars(toy.silent), "optimized_attention", partial(watch, None))
    rope._differentiable_rope(changes)
    image = math.prod(grid_of(toy, step))
    before, mm.in_training = mm.in_training, True
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            comfy.pack("gsn.host.gradient.saved_tensors").copied_when_written(),
        ):
            leaf = step.x.detach().clone().requires_grad_(True)
            options = comfy.pack("gsn.host.attention.forward").plain_options(step.extra_args["model_options"])
            options["transformer_options"]["optimized_attention_override"] = watch
            sigma = step.sigma.clone().expand(leaf.shape[0])
            samplers.calc_cond_batch(step.model, [[run.facts.entries[0][0]]], leaf, sigma, options)
            offered = run.reading.family.layers(step.model)
            assert len(found) == toy.calls == len(offered)
            by_layer = list(zip(found, offered, strict=True))
            yield (
                leaf,
                [one for one, layer in by_layer if layer in run.reading.layers],
                [one for one, layer in by_layer if layer in run.reading.fine],
            )
    finally:
        changes.undo()
        mm.in_training = before


def grid_of(toy, step):
    return [-(-n // toy.patch) for n in step.x.shape[-2:]]


def naive(comfy, toy, run, step):
    """Maps, gradient and the words' columns by `plain_pass`."""
    with plain_pass(comfy, toy, run, step) as (leaf, chosen, _):
        maps = (sum(one.text for one in chosen) / len(chosen)).unflatten(1, grid_of(toy, step))
        (gradient,) = torch.autograd.grad(objective(maps, words_of(run)), leaf)
        return maps.detach(), gradient, list(words_of(run))
