"""Every patch on a MODEL that is made for pictures, with settings that are seen in the picture."""

from ..lora import LORA
from .chain import Patch, toy

HYPERNETWORK = "toy_hypernetwork.pt"
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
