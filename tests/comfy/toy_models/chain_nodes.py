"""Test nodes that do to a MODEL or a CONDITIONING what other packs do, in the ways they do it."""

from functools import partial
from unittest.mock import patch

import comfy.clip_vision
import comfy.gligen
import comfy.ldm.lumina.controlnet
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock, CrossAttention, SpatialTransformer, optimized_attention
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io
from comfy_extras.nodes_model_patch import QwenImageBlockWiseControlNet

from .build import WIDTH, build_t2i_adapter, build_vae, fill
from .zoo import TOYS

COUNTS: dict[str, int] = {}  # calls of the "override" patch, by whether gradients were on


def _randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class _ImagePrompt(torch.nn.Module):
    """An IP-Adapter's two projections of one layer; `tokens` is what the image encoder gave."""

    def __init__(self, width, seed):
        super().__init__()
        self.to_k, self.to_v = (torch.nn.Linear(WIDTH, width, bias=False) for _ in range(2))
        fill(self, seed)
        self.tokens = _randn(1, 4, WIDTH, seed=seed)
        self.weight = torch.full((1, 1, 1), 0.7)  # an inference tensor that is multiplied with what has a gradient

    def __call__(self, q, k, v, extra_options):
        heads = extra_options["n_heads"]
        tokens = self.tokens.expand(q.shape[0], -1, -1)
        out = optimized_attention(q, k, v, heads)
        return out + self.weight * optimized_attention(q, self.to_k(tokens), self.to_v(tokens), heads)


def ip_adapter(model):
    """attn2 replacements, as IP-Adapter packs set them; the attention is not told the transformer options."""
    network = model.model.diffusion_model
    for part, blocks in (("input", network.input_blocks), ("output", network.output_blocks)):
        for number, block in enumerate(blocks):
            for module in block:
                if isinstance(module, SpatialTransformer):
                    width = module.transformer_blocks[0].attn2.to_q.out_features
                    model.set_model_attn2_replace(_ImagePrompt(width, number), part, number)


def extra_tokens(model):
    """An attn2 patch that gives every cross-attention three tokens more."""
    width = model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn2.to_k.in_features
    more = _randn(1, 3, width, seed=3) * 2

    def patch(n, context, value, extra_options):
        both = torch.cat([context, more.expand(context.shape[0], -1, -1)], 1)
        return n, both, both

    model.set_model_attn2_patch(patch)


def shorter_text(model):
    model.set_model_attn2_patch(lambda n, context, value, extra_options: (n, context[:, :8], value[:, :8]))


def attention_patches(model):
    """An attn1 patch and an attn2 output patch that compute with tensors of their own."""
    scale = torch.full((1,), 1.3)
    model.set_model_attn1_patch(lambda n, context, value, extra_options: (n * scale, context * scale, value))
    model.set_model_attn2_output_patch(lambda n, extra_options: n * scale)


def negative_within(model):
    """As other packs guide by a negative prompt within attn2: its row of text stands behind those of the picture."""

    def guided(module, x, context=None, value=None, mask=None, transformer_options=None):
        positive, negative = (
            CrossAttention.forward(module, x, one, transformer_options=transformer_options or {})
            for one in (context[: len(x)], context[-1:].expand(len(x), -1, -1))
        )
        return 1.5 * positive - 0.5 * negative

    def wrapper(executor, x, timesteps=None, context=None, *args, **kwargs):
        negative = _randn(1, *context.shape[1:], seed=8).to(context)
        return executor(x, timesteps, torch.cat([context, negative]), *args, **kwargs)

    for name, module in model.model.diffusion_model.named_modules():
        if isinstance(module, BasicTransformerBlock):
            model.add_object_patch(f"diffusion_model.{name}.attn2.forward", partial(guided, module.attn2))
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "negative_within", wrapper)


