"""Subjects in the prompts of language-model text encoders, by ComfyUI's own tokenizers and templates.

The language models themselves are too large to stand here; what ComfyUI does around them is real.
"""

import functools
import importlib

import pytest
import torch

# name -> (module, tokenizer class, encoder class, key in the tokens, layers that the encoder stacks)
ENCODERS = {
    "z_image": ("z_image", "ZImageTokenizer", "ZImageTEModel", "qwen3_4b", 0),
    "qwen_image": ("qwen_image", "QwenImageTokenizer", "QwenImageTEModel", "qwen25_7b", 0),
    "flux2": ("flux", "KleinTokenizer", "Flux2TEModel", "qwen3_4b", 3),
    "omnigen2": ("omnigen2", "Omnigen2Tokenizer", "Omnigen2Model", "qwen25_3b", 0),
    "kandinsky5": ("kandinsky5", "Kandinsky5TokenizerImage", "Kandinsky5TEModel", "qwen25_7b", 0),
    "hunyuan_image": ("hunyuan_image", "HunyuanImageTokenizer", "HunyuanImageTEModel", "qwen25_7b", 0),
    "krea2": ("krea2", "Krea2Tokenizer", "Krea2TEModel", "qwen3vl_4b", 12),
}


class Transformer(torch.nn.Module):
    """Stands for the language model itself, gigabytes of it: one vector per token, which names the token."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def encode_token_weights(self, pairs):
        ids = torch.tensor([[float(token) for token, *_ in pairs[0]]])
        out = ids[..., None]
        if self.layers:
            out = out[:, None].repeat(1, self.layers, 1, 1)
        return out, None, {"attention_mask": torch.ones_like(ids)}


class Clip:
    """ComfyUI's tokenizer, and its encoder class around the stand-in: the template's handling is its own."""

    def __init__(self, name):
        module, tokenizer, encoder, key, layers = ENCODERS[name]
        module = importlib.import_module(f"comfy.text_encoders.{module}")
        self.tokenizer = getattr(module, tokenizer)()
        self.cond_stage_model = object.__new__(getattr(module, encoder))
        torch.nn.Module.__init__(self.cond_stage_model)
        self.cond_stage_model.clip_name = self.cond_stage_model.clip = key
        setattr(self.cond_stage_model, key, Transformer(layers))
        self.cond_stage_model.clip_l = Transformer(0)
        self.cond_stage_model.clip_l.encode_token_weights = lambda pairs: (None, torch.zeros(1, 8))
        self.cond_stage_model.byt5_small = None

    def tokenize(self, text, return_word_ids=False):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids)

    def encode_from_tokens_scheduled(self, tokens):
        return [[self.cond_stage_model.encode_token_weights(tokens)[0], {}]]


@pytest.fixture(scope="module")
def clips(comfy):
    return functools.cache(Clip)


PROMPTS = {
    "plain": ("a photo of a cat and a dog", {"cat": " cat", "dog": " dog"}),
    "upper case": ("A CAT and a Dog", {"cat": " CAT", "dog": " Dog"}),
    "in the template too": ("the color of an image and a shape", {"color": " color", "shape": " shape"}),
    "first word": ("cat next to a dog", {"cat": "cat", "dog": " dog"}),
    "long": ("a cat, " + "very detailed, " * 120 + "and a dog", {"cat": " cat", "dog": " dog"}),
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", ENCODERS)
def test_each_subject_owns_its_columns(comfy, clips, name, prompt):
    text, wanted = PROMPTS[prompt]
    tokens = comfy.pack("gsn.host.tokens")
    found = tokens.encode_with_subjects(clips(name), text, ", ".join(wanted))
    (stream,) = found.subjects.streams
    assert stream.length == found.conditioning[0][0].shape[1]
    spelled = {item.label: [stream.pieces[p] for p in item.tokens[stream.name]] for item in found.subjects.items}
    assert spelled == {label: [piece.replace(" ", "▁")] for label, piece in wanted.items()}
    words = "".join(stream.pieces[p] for p in stream.words).replace("▁", " ").strip()
    assert words == text  # nothing of the template


@pytest.mark.parametrize("name", ENCODERS)
def test_the_columns_hold_the_subjects_tokens(clips, comfy, name):
    """Only the subject's own column differs when its word is another: the stand-in's vectors name their tokens."""
    tokens = comfy.pack("gsn.host.tokens")
    cat = tokens.encode_with_subjects(clips(name), "a photo of a cat and a dog", "cat")
    fox = tokens.encode_with_subjects(clips(name), "a photo of a bird and a dog", "bird")
    (stream,) = cat.subjects.streams
    differs = (cat.conditioning[0][0] != fox.conditioning[0][0]).any(-1)[0].nonzero().flatten().tolist()
    assert differs == list(cat.subjects.items[0].tokens[stream.name])
