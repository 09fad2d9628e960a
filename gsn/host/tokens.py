"""ComfyUI's CLIP object -> the token columns of a prompt, as its own tokenizers cut it.

Which encoder stands where on the conditioning's text axis is stated here once, per tokenizer family; the
conditioning's true length is compared with it after encoding.
"""

from __future__ import annotations

import logging
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..text.locate import TokenRow, locate_subjects
from ..text.parse import choose_subjects
from ..text.prompt import EMBEDDING, Prompt, read_prompt
from ..text.regions import Box, with_boxes, with_masks
from ..text.subjects import SUBJECTS_KEY, SubjectError, Subjects, TextStream, token_table

logger = logging.getLogger("gsn-nodes")

_BYTE = re.compile("<0x([0-9A-F]{2})>")  # sentencepiece's spelling of a byte that belongs to no other piece
# Key in the tokens -> name of its tokenizer and of its encoder, where that is another.
_MODULES = {"l": "clip_l", "g": "clip_g", "h": "clip_h"}
# What a tokenizer gives -> the models that read it so, and the streams in their order on the text axis, each with
# the keys that share its columns. What else it gives (Flux.1's CLIP) is not on the text axis.
_PARTS: dict[frozenset[str], tuple[str, list[tuple[str, list[str]]]]] = {
    frozenset("l"): ("SD1.x", [("clip", ["l"])]),
    frozenset("h"): ("SD2.x", [("clip", ["h"])]),
    frozenset("g"): ("SDXL", [("clip", ["g"])]),  # its refiner, and Cascade
    frozenset("lg"): ("SDXL", [("clip", ["l", "g"])]),
    frozenset(("l", "g", "t5xxl")): ("SD3, SD3.5", [("clip", ["l", "g"]), ("t5", ["t5xxl"])]),
    frozenset(("l", "t5xxl")): ("Flux.1", [("t5", ["t5xxl"])]),
    frozenset(("t5xxl",)): ("Chroma, PixArt, Cosmos-Predict2", [("t5", ["t5xxl"])]),
    frozenset(("pile_t5xl",)): ("AuraFlow", [("t5", ["pile_t5xl"])]),
    frozenset(("l", "g", "t5xxl", "llama")): ("HiDream I1", [("t5", ["t5xxl"])]),
    frozenset(("hydit_clip", "mt5xl")): ("HunyuanDiT", [("bert", ["hydit_clip"])]),
    frozenset(("qwen3_06b", "t5xxl")): ("Anima", [("t5", ["t5xxl"])]),
}
# Where the model's own adapter makes the text axis, a column for each token of the stream above: the key of the
# tokens that the encoder's result has a column for until then.
_BEFORE_ADAPTER = {frozenset(("qwen3_06b", "t5xxl")): "qwen3_06b"}
# Language models, most of which read the prompt inside a template: the class of the tokenizer -> its models, its
# key in the tokens. What else these give (Kandinsky's CLIP, HunyuanImage's glyphs) is not on the text axis.
_LANGUAGE_MODELS = {
    "Flux2Tokenizer": ("Flux.2", "mistral3_24b"),
    "KleinTokenizer": ("Flux.2 Klein", "qwen3_4b"),
    "KleinTokenizer8B": ("Flux.2 Klein", "qwen3_8b"),
    "LuminaTokenizer": ("Lumina 2", "gemma2_2b"),
    "NTokenizer": ("Lumina 2", "gemma3_4b"),
    "ZImageTokenizer": ("Z-Image", "qwen3_4b"),
    "QwenImageTokenizer": ("Qwen-Image", "qwen25_7b"),
    "LongCatImageTokenizer": ("LongCat-Image", "qwen25_7b"),
    "OvisTokenizer": ("Ovis-Image", "qwen3_2b"),
    "ErnieTokenizer": ("ERNIE-Image", "ministral3_3b"),
    "Omnigen2Tokenizer": ("OmniGen 2", "qwen25_3b"),
    "BooguTokenizer": ("Boogu", "qwen3vl_8b"),
    "Kandinsky5TokenizerImage": ("Kandinsky 5 Image", "qwen25_7b"),
    "HunyuanImageTokenizer": ("HunyuanImage", "qwen25_7b"),
    "Ideogram4Tokenizer": ("Ideogram 4", "qwen3vl_8b"),
    "Ideogram4Qwen3VLTokenizer": ("Ideogram 4", "qwen3vl_8b"),
    "JoyImageTokenizer": ("JoyImage", "qwen3vl_8b"),
    "Krea2Tokenizer": ("Krea 2", "qwen3vl_4b"),
    "LensTokenizer": ("Lens", "gpt_oss"),
    "MageFlowTokenizer": ("Mage-Flow", "qwen3vl_4b"),
}


