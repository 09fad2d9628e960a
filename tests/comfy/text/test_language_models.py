"""Subjects in the prompts of the transformers, by ComfyUI's own tokenizers, templates and encoders (see
text_encoders.py for what of them is real)."""

import functools

import pytest
import torch

from .text_encoders import ENCODERS, UNCUT, build, fill

PROMPTS = {
    "plain": ("a photo of a cat and a dog", {"cat": "cat", "dog": "dog"}),
    "upper case": ("A CAT and a Dog", {"cat": "CAT", "dog": "Dog"}),
    "in the template too": ("the color of an image and a shape", {"color": "color", "shape": "shape"}),
    "first word": ("cat next to a dog", {"cat": "cat", "dog": "dog"}),
    "emphasis": ("(a cat:1.3), ((dog)) and a \\(fox\\)", {"cat": "cat", "dog": "dog", "fox": "fox"}),
    "second of its kind": ("a cat, a dog and (a cat:1.2)", {"dog": "dog", "cat#2": "cat"}),
    "other letters": ("猫, 𓀀 and a cat", {"cat": "cat"}),
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
    expected = [word.lower() if name == "hunyuan_dit" else word for word in wanted.values()]
    assert [word.strip("▁(),.:") for word in spelled] == expected
    columns = [item.tokens[stream.name][0] for item in found.subjects.items]
    assert columns == sorted(columns)
    fold = comfy.pack("gsn.text.prompt").fold
    words = fold("".join(stream.pieces[p] for p in stream.words).replace("▁", " "))
    if prompt in ("plain", "upper case", "in the template too", "first word", "long"):
        assert words == fold(text)  # nothing of the template


@pytest.mark.parametrize("name", ENCODERS)
def test_the_columns_hold_the_subjects_tokens(clips, comfy, name):
    """Only the subject's own column differs when its word is another."""
    encode = comfy.pack("gsn.host.tokens").encode_with_subjects
    cat = encode(clips(name), "a photo of a cat and a dog", "cat, dog")
    bird = encode(clips(name), "a photo of a bird and a dog", "bird, dog")
    (stream,) = cat.subjects.streams
    differs = (cat.conditioning[0][0] != bird.conditioning[0][0]).any(-1)[0].nonzero().flatten().tolist()
    assert differs == list(cat.subjects.items[0].tokens[stream.name])
    assert cat.subjects.items[1] == bird.subjects.items[1]
    assert cat.conditioning[0][0].isfinite().all()


@pytest.mark.parametrize("name", [n for n in ENCODERS if ENCODERS[n].part not in ("t5xxl", "hydit_clip")])
def test_a_word_of_several_bytes(clips, comfy, name):
    """Byte-level and byte-fallback vocabularies spell it in pieces that are no characters."""
    found = comfy.pack("gsn.host.tokens").encode_with_subjects(clips(name), "a cat, 𓃠 and a dog", "cat, 𓃠, dog")
    (stream,) = found.subjects.streams
    cat, sign, dog = (item.tokens[stream.name] for item in found.subjects.items)
    assert len(sign) > 1 and list(sign) == list(range(sign[0], sign[0] + len(sign)))
    assert cat[-1] < sign[0] and sign[-1] < dog[0]
    assert not any(char.isascii() and char.isalpha() for p in sign for char in stream.pieces[p])


def test_a_word_that_t5_cannot_spell(clips, comfy):
    with pytest.raises(ValueError, match="naïve.*no token"):
        comfy.pack("gsn.host.tokens").encode_with_subjects(clips("chroma"), "a naïve cat", "naïve")


@pytest.mark.parametrize("name", ["lens", "longcat", "hidream"])
def test_a_word_behind_the_end_of_what_the_encoder_reads(clips, comfy, name):
    encode = comfy.pack("gsn.host.tokens").encode_with_subjects
    text = "a cat, " + "very detailed, " * 250 + "and a dog"
    found = encode(clips(name), text, "cat")
    (stream,) = found.subjects.streams
    assert stream.length == found.conditioning[0][0].shape[1]
    assert [stream.pieces[p] for p in found.subjects.items[0].tokens[stream.name]] == ["▁cat"]
    assert stream.pieces[stream.words[-1]] in ("▁very", "▁detailed", "detailed", ",")
    with pytest.raises(ValueError, match="'dog'.*reads"):
        encode(clips(name), text, "cat, dog")


@pytest.mark.parametrize("name", ["qwen_image", "longcat", "joyimage"])
def test_a_template_of_the_users_own_is_refused_where_part_of_it_is_left_out(clips, comfy, name):
    text = "<|im_start|>system\n" + "Draw this well. " * 20 + "<|im_end|>\n<|im_start|>user\na cat<|im_end|>\n"
    with pytest.raises(ValueError, match="template of its own"):
        comfy.pack("gsn.host.tokens").encode_with_subjects(clips(name), text, "cat")


@pytest.mark.parametrize("name", ["boogu", "ideogram4"])
def test_a_template_of_the_users_own_is_text_where_all_of_it_is_encoded(clips, comfy, name):
    text = "<|im_start|>system\nDraw a dog.<|im_end|>\n<|im_start|>user\na cat<|im_end|>\n"
    found = comfy.pack("gsn.host.tokens").encode_with_subjects(clips(name), text, "dog, cat")
    (stream,) = found.subjects.streams
    assert [stream.pieces[i.tokens[stream.name][0]] for i in found.subjects.items] == ["▁dog", "▁cat"]


def test_hidream_without_t5(comfy):
    with torch.inference_mode():
        clip = build("hidream")
        clip.cond_stage_model.t5xxl = None
        with pytest.raises(ValueError, match="t5.*not loaded"):
            comfy.pack("gsn.host.tokens").encode_with_subjects(clip, "a cat", "cat")


def test_anima_has_a_column_for_each_t5_token(comfy):
    """Its encoder gives Qwen's columns; the model's adapter, real here, makes of them one for each T5 token."""
    from comfy.ldm.anima.model import LLMAdapter
    from comfy.ops import manual_cast

    encode = comfy.pack("gsn.host.tokens").encode_with_subjects
    with torch.inference_mode():
        adapter = LLMAdapter(64, 64, 64, 2, 2, operations=manual_cast, dtype=torch.float32)
        fill(adapter)
        found = []
        for animal in ("cat", "bird"):
            clip = build("anima")
            made = encode(clip, f"a photo of a ({animal}:1.2) and a donut", f"{animal}, donut")
            ((tensor, options),) = made.conditioning
            found.append((made, adapter(tensor * 0, options["t5xxl_ids"][None]), options))
    (cat, one, options), (_, other, _) = found
    (stream,) = cat.subjects.streams
    assert stream.name == "t5" and stream.length == one.shape[1] == len(options["t5xxl_ids"])
    assert cat.conditioning[0][0].shape[1] != stream.length  # Qwen cuts the prompt otherwise
    differs = (one != other).any(-1)[0].nonzero().flatten().tolist()
    assert differs == list(cat.subjects.items[0].tokens["t5"])
    assert [float(options["t5xxl_weights"][p]) for p in differs] == pytest.approx([1.2])
    assert len(cat.subjects.items[1].tokens["t5"]) == 2
