"""What ComfyUI shows: schemas and wiring, no maths. A file per node, named by its id; shared: inputs and sockets."""

from . import (
    attention_capture,
    attention_reweight,
    attention_temperature,
    block_probe,
    demo_model,
    distribution,
    guidance,
    heatmaps,
    image_scores,
    init_noise,
    ksampler,
    loss,
    loss_curve,
    preset,
    prompt_set,
    seed_search,
    seeds,
    single_step_iter_ref,
    step_selection,
    subjects,
    sweep,
    tiam_score,
)

MODULES = (
    # what is wanted, and what is looked at
    demo_model,
    subjects,
    attention_capture,
    loss,
    # what changes the picture
    single_step_iter_ref,
    guidance,
    init_noise,
    distribution,
    seed_search,
    attention_temperature,
    attention_reweight,
    # whole methods
    preset,
    ksampler,
    # what happened
    block_probe,
    heatmaps,
    loss_curve,
    # how good it is, and what to choose
    prompt_set,
    tiam_score,
    image_scores,
    step_selection,
    sweep,
    seeds,
)
