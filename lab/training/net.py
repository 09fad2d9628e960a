"""The networks, of ComfyUI's own classes, in a form that autograd and torch.compile can go through.

Three things differ from running inside ComfyUI, none of them in the weights: plain torch layers instead of
casting ones,
one explicit softmax attention (fast backward on a CPU, and a place to read the maps from), and a text layer that does
not add in place.
"""

from __future__ import annotations

from functools import lru_cache

import host  # noqa: F401  (puts ComfyUI on sys.path, so it comes first)

# isort: split
import comfy.clip_model as clip_model
import comfy.ldm.modules.attention as attention
import torch
from comfy.ldm.modules.diffusionmodules import mmdit
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.sd1_clip import SD1Tokenizer

UNET_CONFIG = dict(
    image_size=32,
    in_channels=4,
    out_channels=4,
    model_channels=64,
    num_res_blocks=[1, 1],
    channel_mult=[1, 2],
    transformer_depth=[1, 1],
    transformer_depth_middle=1,
    transformer_depth_output=[1, 1, 1, 1],
    context_dim=128,
    num_heads=2,
    num_head_channels=-1,
    use_spatial_transformer=True,
    use_linear_in_transformer=False,
    legacy=False,
    adm_in_channels=None,
    use_temporal_attention=False,
)
MMDIT_CONFIG = dict(
    in_channels=4,
    patch_size=2,  # with 1, ComfyUI 0.30.0 counts the positions wrongly
    depth=4,
    num_blocks=4,
    mlp_ratio=2.0,
    qk_norm="rms",
    context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 128, "out_features": 256}},
)
#: What differs from CLIP-L; the rest of its configuration (positions, EOT, activation) is kept.
TEXT_CONFIG = dict(num_hidden_layers=2, hidden_size=128, num_attention_heads=4, intermediate_size=256)

TOKENIZER = SD1Tokenizer()


class Plain:
    """The layers that ComfyUI's classes ask an ``operations`` namespace for."""

    Linear, Conv2d = torch.nn.Linear, torch.nn.Conv2d
    GroupNorm, LayerNorm = torch.nn.GroupNorm, torch.nn.LayerNorm

    class Embedding(torch.nn.Embedding):
        def forward(self, ids, out_dtype=None):
            return super().forward(ids)

    @staticmethod
    def conv_nd(dims, *args, **kwargs):
        return torch.nn.Conv2d(*args, **kwargs)


#: When a list, the picture's attention to the text appends its probabilities [B, heads, cells, 77] to it: the UNet's
#: at 16x16, the MM-DiT's at 8x8.
captured: list | None = None


def softmax_attention(q, k, v, heads, mask=None, **_):
    """q, k, v [B, N, C] -> [B, N, C]."""
    b, n, c = q.shape
    q, k, v = (t.view(b, -1, heads, c // heads).transpose(1, 2) for t in (q, k, v))
    weights = q @ k.transpose(-1, -2) * (c // heads) ** -0.5
    if mask is not None:
        weights = weights + mask
    weights = weights.softmax(-1)
    if captured is not None and n == 77 + 64:  # joint attention, text first
        captured.append(weights[:, :, 77:, :77])
    elif captured is not None and k.shape[2] == 77 and n == 256:
        captured.append(weights)
    return (weights.to(v.dtype) @ v).transpose(1, 2).reshape(b, n, c)


def text_layer(self, x, mask=None, optimized_attention=None):
    x = x + self.self_attn(self.layer_norm1(x), mask, softmax_attention)
    return x + self.mlp(self.layer_norm2(x))


attention.optimized_attention = attention.optimized_attention_masked = softmax_attention
mmdit.optimized_attention = softmax_attention
clip_model.CLIPLayer.forward = text_layer


@lru_cache(maxsize=4096)
def tokens(text: str) -> list[int]:
    """77 true CLIP token ids."""
    (chunk,) = TOKENIZER.tokenize_with_weights(text)["l"]
    return [token for token, _ in chunk]


class Model(torch.nn.Module):
    """``network`` and text encoder, with a token table of the known ids only (the last row: unknown words)."""

    def __init__(self, ids: list[int], network: torch.nn.Module):
        super().__init__()
        self.ids = list(ids)
        self.network = network
        config = dict(TEXT_CONFIG, hidden_act="quick_gelu", max_position_embeddings=77, eos_token_id=49407)
        self.text = clip_model.CLIPTextModel_(config, torch.float32, "cpu", Plain)
        self.text.embeddings.token_embedding = Plain.Embedding(len(ids) + 1, TEXT_CONFIG["hidden_size"])
        for embedding in (self.text.embeddings.token_embedding, self.text.embeddings.position_embedding):
            torch.nn.init.normal_(embedding.weight, std=0.05)

    def rows(self, texts: list[str]) -> torch.Tensor:
        """[B, 77] rows of the compact table."""
        return torch.stack([self._row(text) for text in texts])

    @lru_cache(maxsize=4096)  # noqa: B019  (a script builds one or two models)
    def _row(self, text: str) -> torch.Tensor:
        place = {token: row for row, token in enumerate(self.ids)}
        return torch.tensor([place.get(token, len(self.ids)) for token in tokens(text)])

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """[B, 77] -> [B, 77, 128]; neither model uses the pooled output, which wants true ids."""
        return self.text(rows)[0]


class UNet(Model):
    def __init__(self, ids: list[int]):
        super().__init__(ids, UNetModel(**UNET_CONFIG, dtype=torch.float32, device="cpu", operations=Plain))

    def eps(self, z: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """z [B, 4, h, w] on the variance-preserving scale, t [B] in 0..999."""
        return self.network._forward(z, t, context, transformer_options={})


class MMDiT(Model):
    def __init__(self, ids: list[int]):
        network = mmdit.OpenAISignatureMMDITWrapper(**MMDIT_CONFIG, dtype=torch.float32, device="cpu", operations=Plain)
        super().__init__(ids, network)

    def velocity(self, z: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """z [B, 4, h, w] = (1 - t / 1000) picture + t / 1000 noise; -> noise - picture."""
        return self.network(z, t, context)


def alphas() -> torch.Tensor:
    """Cumulative products of SD1.x's scaled-linear schedule, [1000]."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()
