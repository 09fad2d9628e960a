"""ComfyUI's own text encoders of the transformers, with tokenizers as real as they can be had without a download.

Every encoder is the class that ComfyUI's loader picks, built through `comfy.sd.CLIP`, with few and narrow layers
and seeded weights. Vision towers cannot be narrowed: they are allocated, never written, never run. The output of
every attention is zero, so that a column of the result depends on its own token alone.

Tokenizers: Qwen's, T5's and pile-T5's lie in ComfyUI's folder. The others come inside the checkpoints; here
Gemma's is a small sentencepiece model trained on the spot with Gemma's settings, GPT-OSS's and Mistral's are
byte-level ones of Qwen's words with their own special tokens. The first two go through ComfyUI's own classes;
Mistral's skips the conversion from tekken, which ComfyUI 0.30.0 does with functions that transformers 5 changed.
"""

import importlib
import io
import json
from dataclasses import dataclass, field
from unittest import mock

import torch

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
}
SMALL_T5 = {"d_model": 64, "d_ff": 64, "d_kv": 32, "num_heads": 2, "num_layers": 2}


@dataclass(frozen=True)
class Encoder:
    """module and tokenizer: ComfyUI's; encoder: its class, or a function and its arguments that give one;
    config: of the part `part`; data: the tokenizer data that a checkpoint would bring."""

    module: str
    tokenizer: str
    encoder: str
    part: str
    config: dict
    arguments: dict = field(default_factory=dict)
    data: str = ""
    options: dict = field(default_factory=dict)


def _layers(count):
    return {**SMALL, "num_hidden_layers": count}


_CLIP_L = {"clip_l_model_config": {"num_hidden_layers": 3, "intermediate_size": 64}}
_GEMMA = {**SMALL, "vocab_size": 600}
_LENS = {**SMALL, "head_dim": 64, "num_local_experts": 4, "num_experts_per_tok": 2}
_T5_ALONE = {"clip_l": False, "clip_g": False, "llama": False}  # as ComfyUI loads a T5 file for HiDream
_BERT = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
ENCODERS = {
    "flux2": Encoder("flux", "Flux2Tokenizer", "flux2_te", "mistral3_24b", _layers(30), data="mistral"),
    "flux2_klein": Encoder("flux", "KleinTokenizer", "klein_te", "qwen3_4b", _layers(28)),
    "flux2_klein_8b": Encoder(
        "flux", "KleinTokenizer8B", "klein_te", "qwen3_8b", _layers(28), {"model_type": "qwen3_8b"}
    ),
    "lumina2": Encoder("lumina2", "LuminaTokenizer", "te", "gemma2_2b", _GEMMA, data="gemma"),
    "lumina2_gemma3": Encoder(
        "lumina2", "NTokenizer", "te", "gemma3_4b", _GEMMA, {"model_type": "gemma3_4b"}, "gemma"
    ),
    "ernie_image": Encoder("ernie", "ErnieTokenizer", "te", "ministral3_3b", SMALL, data="mistral"),
    "z_image": Encoder("z_image", "ZImageTokenizer", "te", "qwen3_4b", SMALL),
    "qwen_image": Encoder("qwen_image", "QwenImageTokenizer", "te", "qwen25_7b", SMALL),
    "longcat": Encoder("longcat_image", "LongCatImageTokenizer", "te", "qwen25_7b", SMALL),
    "ovis": Encoder("ovis", "OvisTokenizer", "te", "qwen3_2b", SMALL),
    "omnigen2": Encoder("omnigen2", "Omnigen2Tokenizer", "te", "qwen25_3b", SMALL),
    "boogu": Encoder("boogu", "BooguTokenizer", "te", "qwen3vl_8b", SMALL),
    "kandinsky5": Encoder("kandinsky5", "Kandinsky5TokenizerImage", "te", "qwen25_7b", SMALL, options=_CLIP_L),
    "hunyuan_image": Encoder(
        "hunyuan_image", "HunyuanImageTokenizer", "te", "qwen25_7b", _layers(4), {"byt5": False}
    ),
    "ideogram4": Encoder("ideogram4", "Ideogram4Tokenizer", "te", "qwen3vl_8b", _layers(36)),
    "ideogram4_vision": Encoder(
        "ideogram4", "Ideogram4Qwen3VLTokenizer", "te_qwen3vl", "qwen3vl_8b", _layers(36)
    ),
    "joyimage": Encoder("joyimage", "JoyImageTokenizer", "te", "qwen3vl_8b", SMALL),
    "krea2": Encoder("krea2", "Krea2Tokenizer", "te", "qwen3vl_4b", _layers(36)),
    "lens": Encoder(
        "gpt_oss", "LensTokenizer", "lens_te", "gpt_oss", {}, data="gpt_oss",
        options={"gpt_oss_config": {**_LENS, "vocab_size": 152000}, "selected_layers": (0, 1)},
    ),
    "mage_flow": Encoder("mage_flow", "MageFlowTokenizer", "te", "qwen3vl_4b", SMALL),
    "flux_dev": Encoder("flux", "FluxTokenizer", "flux_clip", "t5xxl", SMALL_T5, options=_CLIP_L),
    "chroma": Encoder("pixart_t5", "PixArtTokenizer", "pixart_te", "t5xxl", SMALL_T5),
    "auraflow": Encoder("aura_t5", "AuraT5Tokenizer", "AuraT5Model", "pile_t5xl", SMALL_T5),
    "cosmos_predict2": Encoder("cosmos", "CosmosT5Tokenizer", "te", "t5xxl", SMALL_T5),
    "hidream": Encoder("hidream", "HiDreamTokenizer", "hidream_clip", "t5xxl", SMALL_T5, _T5_ALONE),
    "hunyuan_dit": Encoder(
        "hydit", "HyditTokenizer", "HyditModel", "hydit_clip", _BERT, data="mt5",
        options={"mt5xl_model_config": SMALL_T5},
    ),
}  # fmt: skip
ANIMA = Encoder("anima", "AnimaTokenizer", "te", "qwen3_06b", SMALL)  # whose text axis its model makes
# how many times "very detailed, " still fits
UNCUT = {name: 180 for name in ENCODERS} | {"lens": 80, "longcat": 120, "hidream": 30, "hunyuan_dit": 120}