def twice_the_rows(model):
    """A second copy of every row in the network, of which the pack drops what comes out."""

    def wrapper(executor, x, *args, **kwargs):
        def doubled(value):
            return torch.cat([value, value]) if torch.is_tensor(value) and len(value) == len(x) else value

        kwargs = {name: doubled(value) for name, value in kwargs.items()}
        return executor(doubled(x), *map(doubled, args), **kwargs)[: len(x)]

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "twice_the_rows", wrapper)


def style_tokens(model):
    """As a USO style reference: tokens before the prompt's, put in behind the text's own projection."""

    def patch(kwargs):
        txt, ids = kwargs["txt"], kwargs["txt_ids"]
        kwargs["txt"] = torch.cat([txt[:, :2], txt], 1)
        kwargs["txt_ids"] = torch.cat([ids[:, :2], ids], 1)
        return kwargs

    model.set_model_post_input_patch(patch)


def momentum(model):
    """A patch that mixes in what it saw in the call before: in an attribute, in a closure and in a dictionary."""

    class Memory:
        last = None

    memory, calls, before, seen = Memory(), 0, 0.0, {}

    def patch(n, extra_options):
        nonlocal calls, before
        sigma = float(extra_options["sigmas"][0])
        if sigma > before:  # another run
            calls, memory.last = 0, None
            seen.clear()
        before, calls = sigma, calls + 1
        key = (extra_options["block"], n.shape)
        mixed = n + 0.1 * seen[key] if key in seen else n
        if memory.last is not None and memory.last.shape == n.shape:
            mixed = mixed + 0.1 * memory.last
        memory.last = seen[key] = n
        return mixed * (1 + 0.001 * (calls % 7))

    model.set_model_attn1_output_patch(patch)


def override(model):
    """The attention of another pack, whose kernel has no backward."""

    def attention(function, *args, **kwargs):
        gradient = torch.is_grad_enabled()
        COUNTS["gradient" if gradient else "ordinary"] = COUNTS.get("gradient" if gradient else "ordinary", 0) + 1
        with torch.no_grad():
            return function(*args, **kwargs) * 0.99

    model.model_options["transformer_options"]["optimized_attention_override"] = attention


def compiled(model):
    """The wrapper of TorchCompileModel, with a network in its place that has no derivative."""
    from comfy_api.torch_helpers.torch_compile import COMPILE_KEY

    def wrapper(executor, *args, **kwargs):
        COUNTS["gradient" if torch.is_grad_enabled() else "ordinary"] = 1
        with torch.no_grad():
            return executor(*args, **kwargs) * 0.98

    model.add_wrapper_with_key("apply_model", COMPILE_KEY, wrapper)


class _Untold(torch.nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, transformer_options=None, **kwargs):
        img, txt = self.block(**kwargs)
        return img * torch.linspace(0.8, 1.2, img.shape[-1]).to(img), txt


