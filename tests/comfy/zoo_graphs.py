"""API-format prompts for the models of the zoo, whose text is made up."""

from .zoo_names import SIZES


def graph(name, patch=None, chunks=1, subjects=True, ordinary=False, batch=2, steps=4, **loader):
    """A batch of 13 x 19 latents (of 104 x 152 pixels for most), where the model takes odd sizes at all."""
    width, height = SIZES.get(name, (152, 104))
    nodes = {
        "1": {"class_type": "ToyTransformer", "inputs": {"name": name, "ordinary": ordinary, **loader}},
        "2": {"class_type": "ToyText", "inputs": {"name": name, "seed": 1, "chunks": chunks, "subjects": subjects}},
        "3": {"class_type": "ToyText", "inputs": {"name": name, "seed": 2, "subjects": False}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": height, "batch_size": batch}},
    }
    model = ["1", 0]
    for number, (kind, inputs) in enumerate(patch or []):
        nodes[f"p{number}"] = {"class_type": kind, "inputs": {"model": model, **inputs}}
        model = [f"p{number}", 0]
    settings = {"seed": 1, "steps": steps, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"model": model, "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    nodes["out"] = {"class_type": "KSampler", "inputs": settings | wires}
    return nodes


def refine(**inputs):
    return ("SingleStepIterRef", {"step": 1, "step_unit": "index", "iterations": 10, "lr": 0.02} | inputs)
