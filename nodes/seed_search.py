"""GSNSeedSearch: the most promising of many noises, by a look at the first steps."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.errors import GsnError
from ..gsn.host.sampling.seed_search import ORIGIN, look_at_noises, noises_of
from ..gsn.selection.seed import best_first, ranking
from ..gsn.trace import TraceHandle
from .inputs import FOLDED, denoise_input, ksampler_inputs, loss_input
from .sockets import CATEGORY, trace_output


class GSNSeedSearch(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNSeedSearch",
            display_name="GSN Seed Search",
            category=CATEGORY,
            description="Samples the first steps of many noises, looks at the attention maps of the subjects, and gives"
            " a latent that makes any sampler with the same seed start from the best of them. No gradients.",
            search_aliases=["best seed", "noise search", "seed explorer", "batch index", "cherry pick"],
            inputs=[
                *ksampler_inputs(
                    50,
                    "ddim",
                    "ddim_uniform",
                    model="The model to sample with. Our other nodes on it do nothing here.",
                    seed="Candidate i has the noise of image i in a batch of this seed. Wire the seed output to the"
                    " sampler.",
                    steps="Steps of the run to come.",
                    cfg="As in the run to come.",
                    sampler_name="As in the run to come. Ancestral and SDE samplers add noise that depends on the"
                    " batch, so with them the look is only a hint.",
                    scheduler="As in the run to come.",
                    negative="As in the run to come.",
                    latent_image="The latent to start from; of a batch, its first image.",
                ),
                io.Int.Input("candidates", default=16, min=2, max=64, tooltip="How many noises to look at."),
                io.Int.Input(
                    "look_at_step",
                    default=3,
                    min=0,
                    max=10000,
                    tooltip="The step whose maps are compared, counted from 0. Later tells more; all steps up to it are"
                    " computed for each candidate.",
                ),
                io.Int.Input("keep", default=1, min=1, max=64, tooltip="How many of the best to give out, as a batch."),
                loss_input(),
                io.Int.Input(
                    "together",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="Candidates sampled in one batch. More needs more memory.",
                    **FOLDED,
                ),
                denoise_input("As in the run to come; 1 = from pure noise.", **FOLDED),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="For the sampler's latent_image."),
                io.Int.Output(display_name="seed", tooltip="The same seed, for the sampler."),
                io.String.Output(display_name="ranking", tooltip="All candidates, best first."),
                trace_output(),
            ],
        )

    @classmethod
    @override
    def execute(
        cls, seed, latent_image, candidates, look_at_step, keep, loss=None, together=4, denoise=1.0, **ksampler
    ) -> io.NodeOutput:
        if keep > candidates:
            raise GsnError(f"{ORIGIN}: keep is {keep}, but there are {candidates} candidates; keep fewer or try more")
        settings = {**ksampler, "seed": seed, "latent_image": latent_image, "denoise": denoise}
        trace = look_at_noises(**settings, candidates=candidates, step=look_at_step, together=together, objective=loss)
        order = best_first(trace.records[0].loss)
        chosen = noises_of(latent_image, order[:keep])
        return io.NodeOutput(chosen, seed, ranking(trace, order, keep), TraceHandle(trace))


NODES = [GSNSeedSearch]
