"""What ComfyUI shows: schemas and wiring, no maths. A file per node, named by its id; shared: inputs and sockets.

A new node is a file here and its name in FILES.
"""

from importlib import import_module

# In this order they are given to ComfyUI.
FILES = (
    # what is wanted, and what is looked at
    "demo_model",
    "subjects",
    "attention_capture",
    "loss",
    # what changes the picture
    "single_step_iter_ref",
    "guidance",
    "init_noise",
    "distribution",
    "seed_search",
    "attention_temperature",
    "attention_reweight",
    # whole methods
    "preset",
    "ksampler",
    # what happened
    "block_probe",
    "heatmaps",
    "loss_curve",
    # how good it is, and what to choose
    "prompt_set",
    "tiam_score",
    "image_scores",
    "step_selection",
    "sweep",
    "seeds",
)
MODULES = tuple(import_module(f".{file}", __name__) for file in FILES)
