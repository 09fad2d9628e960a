"""GSNSubjects inside ComfyUI: its own tokenizers, encoders and executor."""

import pytest
import torch
from safetensors.torch import save_file

PROMPTS = [
    "a photo of a (red cat:1.3) and a dog",
    "very " * 80 + "a zebra BREAK and a giraffe",
    r"a \(cat\), ((dog))",
]
FAMILIES = ["sd15", "sd2", "sdxl", "sd3"]


def encode(comfy, clip, text, names=""):
    return comfy.pack("gsn.host.tokens").encode_with_subjects(clip, text, names)


def pieces(subjects, number, stream="clip"):
    line = next(s for s in subjects.streams if s.name == stream)
    return [line.pieces[p] for p in subjects.items[number].tokens[stream]]


def bare_clip(comfy, tokenizer, widths, folder=None):
    """A CLIP of real tokenizers without encoders: `widths` gives each encoder's embedding width."""

    class Encoder:
        def __init__(self, width):
            self.transformer, self.weight = self, torch.zeros(1, width)

        def get_input_embeddings(self):
            return self

    class Bare:
        def tokenize(self, text, return_word_ids=False):
            return self.tokenizer.tokenize_with_weights(text, return_word_ids)

    clip = Bare()
    clip.tokenizer = tokenizer(embedding_directory=folder)
    clip.cond_stage_model = type("Encoders", (), {name: Encoder(width) for name, width in widths.items()})()
    return clip


def located(comfy, clip, text, names):
    read = comfy.pack("gsn.text.prompt").read_prompt(text)
    choices, _ = comfy.pack("gsn.text.parse").choose_subjects(read, names)
    streams = comfy.pack("gsn.host.tokens").read_tokens(clip, read)
    return comfy.pack("gsn.text.locate").locate_subjects(read, choices, streams)[0]


