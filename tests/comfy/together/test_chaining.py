"""What users already have in their graphs: every patch on a MODEL that is made for pictures, other packs' ways to
patch attention, adapters, regions and inpainting. The refinement works with each, in both orders, and off is exact.
"""

import os
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch

from .. import zoo_graphs as zoo
from ..graphs import capture, left_half_only, refine, samples, sd15_graph
from ..lora import LORA, lora_of, write_lora
from ..zoo_names import NAMES

HYPERNETWORK = "toy_hypernetwork.pt"
EXTRAS = """
lora_debug apg attention_multiply cfg context_windows differential_diffusion edit_model eps fresca
hypernetwork hypertile ip2p latent lumina2 mahiro model_downscale model_merging model_patch nag pag rope sag
slg tcfg tomesd torch_compile video_model flux
"""
REFINE = refine(step=1, iterations=2)
STEPS = 2  # one before the refinement, one that it is of; more where a patch remembers
graph = partial(sd15_graph, steps=STEPS)


@pytest.fixture(scope="module", autouse=True)
def prepared(comfy):

    (comfy.base / "models" / "hypernetworks").mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(9)
    write_lora(comfy, generator)
    layers = [
        {
            f"linear.{n}.{kind}": torch.randn(*shape, generator=generator) * 0.1
            for n in (0, 1)
            for kind, shape in (("weight", (64, 64)), ("bias", (64,)))
        }
        for _ in range(2)
    ]
    made = {64: layers, "activation_func": "relu", "is_layer_norm": False, "activate_output": False}
    torch.save(made, str(comfy.base / "models" / "hypernetworks" / HYPERNETWORK))
    for name in EXTRAS.split():
        comfy.extra(f"nodes_{name}")


@dataclass(frozen=True)
class Patch:
    """A node MODEL -> MODEL. inside: it acts within the network, so the loss must be another one with it."""

    kind: str
    inputs: dict = field(default_factory=dict)
    family: str = "sd15"
    inside: bool = False
    more: dict = field(default_factory=dict)  # other nodes it needs
    sampler: dict = field(default_factory=dict)
    batch: int = 2
    socket: str = "model"

    def __str__(self):
        return f"{self.inputs['kind'] if self.kind == 'ToyPatch' else self.kind}-{self.family}"


def toy(kind, family="sd15", inside=True, **more):
    return Patch("ToyPatch", {"kind": kind}, family, inside, **more)


WITH_TEXT = ("sd15", "sd_xs", "sdxl", "sd3")  # toys that have a text encoder


def bare(patch, ours=()):
    settings = {"steps": STEPS} | patch.sampler
    if patch.family in NAMES and patch.family not in WITH_TEXT:
        nodes = zoo.graph(patch.family, list(ours))
        nodes["out"]["inputs"] |= settings
        nodes["4"]["inputs"] |= {"width": 160, "height": 96}
    else:
        nodes = graph(list(ours), family=patch.family, **settings)
    nodes["4"]["inputs"]["batch_size"] = patch.batch
    return nodes


def chained(patch, ours=(), first=True):
    """The patch before our node, or after it."""
    nodes = bare(patch, ours) | patch.more
    nodes["x"] = {"class_type": patch.kind, "inputs": {patch.socket: ["1", 0], **patch.inputs}}
    if first and ours:
        nodes["p0"]["inputs"]["model"] = ["x", 0]
    else:
        nodes["x"]["inputs"][patch.socket] = nodes["out"]["inputs"]["model"]
        nodes["out"]["inputs"]["model"] = ["x", 0]
    return nodes


def checked(session, nodes, plain):
    """The refined latent, proven to be a real refinement."""
    result = session.run(nodes, ["out", ("p0", 1)])
    records = result.check()["p0", 1].trace.records
    assert all(after < before for before, after in zip(records[0].loss, records[-1].loss, strict=True))
    assert min(records[-1].update_rms) > 0
    assert all(not torch.equal(samples(result)[i], plain[i]) for i in range(len(plain)))
    return samples(result)


