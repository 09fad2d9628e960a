"""One toy of each of the remaining families."""

from functools import partial

import comfy.ldm.anima.model
import comfy.ldm.ernie.model
import comfy.ldm.hunyuan_video.model
import comfy.ldm.hydit.attn_layers
import comfy.ldm.pixart.blocks
import torch

from . import known
from .toy import Toy


def masked(generator, columns):
    """OmniGen 2 and Boogu count their tokens by the mask."""
    return {"attention_mask": torch.ones(1, columns, dtype=torch.long)}


def pooled(generator, columns):
    return {"pooled_output": torch.randn(1, 32, generator=generator)}


_AURAFLOW = {"dim": 64, "n_layers": 3, "n_double_layers": 2, "n_heads": 2, "global_conddim": 64, "cond_seq_dim": 32}
_OMNIGEN2 = {
    "image_model": "omnigen2",
    "hidden_size": 48,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "num_attention_heads": 4,
    "num_kv_heads": 2,
    "multiple_of": 16,
    "axes_dim_rope": [4, 4, 4],
    "text_feat_dim": 32,
}
_BOOGU = {key: value for key, value in _OMNIGEN2.items() if key != "text_feat_dim"} | {
    "image_model": "boogu",
    "num_double_stream_layers": 2,
    "instruction_feat_dim": 32,
}
_KREA2 = {
    "image_model": "krea2",
    "features": 64,
    "tdim": 32,
    "txtdim": 16,
    "heads": 4,
    "kvheads": 2,
    "multiplier": 2,
    "layers": 2,
    "channels": 16,
    "patch": 2,
    "txtlayers": 2,
    "txtheads": 2,
    "txtkvheads": 2,
}
_KANDINSKY5 = {
    "image_model": "kandinsky5",
    "in_text_dim": 32,
    "in_text_dim2": 32,
    "time_dim": 32,
    "model_dim": 64,
    "ff_dim": 128,
    "visual_embed_dim": 64,
    "num_text_blocks": 1,
    "num_visual_blocks": 2,
    "axes_dims": (8, 12, 12),
    "rope_scale_factor": (1.0, 1.0, 1.0),
}
_HUNYUAN_IMAGE = {
    "image_model": "hunyuan_video",
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "vec_in_dim": None,
    "context_in_dim": 32,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 1,
    "axes_dim": [16, 16],
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": False,
    "byt5": True,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}


def _glyphs_mapper(mapper=comfy.ldm.hunyuan_video.model.ByT5Mapper, **sizes):
    return mapper(**sizes | {"in_dim": 32, "hidden_dim": 32, "out_dim": 32})


_SMALL_GLYPHS = (comfy.ldm.hunyuan_video.model, "ByT5Mapper", _glyphs_mapper)
_IDEOGRAM4 = {
    "image_model": "ideogram4",
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "intermediate_size": 64,
    "adaln_dim": 32,
    "llm_features_dim": 32,
    "mrope_section": (6, 5, 5),
}
_LENS = {
    "image_model": "lens",
    "num_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "enc_hidden_dim": 16,
    "axes_dims_rope": (8, 12, 12),
    "selected_layer_index": (0, 1),
}
_JOYIMAGE = {
    "image_model": "joyimage",
    "hidden_size": 64,
    "num_attention_heads": 2,
    "text_dim": 32,
    "num_layers": 2,
    "rope_dim_list": [8, 12, 12],
}
_COSMOS = {
    "image_model": "cosmos_predict2",
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 2,
    "num_heads": 2,
    "crossattn_emb_channels": 32,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
}
_ANIMA = _COSMOS | {"image_model": "anima"}
_ADAPTER = {"source_dim": 32, "target_dim": 32, "model_dim": 32, "num_layers": 1, "num_heads": 2}
_SMALL_ADAPTER = (comfy.ldm.anima.model, "LLMAdapter", partial(comfy.ldm.anima.model.LLMAdapter, **_ADAPTER))
_HIDREAM = {
    "image_model": "hidream",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "caption_channels": [32, 32],
    "text_emb_dim": 32,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "axes_dims_rope": [16, 8, 8],
    "max_resolution": [128, 128],
    "llama_layers": [0, 1, 1, 1],
}
_ERNIE = {
    "image_model": "ernie",
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_layers": 2,
    "ffn_hidden_size": 128,
    "text_in_dim": 32,
    "rope_axes_dim": (8, 12, 12),
}
_PIXART_SIGMA = {
    "image_model": "pixart_sigma",
    "num_heads": 4,
    "patch_size": 2,
    "hidden_size": 48,
    "in_channels": 4,
    "depth": 3,
    "caption_channels": 32,
    "micro_condition": False,
}
_PIXART_ALPHA = _PIXART_SIGMA | {"image_model": "pixart_alpha", "micro_condition": True}
_HUNYUAN_DIT = {
    "image_model": "hydit",
    "hidden_size": 64,
    "depth": 4,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "text_states_dim": 32,
    "text_states_dim_t5": 32,
}
_HUNYUAN_DIT1 = _HUNYUAN_DIT | {"image_model": "hydit1", "size_cond": True, "use_style_cond": True}
_PIXELDIT = {
    "image_model": "pixeldit_t2i",
    "num_groups": 2,
    "hidden_size": 64,
    "pixel_hidden_size": 8,
    "pixel_attn_hidden_size": 32,
    "pixel_num_groups": 2,
    "patch_depth": 2,
    "pixel_depth": 1,
    "txt_embed_dim": 32,
}