def own_forward(model):
    """As a pack that brings its own forward of the model, changes something in it, and does not pass the options on."""
    network = model.model.diffusion_model

    def wrapper(function, args):
        untold = torch.nn.ModuleList(map(_Untold, network.double_blocks))
        with patch.object(network, "double_blocks", untold):
            return function(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(wrapper)


class _Cache:
    """Says yes to every second call of a run: what caches do whose threshold is high. Called with the call's time."""

    def __init__(self):
        self.time, self.skipped = 0.0, True

    def answers(self, time):
        again = time <= self.time
        self.time, self.skipped = time, again and not self.skipped
        return self.skipped


def answer_cache(model):
    """As TeaCache: instead of the network its last answer, kept on the network itself."""
    network = model.model.diffusion_model

    def wrapper(function, args):
        if not hasattr(network, "toy_cache"):
            network.toy_cache, network.toy_answer = _Cache(), None
        if not network.toy_cache.answers(float(args["timestep"].max())):
            network.toy_answer = function(args["input"], args["timestep"], **args["c"])
        return network.toy_answer

    model.set_model_unet_function_wrapper(wrapper)


def block_cache(model):
    """As first-block caches: the network without the blocks behind its first, while it runs."""
    network, cache = model.model.diffusion_model, _Cache()

    def wrapper(function, args):
        blocks = list(network.double_blocks)
        kept = blocks[:1] if cache.answers(float(args["timestep"].max())) else blocks
        with patch.object(network, "double_blocks", torch.nn.ModuleList(kept)):
            return function(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(wrapper)


PATCHES = {
    f.__name__: f
    for f in (
        ip_adapter, extra_tokens, shorter_text, negative_within, twice_the_rows, style_tokens, attention_patches,
        momentum, override, compiled, own_forward, answer_cache, block_cache,
    )
}  # fmt: skip


class ToyPatch(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyPatch",
            category="testing",
            inputs=[io.Model.Input("model"), io.Combo.Input("kind", options=list(PATCHES))],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, kind):
        patched = model.clone()
        PATCHES[kind](patched)
        return io.NodeOutput(patched)


class ToyT2IAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="ToyT2IAdapter", category="testing", inputs=[], outputs=[io.ControlNet.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput(build_t2i_adapter())


class ToyPictureRead(io.ComfyNode):
    """What CLIPVisionEncode makes of a picture, as wide as the larger unCLIP model takes it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyPictureRead",
            category="testing",
            inputs=[io.Int.Input("seed")],
            outputs=[io.ClipVisionOutput.Output()],
        )

    @classmethod
    def execute(cls, seed):
        output = comfy.clip_vision.Output()
        output.image_embeds = _randn(1, 1024, seed=seed)
        return io.NodeOutput(output)


class ToyGligen(io.ComfyNode):
    """A GLIGEN for the toy SD1.x model: a gated self-attention in each of its transformer blocks."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyGligen",
            category="testing",
            inputs=[io.Model.Input("model")],
            outputs=[io.Gligen.Output()],
        )

    @classmethod
    def execute(cls, model):
        network = model.model.diffusion_model
        widths = [m.proj_in.out_channels for m in network.modules() if isinstance(m, SpatialTransformer)]
        gated = [comfy.gligen.GatedSelfAttentionDense(width, WIDTH, 2, width // 2) for width in widths]
        gligen = fill(comfy.gligen.Gligen(gated, comfy.gligen.PositionNet(WIDTH, WIDTH), WIDTH), 5)
        for one in gated:
            one.alpha_attn.fill_(1.0)
            one.alpha_dense.fill_(1.0)
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(comfy.model_patcher.ModelPatcher(gligen, device, torch.device("cpu")))


class ToyModelPatch(io.ComfyNode):
    """What ModelPatchLoader makes of a DiffSynth or Z-Image control file, for the toys of these models."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyModelPatch",
            category="testing",
            inputs=[io.Combo.Input("name", options=["qwen_image", "z_image"])],
            outputs=[io.ModelPatch.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, name):
        operations = comfy.ops.manual_cast
        if name == "z_image":
            config = TOYS[name].config
            sizes = {key: config[key] for key in ("dim", "n_heads", "n_kv_heads", "ffn_dim_multiplier", "qk_norm")}
            made = comfy.ldm.lumina.controlnet.ZImage_Control(
                **sizes, n_control_layers=30, refiner_control=True, operations=operations
            )
        else:
            width = TOYS[name].config["num_attention_heads"] * TOYS[name].config["attention_head_dim"]
            made = QwenImageBlockWiseControlNet(4, dim=width, operations=operations)
        device = comfy.model_management.get_torch_device()
        vae = build_vae("sd3")
        if name == "qwen_image":
            encode = vae.encode
            vae.encode = lambda pixels: encode(pixels).unsqueeze(2)  # its own one encodes frames
        return io.NodeOutput(comfy.model_patcher.CoreModelPatcher(fill(made, 6), device, torch.device("cpu")), vae)


NODES = [ToyPatch, ToyT2IAdapter, ToyPictureRead, ToyGligen, ToyModelPatch]
