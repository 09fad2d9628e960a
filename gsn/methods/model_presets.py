"""Where each kind of model is read, and at which noise level it is worth acting, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ..attention.maps import MapProcessing


@dataclass(frozen=True)
class ModelPreset:
    """One kind of model.

    refine_sigma: noise level of the single refinement; guide_sigmas: first and last level of guidance;
    ratio: attention grid / latent grid of the layers to read, None = any; columns: see MapProcessing.
    blocks: which of those layers, in the block language; source: where the numbers come from, said to the user.
    noise: how sigma counts, as presets that name noise levels are made for one kind: "ddpm" (SD 1.x's schedule, noise
    over picture), "flow" (the noise's share) or "other". distribution_sigma: where a distribution is optimised.
    """

    refine_sigma: float
    guide_sigmas: tuple[float, float]
    ratio: float | None
    columns: str
    source: str
    blocks: str = "auto"
    noise: str = "ddpm"
    distribution_sigma: float = 4.692  # SAGA's on SD 1.4: index 10 of 50

    def processing(
        self, columns: str, stream: str, contrast: float | None = None, blur: float | None = None
    ) -> MapProcessing:
        """Of this model's maps, but for what is asked for: see MapChoice."""
        asked = {"contrast": contrast, "blur": blur}
        given = {name: value for name, value in asked.items() if value is not None}
        return MapProcessing(columns=self.columns if columns == "auto" else columns, stream=stream, **given)


# The paper's t = 821 (index 8 of 50 DDPM steps) is sigma 5.633; guidance runs over steps 0..24, t 981..501.
_SD1_SIGMAS = (13.12, 1.624)
# SD 3: index 2 of 28 steps. No guidance was reported for flow models; this is the same share of the run.
_FLOW_SIGMAS = (1.0, 0.75)
_FLOW = {"noise": "flow", "distribution_sigma": 0.9298}  # SAGA's on SD 3 medium: 5 of 28
_FLOW_SOURCE = "paper's SD 3 step; untested on real weights of this family"
_DDPM_SOURCE = "paper's SD 1.4 step; untested on real weights of this family"
MODEL_PRESETS: dict[str, ModelPreset] = {
    "sd1": ModelPreset(5.633, _SD1_SIGMAS, 1 / 4, "padded", "paper, SD 1.4"),
    "sd2": ModelPreset(5.633, _SD1_SIGMAS, 1 / 4, "words", "paper's SD 1.4 step; untested on real SD 2 weights"),
    # The deepest level of SDXL's encoder half alone, at half the cost: on the demo model that half does as well as all.
    "sdxl": ModelPreset(
        5.633, _SD1_SIGMAS, 1 / 4, "words", "paper's SD 1.4 step; step and blocks untested on real SDXL weights", "in"
    ),
    "sd3": ModelPreset(0.9741, _FLOW_SIGMAS, None, "words", "paper, SD 3 medium", **_FLOW),
    "flux": ModelPreset(0.9741, _FLOW_SIGMAS, None, "words", _FLOW_SOURCE, "double", **_FLOW),
    "transformer": ModelPreset(0.9741, _FLOW_SIGMAS, None, "words", _FLOW_SOURCE, **_FLOW),
    # Cosmos-Predict2 counts noise as sigma / (1 - sigma) of the others.
    "cosmos": ModelPreset(37.6, (80.0, 3.0), None, "words", _FLOW_SOURCE, "auto", "other", 13.25),
    "ddpm transformer": ModelPreset(5.633, _SD1_SIGMAS, None, "words", _DDPM_SOURCE),
    # Playground 2.5 counts noise in units of half the standard deviation that the others' pictures have.
    "playground": ModelPreset(
        5.633 / 2, (13.12 / 2, 1.624 / 2), 1 / 4, "words", _DDPM_SOURCE, noise="other", distribution_sigma=4.692 / 2
    ),
    "demo mmdit": ModelPreset(0.8827, _FLOW_SIGMAS, None, "words", "measured: demo/MMDIT.md", **_FLOW),
    "demo": ModelPreset(2.863, _SD1_SIGMAS, 1.0, "words", "measured: demo/README.md", distribution_sigma=2.863),
}
