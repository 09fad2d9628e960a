"""Sampling with refinement at a step, batched over prompts and seeds, on the training networks.

The UNet's equals ComfyUI's sampler ``ddpm`` with scheduler ``ddim_uniform`` and 50 steps (t_i = 981 - 20 i), written on
the variance-preserving latent; the MM-DiT's ``euler`` with ``simple`` and 28 steps. The plain run keeps its latents, so
that every refined run starts from the very latent that plain sampling had at that step and meets the same noise
afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import host
import net
import torch
import torch.nn.functional as F

LONGEST = 50  # steps that noise is drawn for


@dataclass
class Batch:
    """Prompts with their conditionings [B, 77, 128], subject positions [B, 2] and noises [51, B, 4, 16, 16]."""

    prompts: list[str]
    context: torch.Tensor
    places: torch.Tensor
    words: int
    noise: torch.Tensor


class Sampler:
    """``schedule``: what the network is told at each step; ``named``: the sampler as ComfyUI's menus name it."""

    schedule: list[float]
    named: str

    def __init__(self, model: net.Model, compiled: bool = True):
        self.model = model
        self.empty = model.encode(model.rows([""]))
        wrap = torch.compile if compiled else (lambda f: f)
        self.predict, self.maps = wrap(self._predict), wrap(self._maps)

    @classmethod
    def sigma(cls, step: int) -> float:
        """The step's noise level as ComfyUI counts it."""
        raise NotImplementedError

    def _network(self, z, t, context):
        raise NotImplementedError

    def _step(self, z, found, i, noise):
        raise NotImplementedError

    def batch(self, cases: list[tuple[str, tuple[str, str], int]]) -> Batch:
        """``cases``: (prompt, its two nouns, seed)."""
        rows = self.model.rows([prompt for prompt, _, _ in cases])
        places = torch.tensor([[_position(prompt, noun) for noun in nouns] for prompt, nouns, _ in cases])
        noise = {seed: torch.randn((LONGEST + 1, 4, 16, 16), generator=torch.Generator().manual_seed(seed))
                 for seed in {seed for _, _, seed in cases}}
        lengths = {len(prompt.split()) for prompt, _, _ in cases}
        assert len(lengths) == 1, "one batch, one prompt length: the words-only slice is shared"
        return Batch([c[0] for c in cases], self.model.encode(rows), places, lengths.pop(),
                     torch.stack([noise[seed] for _, _, seed in cases], 1))

    def _predict(self, z, t, context):
        with host.fast():
            return self._network(z, t, context).float()

    def _maps(self, z, t, context):
        """[B, h, w, 77]: the picture's attention to the text, mean over layers and heads, fp32."""
        net.captured = []
        with host.fast():
            self._network(z, t, context)
        found = torch.stack([p.float().mean(1) for p in net.captured]).mean(0)
        net.captured = None
        side = int(found.shape[1] ** 0.5)
        return found.view(-1, side, side, 77)

    @torch.no_grad()
    def run(self, batch: Batch, cfg: float, z: torch.Tensor | None = None, start: int = 0, keep=()) -> tuple:
        """(final latents, {step: latent entering it} for the steps in ``keep``)."""
        z, kept, b = batch.noise[LONGEST] if z is None else z, {}, len(batch.prompts)
        context = torch.cat([batch.context, self.empty.expand(b, -1, -1)])
        for i in range(start, len(self.schedule)):
            if i in keep:
                kept[i] = z
            t = torch.full((2 * b,), self.schedule[i])
            yes, no = self.predict(torch.cat([z, z]), t, context).chunk(2)
            z = self._step(z, no + cfg * (yes - no), i, batch.noise[i])
        return z, kept

    def refine(self, batch: Batch, z: torch.Tensor, step: int, lr: float, words: bool, shifts: int = 50):
        """The paper's refinement: Adam (eps 1e-3) on (A&E + IoU) / 2 of the conditional branch.

        -> (refined latents, loss before [B], loss after [B])
        """
        z = z.clone().requires_grad_(True)
        t = torch.full((len(z),), self.schedule[step])
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
        """[B] from maps [B, h, w, 77]: x100 softmax over the words (or columns 1..75), 3x3 smoothing, loss."""
        last = batch.words + 1 if words else 76
        sharp = (100 * maps[..., 1:last]).softmax(-1)
        index = (batch.places - 1)[:, None, None, :].expand(-1, *maps.shape[1:3], -1)
        subject = sharp.gather(-1, index).movedim(-1, 1)
        taps = torch.tensor([0.2119416, 0.5761169, 0.2119416])
        kernel = (taps[:, None] * taps)[None, None]
        b = len(subject)
        padded = F.pad(subject.reshape(2 * b, 1, *maps.shape[1:3]), (1, 1, 1, 1), "reflect")
        smooth = F.conv2d(padded, kernel).view(b, 2, -1)
        attend = (1 - smooth.amax(-1)).clamp(min=0).amax(-1)
        overlap = smooth.amin(1).sum(-1) / smooth.sum((1, 2)).clamp(min=1e-12)
        return (attend + overlap) / 2


class DDPM(Sampler):
    schedule = [981 - 20 * i for i in range(50)]
    named = "DDPM, 50 steps, t = 981 - 20 i"

    def __init__(self, model: net.UNet, compiled: bool = True):
        super().__init__(model, compiled)
        self.alpha = net.alphas()

    @classmethod
    def sigma(cls, step: int) -> float:
        alpha = float(net.alphas()[cls.schedule[step]])
        return ((1 - alpha) / alpha) ** 0.5

    def _network(self, z, t, context):
        return self.model.eps(z, t, context)

    def _step(self, z, found, i, noise):
        a = self.alpha[self.schedule[i]]
        before = self.alpha[self.schedule[i + 1]] if i + 1 < len(self.schedule) else torch.tensor(1.0)
        ratio = a / before
        mean = (z - (1 - ratio) / (1 - a).sqrt() * found) / ratio.sqrt()
        return mean + ((1 - ratio) * (1 - before) / (1 - a)).sqrt() * noise


def _shifted(share: float) -> float:
    """SD3's shift by 3 towards noise."""
    return 3 * share / (1 + 2 * share)


class Flow(Sampler):
    schedule = [1000 * _shifted((1000 - int(i * 1000 / 28)) / 1000) for i in range(28)]
    named = "Euler, 28 steps, shift 3"

    @classmethod
    def sigma(cls, step: int) -> float:
        return cls.schedule[step] / 1000

    def _network(self, z, t, context):
        return self.model.velocity(z, t, context)

    def _step(self, z, found, i, noise):
        after = self.sigma(i + 1) if i + 1 < len(self.schedule) else 0.0
        return z + (after - self.sigma(i)) * found


def _position(prompt: str, noun: str) -> int:
    """The noun's place in the 77: every word of these prompts is one token, after the start token."""
    return prompt.split().index(noun) + 1