@pytest.fixture(scope="module")
def clips(comfy):
    return {family: comfy.clip(family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", PROMPTS)
def test_the_conditioning_is_clip_text_encodes(comfy, clips, family, text):
    clip = clips[family]
    with torch.inference_mode():
        ours = encode(comfy, clip, text.replace("zebra", "[zebra]"))
        (stock,) = comfy.nodes.CLIPTextEncode().encode(clip, text)
    assert len(ours.conditioning) == len(stock)
    for (tensor, options), (expected, stock_options) in zip(ours.conditioning, stock, strict=True):
        assert torch.equal(tensor, expected)
        assert set(options) - set(stock_options) == {"gsn"} and options["gsn"] is ours.subjects
        assert torch.equal(options["pooled_output"], stock_options["pooled_output"])
        assert tensor.shape[1] == ours.subjects.text_length


def test_clip_hooks_with_a_schedule(comfy, clips):
    """Scheduled CLIP hooks give one entry per stretch of the run; each carries the subjects."""
    from comfy import hooks

    group = hooks.create_hook_lora(lora={}, strength_model=1.0, strength_clip=1.0)
    frames = hooks.HookKeyframeGroup()
    frames.add(hooks.HookKeyframe(strength=1.0, start_percent=0.0))
    frames.add(hooks.HookKeyframe(strength=0.5, start_percent=0.5))
    group.set_keyframes_on_hooks(frames)
    clip = clips["sd15"].clone()
    clip.apply_hooks_to_conds = clip.patcher.forced_hooks = group
    clip.use_clip_schedule = True
    with torch.inference_mode():
        ours = encode(comfy, clip, "a cat and a dog").conditioning
        (stock,) = comfy.nodes.CLIPTextEncode().encode(clip, "a cat and a dog")
    assert len(ours) == len(stock) == 2
    for (tensor, options), (expected, stock_options) in zip(ours, stock, strict=True):
        assert torch.equal(tensor, expected) and options["gsn"].labels == ("cat", "dog")
        assert options["clip_start_percent"] == stock_options["clip_start_percent"]
        assert options["hooks"] is group


@pytest.mark.parametrize("family", FAMILIES)
def test_a_subjects_columns_carry_its_word(comfy, clips, family):
    """CLIP reads left to right: another word changes the encoding from its own column on."""
    with torch.inference_mode():
        cat = encode(comfy, clips[family], "a photo of a frog and a cat", "cat")
        dog = encode(comfy, clips[family], "a photo of a frog and a dog", "dog")
    stream = cat.subjects.streams[0]
    changed = (cat.conditioning[0][0] != dog.conditioning[0][0]).any(-1)[0, : stream.length].nonzero()
    assert cat.subjects.items[0].tokens["clip"] == (int(changed[0]),) == (8,)
    assert stream.starts == (0,) and stream.words == tuple(range(1, 9)) and stream.pieces[9] == "<end>"


def test_positions_in_later_chunks(comfy, clips):
    found = encode(comfy, clips["sd15"], PROMPTS[1]).subjects
    assert found.labels == ("zebra", "giraffe") and found.streams[0].starts == (0, 77)
    assert [s.tokens["clip"] for s in found.items] == [(84,), (88,)]


def test_a_quoted_word_and_bytes(comfy, clips):
    text = "a naïve 'dog', CATS and 猫 on a cat's mat"
    found = encode(comfy, clips["sd15"], text, "naïve, dog, cats, 猫, mat").subjects
    assert [pieces(found, i) for i in (0, 1, 2, 4)] == [["na", "ï", "ve"], ["'d", "og"], ["cats"], ["mat"]]
    assert len(found.items[3].tokens["clip"]) == 3


def test_emphasis_is_read_as_comfyui_reads_it(comfy):
    """The letters of our words are those of ComfyUI's weighted segments, whatever the parentheses do."""
    from comfy import sd1_clip as host

    prompt = comfy.pack("gsn.text.prompt")
    for text in (
        *PROMPTS,
        "((a:1.2) b:0.5) c:3",
        "a) (b:1.2) c",
        "(a (b:1.2)",
        "(a:b:1.5)(:2)",
        r"(a\):1.1) \(b:2\)",
        "(a:x)",
    ):
        segments = host.token_weights(host.escape_important(text), 1.0)
        letters = prompt.fold("".join(host.unescape_important(segment) for segment, _ in segments))
        assert "".join(word.key for word in prompt.read_prompt(text).words) == letters, text


def test_embeddings(comfy, tmp_path):
    from comfy import sd1_clip, sdxl_clip

    save_file({"emb_params": torch.zeros(4, 768)}, tmp_path / "four.safetensors")
    save_file({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)}, tmp_path / "both.safetensors")
    sd1 = bare_clip(comfy, sd1_clip.SD1Tokenizer, {"clip_l": 768}, str(tmp_path))
    text = "embedding:missing, embedding:four and (embedding:both:1.2), a cat"
    found = located(comfy, sd1, text, "four, both, cat")
    assert [s.tokens["clip"] for s in found.items] == [(2, 3, 4, 5), (7, 8), (11,)]
    with pytest.raises(ValueError, match="'missing' has no token"):
        located(comfy, sd1, text, "missing")
    sdxl = bare_clip(comfy, sdxl_clip.SDXLTokenizer, {"clip_l": 768, "clip_g": 1280}, str(tmp_path))
    found = located(comfy, sdxl, "embedding:both and a cat", "both, cat")
    assert [s.tokens["clip"] for s in found.items] == [(1, 2), (5,)]
    found = located(comfy, sdxl, "embedding:four and a cat", "four, cat")  # clip_g takes no 768-wide vector
    assert [s.tokens["clip"] for s in found.items] == [(1, 2, 3, 4), (3, 7)]


def test_t5_streams(comfy):
    from comfy.text_encoders import flux as flux_clip
    from comfy.text_encoders import sd3_clip

    widths = {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}
    sd3 = bare_clip(comfy, sd3_clip.SD3Tokenizer, widths)
    found = located(comfy, sd3, "A zebra and Golden-Retrievers", "zebra, retriever")
    assert [(s.name, s.offset, s.length) for s in found.streams] == [("clip", 0, 77), ("t5", 77, 77)]
    assert pieces(found, 0) == ["zebra"] and pieces(found, 0, "t5") == ["ze", "bra"]
    assert "".join(pieces(found, 1, "t5")) == "Retrievers"
    only_t5 = bare_clip(comfy, sd3_clip.SD3Tokenizer, {"t5xxl": 4096})
    assert [s.name for s in located(comfy, only_t5, "a cat", "").streams] == ["t5"]
    flux = bare_clip(comfy, flux_clip.FluxTokenizer, widths)
    found = located(comfy, flux, "a giraffe and a donut", "")
    assert [(s.name, s.offset, s.length, s.starts) for s in found.streams] == [("t5", 0, 256, ())]
    assert [pieces(found, i, "t5") for i in (0, 1)] == [["gir", "a", "ffe"], ["▁do", "nut"]]


def test_an_unknown_tokenizer_is_named(comfy):
    from comfy import sd1_clip

    clip = bare_clip(comfy, sd1_clip.SD1Tokenizer, {"clip_l": 768})
    clip.tokenize = lambda text, return_word_ids=False: {"llama": []}
    with pytest.raises(ValueError, match="SD1Tokenizer.*llama.*not known"):
        located(comfy, clip, "a cat", "")


def graph(**inputs):
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": inputs.pop("checkpoint")}},
        "2": {"class_type": "GSNSubjects", "inputs": {"clip": ["1", 1], **inputs}},
    }


def test_in_the_executor(comfy, tiny_checkpoint):
    prompt = graph(checkpoint=tiny_checkpoint, text="a [red cat] and a dog", subjects="dog")
    result = comfy.run(prompt, [("2", 0), ("2", 1), ("2", 2)]).check()
    assert result["2", 1].labels == ("cat", "dog") and result["2", 1].prompt == "a red cat and a dog"
    assert result["2", 0][0][1][comfy.pack("gsn.text.subjects").SUBJECTS_KEY] is result["2", 1]
    assert "○ red → cat" in result["2", 2] and "● dog" in result["2", 2]


@pytest.mark.parametrize(
    ("text", "subjects", "message"),
    [
        ("a photo of a zebra", "zerba", "Closest word: 'zebra'"),
        ("", "", "'text' is empty"),
        ("a [cat", "", "never closed"),
    ],
)
def test_errors_name_the_node(comfy, tiny_checkpoint, text, subjects, message):
    result = comfy.run(graph(checkpoint=tiny_checkpoint, text=text, subjects=subjects), [("2", 0)])
    assert not result.ok and result.node_type == "GSNSubjects"
    assert result.error.startswith("GSNSubjects: ") and message in result.error


def test_no_clip(comfy):
    with pytest.raises(RuntimeError, match="GSNSubjects: the 'clip' input is None"):
        comfy.pack("nodes.subjects").GSNSubjects.execute(None, "a cat")
