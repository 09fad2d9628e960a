"""Subjects in the prompts of the transformers, by ComfyUI's own tokenizers, templates and encoders (see
text_encoders.py for what of them is real)."""

import functools

import pytest
import torch

from .text_encoders import ENCODERS, UNCUT, build

PROMPTS = {
    "plain": ("a photo of a cat and a dog", {"cat": "cat", "dog": "dog"}),
    "upper case": ("A CAT and a Dog", {"cat": "CAT", "dog": "Dog"}),
    "in the template too": ("the color of an image and a shape", {"color": "color", "shape": "shape"}),
    "first word": ("cat next to a dog", {"cat": "cat", "dog": "dog"}),
    "emphasis": ("(a cat:1.3), ((dog)) and a \\(fox\\)", {"cat": "cat", "dog": "dog", "fox": "fox"}),
    "second of its kind": ("a cat, a dog and (a cat:1.2)", {"dog": "dog", "cat#2": "cat"}),
    "other letters": ("a naïve cat, 猫 and 𓀀", {"naïve": "naïve", "cat": "cat"}),
    "long": ("a cat, {very}and a dog", {"cat": "cat", "dog": "dog"}),
}


@pytest.fixture(scope="module")
def clips(comfy):
    with torch.inference_mode():
        yield functools.cache(build)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", ENCODERS)
def test_each_subject_owns_its_columns(comfy, clips, name, prompt):
    text, wanted = PROMPTS[prompt]
    text = text.replace("{very}", "very detailed, " * UNCUT[name])
    found = comfy.pack("gsn.host.tokens").encode_with_subjects(clips(name), text, ", ".join(wanted))
    (stream,) = found.subjects.streams
    assert stream.length == found.conditioning[0][0].shape[1]
    spelled = ["".join(stream.pieces[p] for p in item.tokens[stream.name]) for item in found.subjects.items]
    assert [word.strip("▁(),.:") for word in spelled] == list(wanted.values())
    columns = [item.tokens[stream.name][0] for item in found.subjects.items]
    assert columns == sorted(columns)
    fold = comfy.pack("gsn.prompt").fold
    words = fold("".join(stream.pieces[p] for p in stream.words))
    if prompt not in ("emphasis", "second of its kind", "other letters"):
        assert words == fold(text)  # nothing of the template


@pytest.mark.parametrize("name", ENCODERS)
def test_the_columns_hold_the_subjects_tokens(clips, comfy, name):
    """Only the subject's own column differs when its word is another."""
    encode = comfy.pack("gsn.host.tokens").encode_with_subjects
    cat = encode(clips(name), "a photo of a cat and a dog", "cat, dog")
    fox = encode(clips(name), "a photo of a fox and a dog", "fox, dog")
    (stream,) = cat.subjects.streams
    differs = (cat.conditioning[0][0] != fox.conditioning[0][0]).any(-1)[0].nonzero().flatten().tolist()
    assert differs == list(cat.subjects.items[0].tokens[stream.name])
    assert cat.subjects.items[1] == fox.subjects.items[1]
    assert cat.conditioning[0][0].isfinite().all()
