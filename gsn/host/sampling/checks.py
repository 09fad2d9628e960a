"""What is refused before a run's first model call, as two lists: of what is asked, then of the run it is asked of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...methods.presets import refuse_other_models
from ..attention.layers import check_images
from ..errors import GsnError, named
from ..gradient.attention_probe import check_attention
from ..gradient.differentiable import refuse_foreign
from .facts import Facts


def losses_are_known(facts: Facts) -> None:
    for action in facts.actions:
        named(action.origin, action.objective.check_terms)


def some_loss_counts(facts: Facts) -> None:
    for action in facts.actions:
        named(action.origin, action.objective.check_weights)


def parameters_can_work(facts: Facts) -> None:
    for action in facts.actions:
        named(action.origin, action.intervention.check, action.objective)


def the_family_is_known(facts: Facts) -> None:
    _ = facts.family  # `family_of` refuses the others


def presets_are_for_this_model(facts: Facts) -> None:
    for node, *meant_for in facts.plan.presets:
        named(node, refuse_other_models, *meant_for, facts.preset)


def subjects_travel_with_the_prompt(facts: Facts) -> None:
    _ = facts.entries  # `with_some_subjects` refuses a conditioning without any


OF_WHAT_IS_ASKED: tuple[Callable[[Facts], None], ...] = (
    losses_are_known,
    some_loss_counts,
    parameters_can_work,
    the_family_is_known,
    presets_are_for_this_model,
    subjects_travel_with_the_prompt,
)


def texts_are_read_whole(facts: Facts) -> None:
    """Of longer ones it would not be known what lies where in the network's sequence."""
    most = facts.family.most_text(facts.model)
    entries = facts.edited or facts.entries
    longest = max((entry["model_conds"]["c_crossattn"].cond.shape[1] for entry, _ in entries), default=0)
    if most is not None and longest > most:
        raise GsnError(
            f"{facts.origin}: the positive conditioning has {longest} text tokens, but {facts.family.title} reads the"
            f" first {most} alone and its attention is not read for longer texts; shorten the prompt"
        )


def the_chosen_encoder_spells_the_subjects(facts: Facts) -> None:
    stream = facts.spec.stream
    for _, subjects in facts.entries if stream != "average" else ():
        offered = ", ".join(one.name for one in subjects.streams)
        if stream not in [one.name for one in subjects.streams]:
            raise GsnError(
                f"AttentionCapture: 'encoder' is {stream!r}, but the positive prompt was encoded with {offered} alone."
                f" Choose average or {offered}, or load that text encoder with the others"
            )
        missing = [subject.label for subject in subjects.items if stream not in subject.tokens]
        if missing:
            raise GsnError(
                f"AttentionCapture: 'encoder' is {stream!r}, in which {missing[0]!r} has no token; the prompt was"
                f" encoded with {offered}. Choose average, or another word"
            )


def the_layers_have_what_is_read(facts: Facts) -> None:
    for action in facts.actions:
        check_images(action.origin, action.needs, facts.layers, facts.offered)


def the_sampler_can_be_opened(facts: Facts) -> None:
    if facts.reads_maps and not callable(getattr(facts.sampler, "sampler_function", None)):
        raise GsnError(
            f"{facts.origin}: the sampler object is a {type(facts.sampler).__name__}, which cannot be opened at a step;"
            " connect one from KSamplerSelect or another sampler node that makes a KSAMPLER"
        )


def the_latent_is_of_this_model(facts: Facts) -> None:
    channels = facts.model.latent_format.latent_channels
    if facts.noise.shape[1] != channels:
        raise GsnError(
            f"{facts.origin}: the latent has {facts.noise.shape[1]} channels, the model works on {channels}; it comes"
            " from another model's VAE. Use an empty latent of this model, or encode the picture with this model's VAE"
        )


def what_was_merged_is_of_this_kind(facts: Facts) -> None:
    """Refuse a merge with a model whose blocks are of other sizes.

    ComfyUI keeps this model's network, leaves out what does not fit and mixes the rest. What is not in the blocks may
    differ, as in a merge of an inpainting model. Where no name fits, nothing is merged, and there is nothing to refuse.
    """
    patches = facts.model.current_patcher.patches
    names = {id(weight): name for name, weight in facts.model.named_parameters() if name in patches}
    for block in facts.family.blocks(facts.model):
        for weight in block.module.parameters():
            for _, value, *_ in patches.get(names.get(id(weight)), ()):
                # a merge brings a list, the other model's weight first; a LoRA does not
                if isinstance(value, list) and value[0][0].shape != weight.shape:
                    raise GsnError(
                        f"{facts.origin}: a model of another kind was merged into this one: '{names[id(weight)]}' is"
                        f" {_sizes(value[0][0])} there and {_sizes(weight)} here. This model is one of"
                        f" {facts.family.title}; merge it with another of its own kind, or leave the merge out"
                    )


def _sizes(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape))


def gradients_can_go_through_the_weights(facts: Facts) -> None:
    for action in facts.actions:
        if action.intervention.gradients:
            refuse_foreign(facts.model, action.origin)


def attention_has_a_gradient(facts: Facts) -> None:
    asking = [action.origin for action in facts.actions if action.intervention.gradients]
    if asking:
        check_attention(facts.model, facts.family.by_override, asking[0])


OF_THE_RUN: tuple[Callable[[Facts], None], ...] = (
    texts_are_read_whole,
    the_chosen_encoder_spells_the_subjects,
    the_layers_have_what_is_read,
    the_sampler_can_be_opened,
    the_latent_is_of_this_model,
    what_was_merged_is_of_this_kind,
    gradients_can_go_through_the_weights,
    attention_has_a_gradient,
)


def check(facts: Facts, checks: tuple[Callable[[Facts], None], ...]) -> None:
    """Raises GsnError, of the first that refuses."""
    for one in checks:
        one(facts)