OPERATION = {"o": {"class_type": "LatentOperationSharpen", "inputs": {"sharpen_radius": 3, "sigma": 1.0, "alpha": 0.5}}}
OTHER = {"b": {"class_type": "ToyModel", "inputs": {"family": "sd_xs", "seed": 5}}}
EMPTY = {"e": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a meadow"}}}
WINDOWS = {"context_length": 1, "context_overlap": 0, "context_schedule": "standard_static", "context_stride": 1}
WINDOWS |= {"closed_loop": False, "fuse_method": "pyramid", "dim": 0, "freenoise": False}
WINDOWS |= {"cond_retain_index_list": "", "latent_retain_index_list": "", "split_conds_to_windows": False}
WINDOWS |= {"causal_window_fix": False}
SHRINK = {"block_number": 3, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.6}
SHRINK |= {"downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bislerp"}
SKIP = {"scale": 3.0, "start_percent": 0.0, "end_percent": 1.0}
CACHE = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
LONG = {"steps": 6}
REMEMBERS = {"steps": 3}  # what it has of a step before the refinement must not spoil one after it
FREEU = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}
THIN = {"q": 0.8, "k": 1.2, "v": 0.9, "out": 1.1}
FIRST = {"first_step": 0, "last_step": 2, "step_unit": "index"}
DIT = {"double_layers": "1, 2", "single_layers": "", "start_percent": 0.0, "end_percent": 1.0}

NAG = {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}
WITHOUT_CFG = {"cfg": 1.0}  # what it is made for: the negative prompt still runs beside the positive
SELF = {"scale": 0.9, "blur_sigma": 2.0}
ROPE = {"scale_x": 1.5, "shift_x": 1.0, "scale_y": 0.7, "shift_y": 0.0, "scale_t": 1.0, "shift_t": 0.0}
CONTROL = {"model_patch": ["mp", 0], "vae": ["mp", 1], "image": ["i", 0], "strength": 1.0}


def control(name):
    return {
        "mp": {"class_type": "ToyModelPatch", "inputs": {"name": name}},
        "i": {"class_type": "EmptyImage", "inputs": {"width": 160, "height": 96, "batch_size": 1, "color": 0x80FF20}},
    }


