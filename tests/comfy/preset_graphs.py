"""API-format prompts with a preset, on the demo model or on a toy of the kind that the preset is for."""

PROMPT = "a photo of a cat and a dog"
NEED_BOXES = ("BoxDiff", "SAGA boxes")
BOXES = [{"x": 4, "y": 12, "width": 26, "height": 40}, {"x": 35, "y": 12, "width": 26, "height": 40}]
DDPM = {"sampler_name": "ddpm", "scheduler": "ddim_uniform"}
FLOW = {"sampler_name": "euler", "scheduler": "normal"}


def graph(preset=None, file="", on="demo", text=PROMPT, **sampler):
    """on: the demo model, a toy with a text encoder, or one of the zoo, whose text is its own."""
    nodes = {
        "model": {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}},
        "positive": {"class_type": "GSNSubjects", "inputs": {"clip": ["model", 1], "text": text, "subjects": ""}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": ""}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    }
    if on in ("sdxl", "sd3"):
        nodes["model"] = {"class_type": "ToyModel", "inputs": {"family": on, "seed": 0}}
    elif on != "demo":
        nodes["model"] = {"class_type": "ToyTransformer", "inputs": {"name": on}}
        nodes["positive"] = {"class_type": "ToyText", "inputs": {"name": on, "seed": 1}}
        nodes["negative"] = {"class_type": "ToyText", "inputs": {"name": on, "seed": 2, "subjects": False}}
    settings = {"seed": 3, "steps": 12, "cfg": 3.0, "denoise": 1.0} | (DDPM if on in ("demo", "sdxl") else FLOW)
    model = ["model", 0]
    if preset in NEED_BOXES:
        drawn = {"width": 64, "height": 64, "editor_state": {"__value__": BOXES}}  # as the editor sends a list
        nodes["boxes"] = {"class_type": "CreateBoundingBoxes", "inputs": drawn}
        nodes["positive"]["inputs"] |= {"boxes": ["boxes", 1], "canvas_width": 64, "canvas_height": 64}
    if preset is not None:
        nodes["preset"] = {"class_type": "GSNPreset", "inputs": {"model": model, "preset": preset, "file": file}}
        model = ["preset", 0]
    wires = {"model": model, "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["latent", 0]}
    nodes["out"] = {"class_type": "KSampler", "inputs": settings | wires | sampler}
    return nodes


def run(comfy, preset, **more):
    """comfy: or a session, whose model is then the same from run to run."""
    result = comfy.run(graph(preset, **more), ["out", ("preset", 1), ("preset", 2), ("preset", 3)]).check()
    return result["out"]["samples"], result["preset", 1].trace, result["preset", 2], result["preset", 3]