def t5_ids(generator, columns):
    return {"t5xxl_ids": torch.arange(columns, dtype=torch.int), "t5xxl_weights": torch.ones(columns)}


def llama(generator, columns):
    """Llama's two layers of ten tokens beside T5's text."""
    return {"conditioning_llama3": torch.randn(1, 2, 10, 32, generator=generator), **pooled(generator, columns)}


def byt5(generator, columns):
    """Twelve tokens of the words to be written into the picture, which follow the text."""
    return {"conditioning_byt5small": torch.randn(1, 12, 32, generator=generator)}


def mt5(generator, columns):
    """mT5's 256 columns, the last ones empty as BERT's are, beside BERT's text."""
    return {
        "attention_mask": (torch.arange(columns) < columns - 7)[None].long(),
        "conditioning_mt5xl": torch.randn(1, 256, 32, generator=generator),
        "attention_mask_mt5xl": (torch.arange(256) < 30)[None].long(),
    }


def behind_bert(text):
    return text + 256


_PIXART = {"cross": int, "silent": comfy.ldm.pixart.blocks}
_HYDIT = {"streams": (("bert", 77),), "extras": mt5, "cross": behind_bert, "silent": comfy.ldm.hydit.attn_layers}

TOYS = {
    "auraflow": Toy(known.AuraFlow, _AURAFLOW, 32, 3, text_at=lambda text: (8, 8 + text)),
    "omnigen2": Toy(known.Omnigen2, _OMNIGEN2, 32, 2, (("qwen2.5", 20),), masked),
    "boogu": Toy(known.Boogu, _BOOGU, 32, 4, (("qwen3", 20),), masked),
    "krea2": Toy(known.Krea2, _KREA2, 32, 2, (("qwen3", 20),), neutral_scale=0.0),
    "kandinsky5": Toy(known.Kandinsky5Image, _KANDINSKY5, 32, 2, (("qwen2.5", 20),), pooled, cross=int),
    "hunyuan_image": Toy(
        known.HunyuanImage21,
        _HUNYUAN_IMAGE,
        32,
        3,
        (("qwen2.5", 20),),
        byt5,
        lambda text: (0, text + 12),
        patch=1,
        smaller=_SMALL_GLYPHS,
    ),
    "ideogram4": Toy(known.Ideogram4, _IDEOGRAM4, 32, 2, (("qwen3", 20),), patch=1),
    "lens": Toy(known.Lens, _LENS, 32, 2, (("gpt-oss", 20),), text_at="behind", patch=1),
    "joyimage": Toy(known.JoyImage, _JOYIMAGE, 32, 2, (("qwen3", 20),), text_at="behind"),
    "cosmos_predict2": Toy(known.CosmosT2IPredict2, _COSMOS, 32, 2, cross=int),
    "anima": Toy(known.Anima, _ANIMA, 32, 2, extras=t5_ids, cross=lambda text: 512, smaller=_SMALL_ADAPTER),
    "hidream": Toy(known.HiDream, _HIDREAM, 32, 4, extras=llama, text_at="behind"),
    "ernie_image": Toy(
        known.ErnieImage, _ERNIE, 32, 2, (("ministral", 20),), text_at="behind", patch=1, silent=comfy.ldm.ernie.model
    ),
    "pixart_alpha": Toy(known.PixArtAlpha, _PIXART_ALPHA, 32, 3, **_PIXART),
    "pixart_sigma": Toy(known.PixArtSigma, _PIXART_SIGMA, 32, 3, **_PIXART),
    "hunyuan_dit": Toy(known.HunyuanDiT, _HUNYUAN_DIT, 32, 4, **_HYDIT),
    "hunyuan_dit1": Toy(known.HunyuanDiT1, _HUNYUAN_DIT1, 32, 4, **_HYDIT),
    "pixeldit": Toy(known.PixelDiTT2I, _PIXELDIT, 32, 2, (("gemma2", 20),), patch=16),
}