OFF = [refine(step=1, iterations=0), refine(step=1, iterations=2, lr=0.0)]
CACHES = [
    toy("answer_cache", inside=False, sampler=WITHOUT_CFG | REMEMBERS),
    toy("answer_cache", "flux_dev", inside=False, sampler=WITHOUT_CFG | REMEMBERS),
    toy("block_cache", "flux_dev", inside=False, sampler=WITHOUT_CFG | REMEMBERS),
]
PATCHES = [
    *CACHES,
    toy("ip_adapter"),
    toy("extra_tokens"),
    toy("attention_patches"),
    toy("momentum", sampler=REMEMBERS),
    toy("override", inside=False),
    toy("override", "sd3", inside=False),
    toy("compiled", inside=False),
    toy("compiled", "sd3", inside=False),
    toy("own_forward", "flux_dev"),
    Patch("LoraLoaderBypassModelOnly", {"lora_name": LORA, "strength_model": 1.0}, inside=True),
    Patch("HypernetworkLoader", {"hypernetwork_name": HYPERNETWORK, "strength": 1.0}, inside=True),
    Patch("PatchModelAddDownscale", SHRINK, inside=True),
    Patch("PatchModelAddDownscale", SHRINK, "sdxl", inside=True),
    Patch("HyperTile", {"tile_size": 1, "swap_size": 4, "max_depth": 1, "scale_depth": False}, inside=True),
    Patch("TomePatchModel", {"ratio": 0.5}, inside=True),
    Patch("FreeU", FREEU, inside=True),
    Patch("FreeU_V2", FREEU, inside=True),
    Patch("FreeU_V2", FREEU, "sdxl"),  # acts behind the half that is read of SDXL
    Patch("UNetSelfAttentionMultiply", THIN, inside=True),
    Patch("UNetCrossAttentionMultiply", THIN, inside=True),
    Patch("ModelMergeSimple", {"model2": ["b", 0], "ratio": 0.6}, "sd_xs", inside=True, more=OTHER, socket="model1"),
    Patch("ModelComputeDtype", {"dtype": "bf16"}, inside=True),
    Patch("ModelSamplingDiscrete", {"sampling": "v_prediction", "zsnr": False}),
    Patch("ModelSamplingDiscrete", {"sampling": "lcm", "zsnr": False}),
    Patch("ModelSamplingContinuousEDM", {"sampling": "v_prediction", "sigma_max": 80.0, "sigma_min": 0.01}),
    Patch("ModelSamplingContinuousV", {"sampling": "v_prediction", "sigma_max": 80.0, "sigma_min": 0.01}),
    Patch("ModelSamplingSD3", {"shift": 1.5}, "sd3"),
    Patch("ModelNoiseScale", {"noise_scale": 0.9}, "sd3"),
    Patch("RescaleCFG", {"multiplier": 0.7}),
    Patch("PerturbedAttentionGuidance", {"scale": 3.0}),
    Patch("SelfAttentionGuidance", SELF),
    Patch("NAGuidance", NAG),
    Patch("NAGuidance", NAG, sampler=WITHOUT_CFG),
    Patch("TCFG"),
    Patch("TCFG", family="sd3"),
    Patch("CFGZeroStar", family="sd3"),
    Patch("CFGNorm", {"strength": 0.9, "pre_cfg": False}, "sd3"),
    Patch("CFGNorm", {"strength": 0.9, "pre_cfg": True}),
    Patch("CFGOverride", {"cfg": 2.0, "start_percent": 0.0, "end_percent": 0.8}),
    Patch("RenormCFG", {"cfg_trunc": 100.0, "renorm_cfg": 1.0}, batch=1),  # the node itself takes no batches
    Patch("APG", {"eta": 0.8, "norm_threshold": 2.0, "momentum": 0.4}, sampler=REMEMBERS),
    Patch("Mahiro"),
    Patch("FreSca", {"scale_low": 1.1, "scale_high": 1.5, "freq_cutoff": 2}),
    Patch("Epsilon Scaling", {"scaling_factor": 1.05}),
    Patch("TemporalScoreRescaling", {"tsr_k": 0.9, "tsr_sigma": 1.0}, batch=1),  # nor does this one
    Patch("LatentApplyOperationCFG", {"operation": ["o", 0]}, more=OPERATION),
    Patch("PerpNeg", {"empty_conditioning": ["e", 0], "neg_scale": 1.0}, more=EMPTY),
    Patch("VideoLinearCFGGuidance", {"min_cfg": 1.0}),
    Patch("SkipLayerGuidanceSD3", {"layers": "1, 2", **SKIP}, "sd3"),
    Patch("SkipLayerGuidanceDiT", {**DIT, "scale": 3.0, "rescaling_scale": 0.2}, "sd3"),
    Patch("SkipLayerGuidanceDiTSimple", DIT, "sd3"),
    Patch("EasyCache", CACHE, sampler=LONG),
    Patch("EasyCache", CACHE, "flux_dev", sampler=LONG),  # ComfyUI's SD3 has no place for it: it does nothing there
    Patch("LazyCache", CACHE, sampler=LONG),
    Patch("LazyCache", CACHE, "sd3", sampler=LONG),
    Patch("LazyCache", CACHE, "flux_dev", sampler=LONG),
    Patch("ContextWindowsManual", WINDOWS | {"dim": 0, "freenoise": True}),
    Patch("ContextWindowsManual", WINDOWS | {"dim": 3, "context_length": 10, "context_overlap": 4}, batch=1),
    Patch("ModelSamplingFlux", {"max_shift": 1.5, "base_shift": 0.7, "width": 512, "height": 512}, "flux_dev"),
    Patch("ScaleROPE", ROPE, "flux_dev", inside=True),
    Patch("NAGuidance", NAG, "flux_dev"),
    Patch("NAGuidance", NAG, "flux_dev", sampler=WITHOUT_CFG),
    Patch("NAGuidance", NAG, "krea2", sampler=WITHOUT_CFG),
    Patch("SkipLayerGuidanceDiT", {**DIT, "single_layers": "0", "scale": 3.0, "rescaling_scale": 0.0}, "flux_dev"),
    Patch("ModelSamplingAuraFlow", {"shift": 2.0}, "qwen_image"),
    Patch("CFGNorm", {"strength": 0.9, "pre_cfg": False}, "qwen_image"),
    Patch("QwenImageDiffsynthControlnet", CONTROL, "qwen_image", inside=True, more=control("qwen_image")),
    Patch("ZImageFunControlnet", CONTROL, "z_image", inside=True, more=control("z_image")),
    Patch("RenormCFG", {"cfg_trunc": 100.0, "renorm_cfg": 1.0}, "lumina2", batch=1),
]


