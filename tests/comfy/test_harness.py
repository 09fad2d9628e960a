"""The harness itself: what the other tests stand on must be true."""

import pytest
import torch

SUBJECTS = "a photo of a cat and a dog"


def graph(family="sd_xs", dtype="fp32", width=128, height=128, batch=1, sampler="euler", steps=3, seed=7):
    empty = "EmptySD3LatentImage" if family == "sd3" else "EmptyLatentImage"
    return {
        "1": {"class_type": "ToyModel", "inputs": {"family": family, "seed": 0, "dtype": dtype}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": SUBJECTS}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": empty, "inputs": {"width": width, "height": height, "batch_size": batch}},
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": seed,
                "steps": steps,
                "cfg": 5.0,
                "sampler_name": sampler,
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    }


@pytest.mark.parametrize("family", ["sd15", "sd21_v", "sdxl", "sd3"])
def test_every_family_samples_and_decodes(comfy, family):
    result = comfy.run(graph(family), ["5", "6"]).check()
    latent, image = result["5"]["samples"], result["6"]
    assert latent.shape == (1, 16 if family == "sd3" else 4, 16, 16)
    assert image.shape == (1, 128, 128, 3)
    assert latent.isfinite().all()
    assert 0.05 < latent.std() < 20  # tame: neither dead nor exploding


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8"])
def test_every_storage_type_samples(comfy, dtype):
    model = comfy.model("sd15", dtype=dtype)
    stored = {p.dtype for p in model.model.diffusion_model.parameters()}
    assert stored == {{"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}[dtype]}
    assert comfy.run(graph("sd15", dtype), ["5"]).check()["5"]["samples"].isfinite().all()


@pytest.mark.parametrize("height, width", [(8, 8), (13, 19), (24, 16), (64, 64)])
def test_any_latent_size(comfy, height, width):
    result = comfy.run(graph(width=width * 8, height=height * 8, steps=1), ["5"]).check()
    assert result["5"]["samples"].shape[-2:] == (height, width)


def test_weights_are_inference_tensors_unless_asked(comfy):
    for family in ("sd15", "sdxl", "sd3"):
        model = comfy.model(family).model
        assert all(p.is_inference() for p in model.parameters())
        assert all(b.is_inference() for b in model.buffers())
    plain = comfy.model("sd15", normal_weights=True).model
    assert not any(t.is_inference() for t in [*plain.parameters(), *plain.buffers()])
    same = zip(comfy.model("sd15").model.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_unet_has_sd15_block_numbers_at_three_scales(comfy):
    """Cross-attention on input 1,2,4,5,7,8, middle and output 3..11, from full size down to an eighth."""
    seen = {}

    def patch(n, context, value, options):
        seen[tuple(options["block"])] = tuple(options["activations_shape"][-2:])
        return n, context, value

    model = comfy.model("sd15")
    model.set_model_attn2_patch(patch)
    latent = torch.zeros(1, 4, 16, 16)
    with torch.inference_mode():
        cond = comfy.clip("sd15").encode_from_tokens_scheduled(comfy.clip("sd15").tokenize(SUBJECTS))
        comfy.nodes.common_ksampler(model, 0, 1, 1.0, "euler", "normal", cond, cond, {"samples": latent})
    down, up = [("input", n) for n in (1, 2, 4, 5, 7, 8)], [("output", n) for n in range(3, 12)]
    assert set(seen) == {*down, ("middle", 0), *up}
    assert [seen[place][0] for place in down] == [16, 16, 8, 8, 4, 4]
    assert seen["middle", 0] == (2, 2)
    assert [seen[place][0] for place in up] == [4, 4, 4, 8, 8, 8, 16, 16, 16]


def test_a_run_is_repeatable_and_seeded(comfy):
    one, two = (comfy.run(graph(), ["5"]).check()["5"]["samples"] for _ in range(2))
    other = comfy.run(graph(seed=8), ["5"]).check()["5"]["samples"]
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_session_caches_like_a_running_comfyui(comfy):
    session = comfy.session()
    first = session.run(graph(), ["5"]).check()
    second = session.run(graph(), ["5"]).check()
    assert first["5"]["samples"] is second["5"]["samples"]
    assert not second.progress and first.progress


def test_progress_and_node_error_are_reported(comfy):
    result = comfy.run(graph(steps=3), ["5"]).check()
    assert [(value, total) for node, value, total in result.progress if node == "5"][-1] == (3, 3)
    broken = graph()
    broken["4"] = {"class_type": "ToyModel", "inputs": {"family": "sd_xs", "seed": 0}}
    refused = comfy.run(broken, ["5"])
    assert not refused.ok and refused.node_type == "KSampler" and "latent_image" in refused.error
    failing = graph()
    failing["5"]["inputs"]["latent_image"] = ["7", 0]
    composite = {"samples_to": ["4", 0], "samples_from": ["8", 0], "x": 0, "y": 0, "feather": 0}
    failing["7"] = {"class_type": "LatentComposite", "inputs": composite}
    sixteen_channels = {"width": 128, "height": 128, "batch_size": 1}
    failing["8"] = {"class_type": "EmptySD3LatentImage", "inputs": sixteen_channels}
    crashed = comfy.run(failing, ["5"])
    assert not crashed.ok and crashed.node_id == "7" and crashed.node_type == "LatentComposite"
    assert "RuntimeError" in crashed.error_type and crashed.traceback


def test_an_interrupt_stops_the_run_and_not_the_next(comfy):
    def stop(event, data):
        if event == "progress":
            comfy.interrupt()

    stopped = comfy.run(graph(steps=8), ["5"], on_message=stop)
    assert not stopped.ok and stopped.error == "interrupted" and not stopped.outputs
    assert comfy.run(graph(steps=2), ["5"]).ok


def test_the_stock_loader_takes_the_tiny_checkpoint(comfy, tiny_checkpoint):
    prompt = graph()
    prompt["1"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": tiny_checkpoint}}
    result = comfy.run(prompt, ["2", "5", "6"]).check()
    cond = result["2"][0][0]
    assert cond.shape == (1, 77, 768) and cond.isfinite().all() and not torch.equal(cond[0, 5], cond[0, 8])
    assert result["5"]["samples"].isfinite().all() and result["6"].shape == (1, 128, 128, 3)


def test_pack_modules_come_from_the_loaded_pack(comfy):
    assert comfy.pack("gsn") is comfy.pack("gsn")
    assert comfy.pack("gsn").__name__.startswith(comfy.pack().__name__)
    assert comfy.pack().__file__.endswith("__init__.py")