def build(name):
    """The CLIP object of one of `ENCODERS`. Call it inside inference mode, where ComfyUI makes them."""
    import comfy.sd
    from comfy.supported_models_base import ClipTarget

    made = ANIMA if name == "anima" else ENCODERS[name]
    module = importlib.import_module(f"comfy.text_encoders.{made.module}")
    encoder = getattr(module, made.encoder)
    if not isinstance(encoder, type):
        encoder = encoder(**made.arguments)
    options = {"dtype": torch.float32, f"{made.part}_model_config": made.config, **made.options}
    data = {"": dict, "gemma": _gemma, "gpt_oss": _gpt_oss, "mistral": dict, "mt5": _mt5}[made.data]()
    target = ClipTarget(getattr(module, made.tokenizer), encoder)
    weights = [_unloaded(encoder(dtype=torch.float32, model_options=options))] if made.part == "gpt_oss" else []
    mistral = importlib.import_module("comfy.text_encoders.flux")
    with _mistral(mistral) if made.data == "mistral" else mock.MagicMock():
        clip = comfy.sd.CLIP(target, model_options=options, tokenizer_data=data, parameters=1, state_dict=weights)
    fill(clip.cond_stage_model)
    return clip


def fill(model):
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        if ".visual." in name:
            continue
        outputs = ("o_proj", "SelfAttention.o", "self_attn.out_proj", "attention.output.dense")
        if name.rsplit(".", 1)[0].endswith(outputs):
            p.zero_()
        else:
            p.copy_(torch.randn(p.shape, generator=generator) * (1 if p.ndim < 2 else 0.2))


def _unloaded(model):
    """Weights for mixed-precision layers, which have none before they are loaded."""
    found = {}
    for name, module in model.gpt_oss.transformer.named_modules():
        if hasattr(module, "in_features") and getattr(module, "weight", None) is None:
            experts = [module.num_experts] if hasattr(module, "num_experts") else []
            found[f"{name}.weight"] = torch.empty(*experts, module.out_features, module.in_features)
    return found


def _folder():
    import comfy.text_encoders.flux as flux

    return f"{flux.__file__.rsplit('/', 1)[0]}/qwen25_tokenizer"


def _gpt_oss():
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer.from_pretrained(_folder()).backend_tokenizer
    tokenizer.add_special_tokens(["<|start|>", "<|message|>", "<|channel|>", "<|end|>"])
    return {"tokenizer_json": torch.tensor(list(tokenizer.to_str().encode()), dtype=torch.uint8)}


def _mistral(module):
    """What ComfyUI's loader of tekken data gives where it works: Mistral's special tokens, then the words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    special += [f"<SPECIAL_{i}>" for i in range(len(special), 20)]
    with open(f"{_folder()}/vocab.json", encoding="utf-8") as file:
        words = sorted((vocabulary := json.load(file)), key=vocabulary.get)[:100000]
    with open(f"{_folder()}/merges.txt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().splitlines() if line and not line.startswith("#")]
    known = set(words)
    merges = [pair for pair in merges if known.issuperset((*pair, "".join(pair)))]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(special + words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    ready = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    return mock.patch.multiple(
        module,
        load_mistral_tokenizer=lambda data: {},
        MistralTokenizerClass=mock.Mock(from_pretrained=lambda path: ready),
    )


def _mt5():
    return {"mt5xl.spiece_model": _gemma()["spiece_model"]}


def _gemma():
    import sentencepiece

    words = "a photo of cat and dog fox bird CAT Dog next to very detailed the color an image shape owl naïve"
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words, "a photo of a cat and a dog, a fox and a bird, very detailed"] * 20),
        model_writer=model, model_type="bpe", vocab_size=420, byte_fallback=True, add_dummy_prefix=False,
        remove_extra_whitespaces=False, normalization_rule_name="identity", split_digits=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return {"spiece_model": torch.tensor(list(model.getvalue()), dtype=torch.uint8)}
