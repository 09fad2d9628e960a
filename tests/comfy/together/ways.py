"""Ways to condition: what is added to the prompt or to the latent."""

from ..graphs import left_half_only
from .chain import node, positive, prompt


def hints(nodes, count=1):
    wire = node(nodes, "i0", "EmptyImage", width=128, height=104, batch_size=1, color=0x80FF20)
    if count == 2:
        other = node(nodes, "i1", "EmptyImage", width=128, height=104, batch_size=1, color=0x1020F0)
        wire = node(nodes, "i", "ImageBatch", image1=wire, image2=other)
    return wire


def controlled(nodes, kind, count=1, **inputs):
    net = node(nodes, "net", kind, **inputs)
    image = hints(nodes, count)
    apply = {"positive": ["2", 0], "negative": ["3", 0], "control_net": net, "image": image}
    apply |= {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    nodes["out"]["inputs"] |= {"positive": node(nodes, "ap", "ControlNetApplyAdvanced", **apply), "negative": ["ap", 1]}
    return nodes


def t2i_adapter(nodes):
    return controlled(nodes, "ToyT2IAdapter")


def t2i_adapter_with_a_hint_per_image(nodes):
    return controlled(nodes, "ToyT2IAdapter", 2)


def controlnet_with_a_hint_per_image(nodes):
    return controlled(nodes, "ToyControlNet", 2, seed=0)


def gligen(nodes):
    box = {"width": 64, "height": 64, "x": 8, "y": 16, "text": "a cat"}
    model = node(nodes, "gl", "ToyGligen", model=["1", 0])
    wires = {"conditioning_to": ["2", 0], "clip": ["1", 1], "gligen_textbox_model": model}
    return positive(nodes, node(nodes, "box", "GLIGENTextBoxApply", **wires, **box))


def two_prompts_with_subjects(nodes):
    other = prompt(nodes, "2b", "a frog on a bench", "frog, bench")
    return positive(nodes, node(nodes, "y", "ConditioningCombine", conditioning_1=["2", 0], conditioning_2=other))


def average(nodes):
    other = prompt(nodes, "2b", "a frog on a bench", "frog, bench")
    wires = {"conditioning_to": ["2", 0], "conditioning_from": other, "conditioning_to_strength": 0.6}
    return positive(nodes, node(nodes, "y", "ConditioningAverage", **wires))


def two_time_ranges_with_subjects(nodes):
    other = prompt(nodes, "2b", "a frog on a bench", "frog, bench")
    early = node(nodes, "y0", "ConditioningSetTimestepRange", conditioning=["2", 0], start=0.0, end=0.5)
    late = node(nodes, "y1", "ConditioningSetTimestepRange", conditioning=other, start=0.5, end=1.0)
    return positive(nodes, node(nodes, "y", "ConditioningCombine", conditioning_1=early, conditioning_2=late))


def two_regions_with_subjects(nodes):
    """The cat and the dog in the left part by area, frog and bench in the right half by mask, a meadow for the rest."""
    other = prompt(nodes, "2b", "a frog on a bench", "frog, bench")
    left = {"conditioning": ["2", 0], "width": 80, "height": 104, "x": 0, "y": 0, "strength": 1.0}
    black = node(nodes, "m0", "SolidMask", value=0.0, width=128, height=104)
    white = node(nodes, "m1", "SolidMask", value=1.0, width=64, height=104)
    half = node(nodes, "m", "MaskComposite", destination=black, source=white, x=64, y=0, operation="add")
    right = {"conditioning": other, "mask": half, "strength": 1.0, "set_cond_area": "default"}
    regions = {
        "conditioning_1": node(nodes, "y0", "ConditioningSetArea", **left),
        "conditioning_2": node(nodes, "y1", "ConditioningSetMask", **right),
    }
    both = node(nodes, "y", "ConditioningCombine", **regions)
    rest = node(nodes, "meadow", "CLIPTextEncode", clip=["1", 1], text="a meadow")
    return positive(nodes, node(nodes, "z", "ConditioningCombine", conditioning_1=both, conditioning_2=rest))


def _edited(nodes, kind, **more):
    """A picture's latent, and conditioning that carries it on extra channels of the network."""
    pixels = node(nodes, "px", "EmptyImage", width=128, height=104, batch_size=1, color=0x80FF20)
    wires = {"positive": ["2", 0], "negative": ["3", 0], "vae": ["1", 2], "pixels": pixels} | more
    node(nodes, "in", kind, **wires)
    latent = node(nodes, "two", "RepeatLatentBatch", samples=["in", 2], amount=2)
    nodes["out"]["inputs"] |= {"positive": ["in", 0], "negative": ["in", 1], "latent_image": latent}
    return nodes


def inpaint_model(nodes):
    black = node(nodes, "m0", "SolidMask", value=0.0, width=128, height=104)
    white = node(nodes, "m1", "SolidMask", value=1.0, width=72, height=104)
    half = node(nodes, "m", "MaskComposite", destination=black, source=white, x=0, y=0, operation="add")
    return _edited(nodes, "InpaintModelConditioning", mask=half, noise_mask=True)


def instruct_pix2pix(nodes):
    return _edited(nodes, "InstructPixToPixConditioning")


def unclip(nodes, seeds=(1,)):
    wire = ["2", 0]
    for seed in seeds:
        read = node(nodes, f"v{seed}", "ToyPictureRead", seed=seed)
        wires = {"conditioning": wire, "clip_vision_output": read}
        wire = node(nodes, f"u{seed}", "unCLIPConditioning", **wires, strength=0.8, noise_augmentation=0.2)
    return positive(nodes, wire)


def unclip_of_two_pictures(nodes):
    """The noise on what they are mixed to is drawn from torch's global generator."""
    return unclip(nodes, (1, 2))


def differential_diffusion(nodes):
    nodes = left_half_only(nodes, 128, 104)
    nodes["h"]["inputs"]["value"] = 0.8
    wire = nodes["out"]["inputs"]["model"]
    nodes["out"]["inputs"]["model"] = node(nodes, "dd", "DifferentialDiffusion", model=wire, strength=0.9)
    return nodes


WAYS = [
    t2i_adapter,
    t2i_adapter_with_a_hint_per_image,
    controlnet_with_a_hint_per_image,
    gligen,
    two_prompts_with_subjects,
    average,
    two_time_ranges_with_subjects,
    two_regions_with_subjects,
    inpaint_model,
    instruct_pix2pix,
    unclip,
    unclip_of_two_pictures,
    differential_diffusion,
]
FAMILY = {inpaint_model: "sd15_inpaint", instruct_pix2pix: "sd15_edit"}
FAMILY |= dict.fromkeys((unclip, unclip_of_two_pictures), "sd21_unclip_h")
CONDITIONED = [(way, FAMILY.get(way, "sd15")) for way in WAYS]
CONDITIONED += [(way, "sd3") for way in (two_time_ranges_with_subjects, two_regions_with_subjects)]