@pytest.mark.parametrize("patch", PATCHES, ids=str)
def test_a_patch_before_and_after_ours(comfy, patch):
    session = comfy.session()

    def picture(ours=(), first=True):
        return samples(session.run(chained(patch, ours, first), ["out"]))

    plain = picture()
    assert not torch.equal(plain, samples(session.run(bare(patch), ["out"]))), "the patch itself does nothing"
    refined = []
    for first in (True, False):
        assert torch.equal(picture(OFF, first), plain)
        refined.append(checked(session, chained(patch, [REFINE], first), plain))
    assert torch.equal(*refined), "the order of the nodes matters"
    assert torch.equal(picture(), plain), "something stayed behind"
    if patch.inside:
        losses = []
        for nodes in (chained(patch, [refine(step=0, iterations=1)]), bare(patch, [refine(step=0, iterations=1)])):
            losses.append(session.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace.records[0].loss)
        assert all(abs(a - b) > 1e-6 for a, b in zip(*losses, strict=True)), "the loss is that of the bare model"


@pytest.mark.parametrize("patch", CACHES, ids=str)
def test_maps_are_read_without_a_cache_and_the_user_is_told(comfy, patch):
    """At step 1, where the latent is that of the plain run still, the cache would answer in the model's place."""
    seen = []
    for nodes in (bare(patch, [REFINE]), chained(patch, [REFINE])):
        trace = comfy.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace
        seen.append([record.loss for record in trace.records])
        assert sum("as caches do" in note for note in trace.notes) == (len(seen) == 2)
    assert seen[0] == seen[1]


# --- what is added to the prompt or to the latent


def prompt(nodes, key, text, subjects=""):
    nodes[key] = {"class_type": "GSNSubjects", "inputs": {"clip": ["1", 1], "text": text, "subjects": subjects}}
    return [key, 0]


def node(nodes, key, kind, **inputs):
    nodes[key] = {"class_type": kind, "inputs": inputs}
    return [key, 0]


def positive(nodes, wire):
    nodes["out"]["inputs"]["positive"] = wire
    return nodes


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


@pytest.mark.parametrize(("way", "family"), CONDITIONED, ids=lambda one: getattr(one, "__name__", one))
def test_a_way_to_condition(comfy, way, family):
    session = comfy.session()

    def base(ours=()):
        return graph(list(ours), family=family)

    def picture(ours=()):
        return samples(session.run(way(base(ours)), ["out"]))

    plain = picture()
    assert not torch.equal(plain, samples(session.run(base(), ["out"]))), "the addition itself does nothing"
    assert torch.equal(picture([refine(step=0, iterations=2, lr=0.0), *OFF]), plain)
    checked(session, way(base([REFINE])), plain)
    assert torch.equal(picture(), plain), "something stayed behind"


@pytest.mark.parametrize(
    "way", [t2i_adapter, t2i_adapter_with_a_hint_per_image, controlnet_with_a_hint_per_image, gligen],
    ids=lambda way: way.__name__,
)  # fmt: skip
def test_the_loss_is_that_of_the_model_with_the_adapter(comfy, way):
    with_it, without = (
        comfy.run(one(graph([refine(step=0, iterations=1)])), ["out", ("p0", 1)]).check()
        for one in (way, lambda nodes: nodes)
    )
    losses = [result["p0", 1].trace.records[0].loss for result in (with_it, without)]
    assert all(abs(a - b) > 1e-6 for a, b in zip(*losses, strict=True))


def test_both_prompts_of_a_combination_count(comfy):
    result = comfy.run(two_prompts_with_subjects(graph([REFINE])), ["out", ("p0", 1)]).check()
    assert result["p0", 1].trace.labels == ("cat", "dog", "frog", "bench")
    alone = comfy.run(graph([REFINE]), ["out", ("p0", 1)]).check()
    pairs = zip(result["p0", 1].trace.records[0].loss, alone["p0", 1].trace.records[0].loss, strict=True)
    assert all(both > one for both, one in pairs)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_range_that_holds_the_step_is_the_one_refined(comfy, swapped):
    """At the first step, whose latent is the noise: the loss of the early prompt alone."""

    def loss(nodes):
        return comfy.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace.records[0].loss

    nodes = two_time_ranges_with_subjects(graph([refine(step=0, iterations=1)]))
    alone = graph([refine(step=0, iterations=1)])
    if swapped:
        nodes["y0"]["inputs"]["conditioning"], nodes["y1"]["inputs"]["conditioning"] = ["2b", 0], ["2", 0]
        positive(alone, prompt(alone, "2b", "a frog on a bench", "frog, bench"))
    assert loss(nodes) == loss(alone)


