"""A seed of its own for every image of a batch: each gets the noise it would have alone.

ComfyUI draws a batch's noise in one go, at the start and again at every step of an ancestral or SDE sampler, so that
an image changes with its place in the batch and with the batch's size. Here both kinds are drawn image by image.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.sample
import torch
from comfy.k_diffusion.sampling import BrownianTreeNoiseSampler, default_noise_sampler
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..errors import GsnError

KEY = "gsn_seeds"
_BROWNIAN = "sample_dpmpp_sde", "sample_dpmpp_2m_sde", "sample_dpmpp_2m_sde_heun", "sample_dpmpp_3m_sde"


def with_seeds(model: Any, origin: str, seeds: Sequence[int]) -> Any:
    """A clone of a MODEL whose batches must be as long as `seeds`, and take the i-th one for image i."""
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    others = clone.wrappers.get(WrappersMP.SAMPLER_SAMPLE, {})
    # Before all others: a method that opens the sampler rehearses it, and must find this noise in it.
    clone.wrappers[WrappersMP.SAMPLER_SAMPLE] = {KEY: [_NoiseBySeed(origin, tuple(seeds))], **others}
    return clone


class _NoiseBySeed:
    """ComfyUI's SAMPLER_SAMPLE wrapper that draws the noise."""

    def __init__(self, origin: str, seeds: tuple[int, ...]):
        self.origin, self.seeds = origin, seeds

    def __call__(self, executor, guider, sigmas, extra_args, callback, noise, *rest, **more):
        if noise.shape[0] != len(self.seeds):
            raise GsnError(
                f"{self.origin}: {len(self.seeds)} seeds for a batch of {noise.shape[0]}; make batch_size of the empty"
                " latent the number of seeds (this node's second output)"
            )
        if bool(noise.any()):  # all zeros: this run goes on where another one stopped
            drawn = [comfy.sample.prepare_noise(one.cpu(), seed) for one, seed in self._each(noise)]
            noise = torch.cat(drawn).to(noise)
        with self._in_place(executor.class_obj, extra_args.get("seed")):
            return executor(guider, sigmas, extra_args, callback, noise, *rest, **more)

    def _each(self, batch: Tensor) -> Iterator[tuple[Tensor, int]]:
        return ((batch[i : i + 1], seed) for i, seed in enumerate(self.seeds))

    @contextmanager
    def _in_place(self, sampler: Any, own: int | None) -> Iterator[None]:
        """While inside, the sampler draws the noise of its steps by image; it is a cached output, so restored."""
        original = getattr(sampler, "sampler_function", None)
        if original is None or "noise_sampler" not in inspect.signature(original).parameters:
            yield
            return

        def function(model_k, x, sigmas, extra_args=None, callback=None, disable=None, **options):
            # who runs a sampler in parts gives each part another seed
            given = (extra_args or {}).get("seed")
            shift = given - own if isinstance(given, int) and isinstance(own, int) else 0
            options.setdefault("noise_sampler", self._noise_sampler(function.__name__, x, sigmas, shift))
            return original(model_k, x, sigmas, extra_args=extra_args, callback=callback, disable=disable, **options)

        function.__name__ = getattr(original, "__name__", "sampler")
        sampler.sampler_function = function
        try:
            yield
        finally:
            sampler.sampler_function = original

    def _noise_sampler(self, name: str, x: Tensor, sigmas: Tensor, shift: int) -> Callable[..., Tensor]:
        """As the sampler would make it for one image, for each."""
        if name.removesuffix("_gpu") in _BROWNIAN:
            levels = sigmas[sigmas > 0]
            seeds = [seed + shift for seed in self.seeds]
            return BrownianTreeNoiseSampler(x, levels.min(), sigmas.max(), seed=seeds, cpu=not name.endswith("_gpu"))
        each = [default_noise_sampler(one, seed=seed + shift) for one, seed in self._each(x)]
        return lambda sigma, sigma_next: torch.cat([draw(sigma, sigma_next) for draw in each])