@dataclass(frozen=True)
class Encoded:
    conditioning: list  # entries [tensor [B, T, C], dict], Subjects in every dict under SUBJECTS_KEY
    subjects: Subjects
    table: str


def encode_with_subjects(
    clip: Any, text: str, names: str = "", boxes: Sequence[Box] | None = None, masks: Tensor | None = None
) -> Encoded:
    """Encode a prompt exactly as CLIPTextEncode does, and find its subjects' tokens. boxes: one for each subject.

    masks: [N, H, W], one for each subject.

    Raises:
        SubjectError: see `choose_subjects`, `with_boxes` and `with_masks`; also a text encoder whose token columns are
            not known.
    """
    prompt = read_prompt(text)
    choices, notes = choose_subjects(prompt, names)
    tokens = clip.tokenize(prompt.text)
    conditioning = clip.encode_from_tokens_scheduled(tokens)
    columns = conditioning[0][0].shape[1]
    subjects, doubts = locate_subjects(prompt, choices, read_tokens(clip, prompt, columns))
    if boxes is not None:
        subjects = replace(subjects, items=with_boxes(subjects.items, boxes))
    if masks is not None:
        subjects = replace(subjects, items=with_masks(subjects.items, masks))
    adapted = _BEFORE_ADAPTER.get(frozenset(tokens))
    expected = subjects.text_length if adapted is None else len(_Columns(clip, adapted, tokens[adapted]).pieces)
    notes += doubts
    for note in notes:
        logger.warning("GSNSubjects: %s", note)
    for tensor, _ in conditioning:
        if tensor.shape[1] != expected:
            raise SubjectError(
                f"the text encoder {type(clip.cond_stage_model).__name__} gave {tensor.shape[1]} "
                f"text columns, its tokenizer {type(clip.tokenizer).__name__} {expected}. Which "
                "column is which word is unknown for this pair; use CLIP Text Encode for this model."
            )
    marked = [[tensor, {**options, SUBJECTS_KEY: subjects}] for tensor, options in conditioning]
    return Encoded(marked, subjects, token_table(subjects, notes))


def read_tokens(clip: Any, prompt: Prompt, columns: int | None = None) -> dict[TextStream, tuple[TokenRow, ...]]:
    """The streams of the conditioning's text axis, each with one row per encoder that shares its columns.

    columns: length of the encoded text, by which one sees how much of a template's head an encoder left out.
    """
    tokens = clip.tokenize(prompt.text, return_word_ids=True)
    if type(clip.tokenizer).__name__ in _LANGUAGE_MODELS:
        _, key = _LANGUAGE_MODELS[type(clip.tokenizer).__name__]
        return _language_model(clip, key, tokens[key], prompt, columns)
    streams: dict[TextStream, tuple[TokenRow, ...]] = {}
    offset = 0
    for name, keys in _layout(clip, tokens):
        read = [_Columns(clip, key, tokens[key]) for key in keys]
        length = min(len(one.pieces) for one in read)  # ComfyUI cuts the longer of two encoders
        words = sorted({p for one in read for p in one.words if p < length})
        starts = tuple(p for p in read[0].starts if p < length)
        stream = TextStream(name, offset, length, tuple(words), starts, tuple(read[0].pieces[:length]))
        streams[stream] = tuple(one.row(prompt) for one in read)
        offset += length
    return streams


def _language_model(
    clip: Any, key: str, chunks: Sequence[Sequence[tuple]], prompt: Prompt, columns: int | None
) -> dict[TextStream, tuple[TokenRow, ...]]:
    """The one stream of a language model; only the prompt's own columns spell anything."""
    read = _Columns(clip, key, chunks)
    columns = len(read.pieces) if columns is None else columns
    head, tail, before = _template(clip, key)
    if not b"".join(read.spelled).startswith(head):
        if columns < len(read.pieces):
            raise SubjectError(
                "'text' brings a chat template of its own, and this model's text encoder leaves out an unknown part of"
                " it. Write the prompt alone, or use CLIP Text Encode."
            )
        head, tail, before = b"", b"", 0
    read.keep_prompt(head, tail)
    read.keep_encoded(before, columns)
    stream = TextStream(key, 0, len(read.pieces), tuple(read.words), tuple(read.starts), tuple(read.pieces))
    return {stream: (read.row(prompt),)}