@pytest.mark.parametrize(
    "way", [t2i_adapter_with_a_hint_per_image, controlnet_with_a_hint_per_image], ids=lambda way: way.__name__
)
def test_one_image_at_a_time_each_keeps_its_own_hint(comfy, monkeypatch, way):
    """After memory ran out once: the same refinement, and the hints are as they were for the rest of the run."""
    nodes = way(graph([refine(step=0, iterations=2)]))
    together = samples(comfy.run(nodes, ["out"]))
    grad, failed = torch.autograd.grad, []

    def failing(*args, **kwargs):
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("simulated")
        return grad(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", failing)
        alone = samples(comfy.run(nodes, ["out"]))
    assert failed and float((alone - together).norm() / together.norm()) <= 1e-4


# --- attention


@pytest.mark.parametrize("family", ["sd15", "sd3", "flux_dev"])
def test_another_packs_attention_is_for_ordinary_passes(comfy, family):
    counts = comfy.toy.COUNTS
    counts.clear()
    comfy.run(chained(toy("override", family)), ["out"]).check()
    ordinary = counts.pop("ordinary")
    assert ordinary > 0 and not counts
    comfy.run(chained(toy("override", family), [REFINE]), ["out"]).check()
    assert counts == {"ordinary": ordinary}


ALONE = "no_patch"
# SD3.5 medium attends to the picture alone as well, in a call that is not read
CHOSEN = [Patch(ALONE, family=family) for family in ("sd15", "sd35_medium", "flux_dev")]
CHOSEN += [toy("ip_adapter"), Patch("SelfAttentionGuidance", SELF)]


@pytest.mark.parametrize("patch", CHOSEN, ids=str)
def test_the_chosen_attention_is_for_ordinary_passes(comfy, monkeypatch, patch):
    """As --use-sage-attention: no backward, and also behind patches that do not hand on the transformer options."""
    import comfy.ldm.modules.attention as attention

    inner, calls = attention.efficient_dot_product_attention, []

    def kernel(*args, **kwargs):
        calls.append(torch.is_grad_enabled())
        with torch.no_grad():
            return inner(*args, **kwargs)

    assert attention.optimized_attention is attention.attention_sub_quad, "the default without a GPU"
    nodes = (bare if patch.kind == ALONE else chained)(patch, [REFINE])
    wanted = samples(comfy.run(nodes, ["out"]))
    monkeypatch.setattr(attention, "efficient_dot_product_attention", kernel)
    assert torch.equal(samples(comfy.run(nodes, ["out"])), wanted)
    assert calls and not any(calls)


def test_what_the_attention_functions_call_is_put_back(comfy):
    import comfy.ldm.modules.attention as attention

    def inner():
        wrapped = {f for f in vars(attention).values() if hasattr(f, "__wrapped__")}
        return {f: [cell.cell_contents for cell in f.__closure__] for f in wrapped}

    before = inner()
    comfy.run(graph([REFINE]), ["out"]).check()
    failed = comfy.run(chained(toy("shorter_text"), [REFINE]), ["out"])
    assert not failed.ok and "8 of the prompt's 77" in failed.error and "AttentionCapture" in failed.error
    assert inner() == before
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_tokens_that_another_pack_adds_are_not_words(comfy, monkeypatch):
    """They take their share of the softmax; the maps still have the prompt's columns and no others."""
    forward, found = comfy.pack("gsn.host.attention.forward").EntryForward, []
    call = forward.__call__

    def seen(*args):
        found.append(call(*args))
        return found[-1]

    monkeypatch.setattr(forward, "__call__", seen)
    observed = [capture(record_steps="0")]
    comfy.run(chained(toy("extra_tokens"), observed), ["out"]).check()
    comfy.run(graph(observed), ["out"]).check()
    with_them, alone = (maps.probabilities for maps in found)
    assert with_them.shape == alone.shape and with_them.shape[-1] == 77
    assert (with_them.sum(-1) < 0.999).all() and torch.allclose(alone.sum(-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("family", ["sd15", "flux_dev", "krea2"])
def test_the_maps_under_nag_are_those_of_the_prompts_own_rows(comfy, monkeypatch, family, cfg):
    """They are of the positive prompt alone, where it does nothing: bit for bit those of the model without it."""
    forward, found = comfy.pack("gsn.host.attention.forward").EntryForward, []
    call = forward.__call__

    def seen(self, latent, rows):
        found.append(call(self, latent, rows))
        assert len(found[-1].probabilities) == len(latent) == 2
        return found[-1]

    monkeypatch.setattr(forward, "__call__", seen)
    for nodes in (chained, bare):
        patch = Patch("NAGuidance", NAG, family, sampler={"cfg": cfg})
        comfy.run(nodes(patch, [refine(step=0, iterations=1)]), ["out"]).check()
    evaluations = len(found) // 2
    assert evaluations and torch.equal(found[0].probabilities, found[evaluations].probabilities)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("kind", "family"), [("negative_within", "sd15"), ("twice_the_rows", "sd15"), ("twice_the_rows", "flux_dev")]
)
def test_rows_that_another_pack_adds_are_refused(comfy, kind, family, batch):
    """One picture and two texts would even have run, as one text of twice the length."""
    patch = Patch("ToyPatch", {"kind": kind}, family, batch=batch)
    assert comfy.run(chained(patch), ["out"]).ok
    result = comfy.run(chained(patch, [REFINE]), ["out"])
    rows = batch + 1 if kind == "negative_within" else 2 * batch
    assert not result.ok and "AttentionCapture" in result.error and f"{rows} rows" in result.error
    if kind == "negative_within":
        edited = [("GSNAttentionTemperature", {"factor": 1.5, "words": "whole text", **FIRST})]
        result = comfy.run(chained(patch, edited), ["out"])
        assert not result.ok and "rows of text" in result.error


@pytest.mark.parametrize("family", ["flux_dev", "flux2"])
def test_tokens_put_before_the_text_are_refused(comfy, family):
    assert comfy.run(chained(toy("style_tokens", family)), ["out"]).ok
    result = comfy.run(chained(toy("style_tokens", family), [REFINE]), ["out"])
    assert not result.ok and "AttentionCapture" in result.error and "2 tokens beside the prompt's" in result.error


@pytest.mark.parametrize("step", [0, 1], ids=["flux2-0", "flux2-1"])
def test_flux_kv_cache_with_a_reference_picture(comfy, step):
    """The first call fills the cache, the others have the reference's keys from it and no queries for it."""
    session = comfy.session()

    def nodes(ours, kind="FluxKVCache"):
        made = zoo.graph("flux2", ours, batch=1)
        made["4"]["inputs"] |= {"width": 160, "height": 96}
        latent = node(made, "l", "EmptyFlux2LatentImage", width=160, height=96, batch_size=1)
        positive(made, node(made, "r", "ReferenceLatent", conditioning=["2", 0], latent=latent))
        made["out"]["inputs"]["cfg"] = 1.0
        if kind:
            made["out"]["inputs"]["model"] = node(made, "x", kind, model=made["out"]["inputs"]["model"])
        return made

    plain = samples(session.run(nodes([]), ["out"]))
    assert not torch.equal(plain, samples(session.run(nodes([], None), ["out"])))
    assert torch.equal(samples(session.run(nodes([refine(step=step, iterations=0)]), ["out"])), plain)
    for memory in ("fast", "low"):
        off = [refine(step=step, iterations=2, lr=0.0), capture(memory=memory)]
        assert torch.equal(samples(session.run(nodes(off), ["out"])), plain)
    checked(session, nodes([refine(step=step, iterations=2)]), plain)
    assert torch.equal(samples(session.run(nodes([]), ["out"])), plain)


# --- memory, compilation, quantisation


def test_layers_that_a_patch_brings_may_be_offloaded(comfy, monkeypatch):
    """Their weights lie in a buffer that the next layer overwrites; plain autograd would be silently wrong."""
    import comfy.ops as ops

    nodes = gligen(graph([REFINE]))
    wanted = samples(comfy.run(nodes, ["out"]))
    ordinary, scratch, lent = ops.cast_bias_weight, torch.zeros(1 << 16), []

    def cast(module, *args, **kwargs):
        weight, *rest = ordinary(module, *args, **kwargs)
        if not isinstance(module, torch.nn.Linear) or weight.numel() > len(scratch):
            return weight, *rest
        lent.append(torch.is_grad_enabled())
        return scratch[: weight.numel()].view(weight.shape).copy_(weight), *rest

    monkeypatch.setattr(ops, "cast_bias_weight", cast)
    assert torch.allclose(samples(comfy.run(nodes, ["out"])), wanted, rtol=1e-5, atol=1e-5)
    assert lent and not any(lent)


@pytest.mark.parametrize("kind", ["FreeU_V2", "HyperTile", "TomePatchModel", "ip_adapter", "LoraLoaderBypassModelOnly"])
def test_recomputed_blocks_repeat_what_the_patch_did(comfy, kind):
    """Also patches that draw random numbers, or that write into what autograd keeps."""
    patch = next(p for p in PATCHES if kind in (p.kind, p.inputs.get("kind")))
    low, fast = (
        samples(comfy.run(chained(patch, [capture(memory=memory), REFINE]), ["out"])) for memory in ("low", "fast")
    )
    assert torch.allclose(low, fast, rtol=1e-5, atol=1e-5)


def test_a_patch_that_draws_random_numbers_draws_the_same_in_every_evaluation(comfy):
    """And in the pass that is refined: with lr 0 the loss does not move."""
    patch = next(p for p in PATCHES if p.kind == "TomePatchModel")
    result = comfy.run(chained(patch, [refine(step=1, iterations=3, lr=0.0)]), ["out", ("p0", 1)])
    losses = [record.loss for record in result.check()["p0", 1].trace.records]
    assert all(loss == losses[0] for loss in losses)


@pytest.mark.parametrize(("family", "kind"), [("flux_dev", "fp8_scaled"), ("flux_dev", "int8")])
def test_a_bypass_lora_on_a_quantised_model(comfy, monkeypatch, family, kind):
    write_lora(comfy, torch.Generator().manual_seed(4), family)
    model, _ = comfy.toy.build_quantised(family, kind)
    network = model.model.diffusion_model
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", model)
    inputs = {"lora_name": lora_of(family), "strength_model": 1.0}
    test_a_patch_before_and_after_ours(comfy, Patch("LoraLoaderBypassModelOnly", inputs, family, inside=True))
    # ComfyUI itself leaves a module's own forward in its dictionary
    left = [vars(module)["forward"].__self__ is module for module in network.modules() if "forward" in vars(module)]
    assert left and all(left)


def test_a_quantised_layer_with_an_unknown_forward_is_refused(comfy, monkeypatch):
    model, _ = comfy.toy.build_quantised("flux_dev")
    layer = model.model.diffusion_model.double_blocks[0].img_attn.qkv
    layer.forward = lambda x: type(layer).forward(layer, x)
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", model)
    result = comfy.run(zoo.graph("flux_dev", [REFINE]), ["out"])
    assert not result.ok and not result.progress
    assert "SingleStepIterRef" in result.error and "double_blocks.0.img_attn.qkv" in result.error


def test_context_windows_over_the_picture_are_noted(comfy):
    wide = Patch("ContextWindowsManual", WINDOWS | {"dim": 3, "context_length": 10, "context_overlap": 4}, batch=1)
    result = comfy.run(chained(wide, [REFINE]), ["out", ("p0", 1)]).check()
    assert "context windows" in " ".join(result["p0", 1].trace.notes)
    images = comfy.run(chained(Patch("ContextWindowsManual", WINDOWS), [REFINE]), ["out", ("p0", 1)]).check()
    assert not images["p0", 1].trace.notes


@pytest.mark.parametrize("family", ["sd3"])
def test_a_compiled_model(comfy, family):
    """Really compiled: the ordinary steps are, the gradient is that of the model itself.

    PyTorch needs a C++ compiler and Python's headers for it; without them it is a failure in CI, elsewhere a skip.
    """
    patch = Patch("TorchCompileModel", {"backend": "inductor"}, family, batch=1)
    session = comfy.session()
    plain = session.run(chained(patch), ["out"])
    if not plain.ok and ("compiler" in plain.error or "Inductor" in plain.error):
        message = f"torch.compile does not work here: {plain.error.splitlines()[0]}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    plain = samples(plain)
    for first in (True, False):
        assert torch.equal(samples(session.run(chained(patch, OFF, first), ["out"])), plain)
        checked(session, chained(patch, [REFINE], first), plain)
    assert torch.equal(samples(session.run(chained(patch), ["out"])), plain)
