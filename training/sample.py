"""DDPM sampling with refinement at a step, batched over prompts and seeds, on the training networks.

Equals ComfyUI's sampler ``ddpm`` with scheduler ``ddim_uniform`` and 50 steps (t_i = 981 - 20 i), written on the
variance-preserving latent. The plain run keeps its latents, so that every refined run starts from the very latent
that plain sampling had at that step and meets the same noise afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import net
import torch
import torch.nn.functional as F

STEPS = 50
SCHEDULE = [981 - 20 * i for i in range(STEPS)]


@dataclass
class Batch:
    """Prompts with their conditionings [B, 77, 128], subject positions [B, 2] and noises [51, B, 4, 16, 16]."""

    prompts: list[str]
    context: torch.Tensor
    places: torch.Tensor
    words: int
    noise: torch.Tensor


class Sampler:
    def __init__(self, model: net.Model, compiled: bool = True):
        self.model, self.alpha = model, net.alphas()
        self.empty = model.encode(model.rows([""]))
        wrap = torch.compile if compiled else (lambda f: f)
        self.eps, self.maps = wrap(self._eps), wrap(self._maps)

    def batch(self, cases: list[tuple[str, tuple[str, str], int]]) -> Batch:
        """``cases``: (prompt, its two nouns, seed)."""
        rows = self.model.rows([prompt for prompt, _, _ in cases])
        places = torch.tensor([[_position(prompt, noun) for noun in nouns] for prompt, nouns, _ in cases])
        noise = {seed: torch.randn((STEPS + 1, 4, 16, 16), generator=torch.Generator().manual_seed(seed))
                 for seed in {seed for _, _, seed in cases}}
        lengths = {len(prompt.split()) for prompt, _, _ in cases}
        assert len(lengths) == 1, "one batch, one prompt length: the words-only slice is shared"
        return Batch([c[0] for c in cases], self.model.encode(rows), places, lengths.pop(),
                     torch.stack([noise[seed] for _, _, seed in cases], 1))

    def _eps(self, z, t, context):
        with torch.autocast("cpu", torch.bfloat16):
            return self.model.eps(z, t, context).float()

    def _maps(self, z, t, context):
        """[B, 16, 16, 77]: cross-attention probabilities at 16x16, mean over layers and heads, fp32."""
        net.captured = []
        with torch.autocast("cpu", torch.bfloat16):
            self.model.eps(z, t, context)
        found = torch.stack([p.float().mean(1) for p in net.captured]).mean(0)
        net.captured = None
        return found.view(-1, 16, 16, 77)

    @torch.no_grad()
    def run(self, batch: Batch, cfg: float, z: torch.Tensor | None = None, start: int = 0, keep=()) -> tuple:
        """(final latents, {step: latent entering it} for the steps in ``keep``)."""
        z, kept, b = batch.noise[STEPS] if z is None else z, {}, len(batch.prompts)
        context = torch.cat([batch.context, self.empty.expand(b, -1, -1)])
        for i in range(start, STEPS):
            if i in keep:
                kept[i] = z
            t = torch.full((2 * b,), SCHEDULE[i])
            yes, no = self.eps(torch.cat([z, z]), t, context).chunk(2)
            z = self._step(z, no + cfg * (yes - no), i, batch.noise[i])
        return z, kept

    def _step(self, z, eps, i, noise):
        a = self.alpha[SCHEDULE[i]]
        before = self.alpha[SCHEDULE[i + 1]] if i + 1 < STEPS else torch.tensor(1.0)
        ratio = a / before
        mean = (z - (1 - ratio) / (1 - a).sqrt() * eps) / ratio.sqrt()
        return mean + ((1 - ratio) * (1 - before) / (1 - a)).sqrt() * noise

    def refine(self, batch: Batch, z: torch.Tensor, step: int, lr: float, words: bool, shifts: int = 50):
        """The paper's refinement: Adam (eps 1e-3) on (A&E + IoU) / 2 of the conditional branch.

        -> (refined latents, loss before [B], loss after [B])
        """
        z = z.clone().requires_grad_(True)
        t = torch.full((len(z),), SCHEDULE[step])
        optimiser = torch.optim.Adam([z], lr, eps=1e-3)
        first = None
        for _ in range(shifts):
            loss = self.loss(batch, self.maps(z, t, batch.context), words)
            first = loss.detach() if first is None else first
            (z.grad,) = torch.autograd.grad(loss.sum(), z)
            optimiser.step()
        with torch.no_grad():
            last = self.loss(batch, self.maps(z, t, batch.context), words)
        return z.detach(), first, last

    @staticmethod
    def loss(batch: Batch, maps: torch.Tensor, words: bool) -> torch.Tensor:
        """[B] from maps [B, 16, 16, 77]: x100 softmax over the words (or columns 1..75), 3x3 smoothing, loss."""
        last = batch.words + 1 if words else 76
        sharp = (100 * maps[..., 1:last]).softmax(-1)
        index = (batch.places - 1)[:, None, None, :].expand(-1, 16, 16, -1)
        subject = sharp.gather(-1, index).movedim(-1, 1)
        taps = torch.tensor([0.2119416, 0.5761169, 0.2119416])
        kernel = (taps[:, None] * taps)[None, None]
        b = len(subject)
        smooth = F.conv2d(F.pad(subject.reshape(2 * b, 1, 16, 16), (1, 1, 1, 1), "reflect"), kernel).view(b, 2, -1)
        attend = (1 - smooth.amax(-1)).clamp(min=0).amax(-1)
        overlap = smooth.amin(1).sum(-1) / smooth.sum((1, 2)).clamp(min=1e-12)
        return (attend + overlap) / 2


def _position(prompt: str, noun: str) -> int:
    """The noun's place in the 77: every word of these prompts is one token, after the start token."""
    return prompt.split().index(noun) + 1