def _template(clip: Any, key: str) -> tuple[bytes, bytes, int]:
    """What a tokenizer spells before and after every prompt, and how many columns the former takes: that which
    two prompts without a common letter have in common."""
    one, other = (_Columns(clip, key, clip.tokenize(text, return_word_ids=True)[key]) for text in ("a", "z"))
    spelled = [b"".join(read.spelled) for read in (one, other)]
    before = len(os.path.commonprefix([one.pieces, other.pieces]))
    return os.path.commonprefix(spelled), os.path.commonprefix([text[::-1] for text in spelled])[::-1], before


def _layout(clip: Any, tokens: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The streams in their order on the text axis, each with the tokens keys that fill it."""
    _, layout = _PARTS.get(frozenset(tokens), ("", []))
    # SD3's and HiDream's tokenizers answer for encoders that were not loaded, too
    reader = _BEFORE_ADAPTER.get(frozenset(tokens))
    loaded = [(name, [key for key in keys if _encoder(clip, reader or key) is not None]) for name, keys in layout]
    if layout and not any(keys for _, keys in loaded):
        names = ", ".join(name for name, _ in layout)
        raise SubjectError(
            f"the text encoder {names}, whose words the model's attention shows, was not loaded. Load it beside the"
            " others, or use CLIP Text Encode."
        )
    if not layout:
        titles = [title for title, _ in (*_PARTS.values(), *_LANGUAGE_MODELS.values())]
        raise SubjectError(
            f"the tokenizer {type(clip.tokenizer).__name__} (its parts: {', '.join(sorted(tokens))}) is not known. "
            f"Known are the text encoders of {', '.join(dict.fromkeys(titles))}; use CLIP Text Encode for this model."
        )
    return [(name, keys) for name, keys in loaded if keys]


def _encoder(clip: Any, key: str) -> Any:
    return getattr(clip.cond_stage_model, _MODULES.get(key, key), None)


class _Columns:
    """The columns that one tokenizer fills: chunk after chunk, as the encoder concatenates them."""

    def __init__(self, clip: Any, key: str, chunks: Sequence[Sequence[tuple]]):
        name = _MODULES.get(key, key)
        if getattr(clip.tokenizer, "clip_name", None) == key:
            name = clip.tokenizer.clip  # Cosmos and AuraFlow put "clip_" before it
        tokenizer = getattr(clip.tokenizer, name, None)
        if tokenizer is None:
            kind = type(clip.tokenizer).__name__
            raise SubjectError(f"the tokenizer {kind} is not known: it has no part {name!r}.")
        self.tokenizer = tokenizer
        self.spelling = _spelling(tokenizer)
        self.special = set(getattr(tokenizer.tokenizer, "all_special_ids", ()))
        self.width = _embedding_width(_encoder(clip, key))
        self.pieces: list[str] = []
        self.spelled: list[bytes] = []
        self.words: list[int] = []
        self.starts: list[int] = []
        self.vectors: dict[int, list[int]] = {}  # word id -> columns
        for chunk in chunks:
            self._read(chunk)

    def keep_prompt(self, head: bytes, tail: bytes) -> None:
        """Make the columns of the template around the prompt spell nothing; they are found by counting bytes."""
        text = b"".join(self.spelled)
        # a tokenizer that cuts long prompts may have left out the template's end, or part of it
        begins = next(i for i in range(len(tail), -1, -1) if text.endswith(tail[:i]))
        end, stop = 0, len(text) - begins
        for column, spelled in enumerate(self.spelled):
            begin, end = end, end + len(spelled)
            if end <= len(head) or begin >= stop:
                self.spelled[column] = b""
        self.words = [p for p in self.words if self.spelled[p] or self.pieces[p] == "<embedding>"]

    def keep_encoded(self, before: int, count: int) -> None:
        """Keep the `count` columns that the encoder's result has: it leaves out columns of the template, from the
        front, and at the end where more are missing than stand before the prompt.

        Nothing is left out where that would take columns of the prompt; the lengths then differ.
        """
        first = max(0, min(before, len(self.pieces) - count))
        kept = range(first, first + count)
        if any(spelled for column, spelled in enumerate(self.spelled) if column not in kept):
            return
        self.pieces, self.spelled = self.pieces[first : kept.stop], self.spelled[first : kept.stop]
        self.words = [p - first for p in self.words if p in kept]
        self.starts = [p - first for p in self.starts if p in kept]
        self.vectors = {word: [p - first for p in found] for word, found in self.vectors.items()}

    def _spelled(self, token: int) -> bytes:
        return b"" if token in self.special else self.spelling(self.tokenizer.inv_vocab[token])

    def row(self, prompt: Prompt) -> TokenRow:
        names = {word.embedding for word in prompt.words if word.embedding}
        plain = self.tokenizer.embedding_directory is None
        known = None if plain else frozenset(name for name in names if self._loads(name))
        return TokenRow(tuple(self.spelled), tuple(tuple(v) for v in self.vectors.values()), known)

    def _read(self, chunk: Sequence[tuple]) -> None:
        rejected = ended = 0
        for index, (token, _, *rest) in enumerate(chunk):
            word = rest[0] if rest else 1  # LongCat and Lens do not number theirs
            is_id = isinstance(token, numbers.Integral)
            if not is_id and not self._fits(token):
                rejected += 1  # the encoder leaves such a vector out and pads the end of the chunk instead
            elif not is_id:
                self.vectors.setdefault(word, []).append(len(self.pieces))
                self._add("<embedding>", b"", is_word=True)
            elif word:
                self._add(self._shown(token), self._spelled(token), is_word=True)
            elif index == 0 and token == self.tokenizer.start_token:
                self.starts.append(len(self.pieces))
                self._add("<start>", b"")
            else:
                self._add("<end>" if token == self.tokenizer.end_token and not ended else "<pad>", b"")
                ended += 1
        for _ in range(rejected):
            self._add("<pad>", b"")

    def _add(self, piece: str, spelled: bytes, is_word: bool = False) -> None:
        if is_word:
            self.words.append(len(self.pieces))
        self.pieces.append(piece)
        self.spelled.append(spelled)

    def _shown(self, token: int) -> str:
        piece = self.tokenizer.inv_vocab[token]
        text = self.spelling(piece).decode("utf-8", "replace")
        return "▁" + text[1:] if text.startswith(" ") else text

    def _fits(self, vector: Any) -> bool:
        return self.width is None or (hasattr(vector, "shape") and vector.shape[-1] == self.width)

    def _loads(self, name: str) -> bool:
        chunks = self.tokenizer.tokenize_with_weights(f"{EMBEDDING}{name}")
        vectors = [entry[0] for chunk in chunks for entry in chunk if not isinstance(entry[0], numbers.Integral)]
        return any(self._fits(vector) for vector in vectors)


def _embedding_width(encoder: Any) -> int | None:
    """Channels of the encoder's token embeddings; None when it cannot be asked."""
    try:
        return encoder.transformer.get_input_embeddings().weight.shape[-1]
    except AttributeError:
        return None


def _spelling(tokenizer: Any):
    """A function from a vocabulary entry to the UTF-8 bytes it stands for, by the vocabulary's own habits."""
    vocabulary = set(tokenizer.inv_vocab.values())
    if "a</w>" in vocabulary or "Ġa" in vocabulary:
        return _spell_bytes
    if "##a" in vocabulary:
        return _spell_wordpiece
    if "▁" in vocabulary or "▁a" in vocabulary:
        return _spell_sentencepiece
    raise SubjectError(
        f"the tokenizer {type(tokenizer).__name__} is not known: its vocabulary is neither CLIP's, nor T5's, nor"
        " BERT's, nor a byte-level one."
    )


def _spell_bytes(piece: str) -> bytes:
    """CLIP, Qwen: one visible character per byte; those that have no visible character sit above 255, in order."""
    hidden = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255)]
    codes = (ord(char) for char in piece.removesuffix("</w>"))
    return bytes(code if code < 256 else hidden[code - 256] for code in codes)


def _spell_sentencepiece(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()


def _spell_wordpiece(piece: str) -> bytes:
    return (piece[2:] if piece.startswith("##") else f" {piece}").encode()
