"""ComfyUI's CLIP object -> the token columns of a prompt, as its own tokenizers cut it.

Which encoder stands where on the conditioning's text axis is stated here once, per tokenizer family; the
conditioning's true length is compared with it after encoding.
"""

from __future__ import annotations

import logging
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..locate import TokenRow, locate_subjects
from ..parse import choose_subjects
from ..prompt import EMBEDDING, Prompt, read_prompt
from ..subjects import SUBJECTS_KEY, SubjectError, Subjects, TextStream, token_table

logger = logging.getLogger("gsn-nodes")

# Key in the tokens -> name of its tokenizer and of its encoder.
_MODULES = {"l": "clip_l", "g": "clip_g", "h": "clip_h", "t5xxl": "t5xxl"}
_CLIP_ONLY = ({"l"}, {"h"}, {"g"}, {"l", "g"})  # SD1, SD2, SDXL refiner and Cascade, SDXL
_SD3 = {"l", "g", "t5xxl"}
_T5_ONLY = ({"t5xxl"}, {"l", "t5xxl"})  # PixArt and Chroma; Flux, whose CLIP gives the pooled vector alone
# Language models that read the prompt inside a template: the class of the tokenizer -> its key in the tokens.
# What else these give (Kandinsky's CLIP, HunyuanImage's glyphs) is not on the text axis.
_TEMPLATED = {
    "ZImageTokenizer": "qwen3_4b",
    "QwenImageTokenizer": "qwen25_7b",
    "KleinTokenizer": "qwen3_4b",
    "KleinTokenizer8B": "qwen3_8b",
    "Omnigen2Tokenizer": "qwen25_3b",
    "Kandinsky5TokenizerImage": "qwen25_7b",
    "HunyuanImageTokenizer": "qwen25_7b",
    "Krea2Tokenizer": "qwen3vl_4b",
}


@dataclass(frozen=True)
class Encoded:
    conditioning: list  # entries [tensor [B, T, C], dict], Subjects in every dict under SUBJECTS_KEY
    subjects: Subjects
    table: str


def encode_with_subjects(clip: Any, text: str, names: str = "") -> Encoded:
    """Encode a prompt exactly as CLIPTextEncode does, and find its subjects' tokens.

    Raises:
        SubjectError: see `choose_subjects`; also a text encoder whose token columns are not known here.
    """
    prompt = read_prompt(text)
    choices, notes = choose_subjects(prompt, names)
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(prompt.text))
    columns = conditioning[0][0].shape[1]
    subjects, doubts = locate_subjects(prompt, choices, read_tokens(clip, prompt, columns))
    notes += doubts
    for note in notes:
        logger.warning("GSNSubjects: %s", note)
    for tensor, _ in conditioning:
        if tensor.shape[1] != subjects.text_length:
            raise SubjectError(
                f"the text encoder {type(clip.cond_stage_model).__name__} gave {tensor.shape[1]} "
                f"text columns, its tokenizer {type(clip.tokenizer).__name__} {subjects.text_length}. Which "
                "column is which word is unknown for this pair; use CLIP Text Encode for this model."
            )
    marked = [[tensor, {**options, SUBJECTS_KEY: subjects}] for tensor, options in conditioning]
    return Encoded(marked, subjects, token_table(subjects, notes))


def read_tokens(clip: Any, prompt: Prompt, columns: int | None = None) -> dict[TextStream, tuple[TokenRow, ...]]:
    """The streams of the conditioning's text axis, each with one row per encoder that shares its columns.

    columns: length of the encoded text, by which one sees how much of a template's head an encoder left out.
    """
    tokens = clip.tokenize(prompt.text, return_word_ids=True)
    key = _TEMPLATED.get(type(clip.tokenizer).__name__)
    if key is not None:
        return _templated(clip, key, tokens[key], prompt, columns)
    streams: dict[TextStream, tuple[TokenRow, ...]] = {}
    offset = 0
    for name, keys in _layout(clip, tokens):
        columns = [_Columns(clip, key, tokens[key]) for key in keys]
        length = min(len(column.pieces) for column in columns)  # ComfyUI cuts the longer of two encoders
        words = sorted({p for column in columns for p in column.words if p < length})
        first = columns[0]
        starts = tuple(p for p in first.starts if p < length)
        stream = TextStream(name, offset, length, tuple(words), starts, tuple(first.pieces[:length]))
        streams[stream] = tuple(column.row(prompt) for column in columns)
        offset += length
    return streams


def _templated(
    clip: Any, key: str, chunks: Sequence[Sequence[tuple]], prompt: Prompt, columns: int | None
) -> dict[TextStream, tuple[TokenRow, ...]]:
    """The one stream of a language model; only the prompt's own columns spell anything."""
    read = _Columns(clip, key, chunks)
    read.keep_prompt(clip.tokenizer.llama_template)
    read.drop_head(0 if columns is None else len(read.pieces) - columns)
    stream = TextStream(key, 0, len(read.pieces), tuple(read.words), (), tuple(read.pieces))
    return {stream: (read.row(prompt),)}


def _layout(clip: Any, tokens: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The streams in their order on the text axis, each with the tokens keys that fill it."""
    keys = set(tokens)
    if keys in _CLIP_ONLY:
        return [("clip", sorted(keys, reverse=True))]
    if keys in _T5_ONLY:
        return [("t5", ["t5xxl"])]
    if keys == _SD3:
        # SD3's tokenizer answers for encoders that were not loaded, too.
        loaded = [key for key in ("l", "g", "t5xxl") if _encoder(clip, key) is not None]
        clips = [key for key in loaded if key != "t5xxl"]
        layout = [("clip", clips), ("t5", ["t5xxl"] if "t5xxl" in loaded else [])]
        if loaded:
            return [(name, present) for name, present in layout if present]
    raise SubjectError(
        f"the tokenizer {type(clip.tokenizer).__name__} (its parts: {', '.join(sorted(keys))}) is not "
        "known. Known are the text encoders of SD1.x, SD2.x, SDXL, SD3, SD3.5, Flux.1, Chroma, PixArt, Z-Image, "
        "Qwen-Image, Flux.2 Klein, OmniGen 2, Kandinsky 5 Image, HunyuanImage and Krea 2; "
        "use CLIP Text Encode for this model."
    )


def _encoder(clip: Any, key: str) -> Any:
    return getattr(clip.cond_stage_model, _MODULES.get(key, key), None)


class _Columns:
    """The columns that one tokenizer fills: chunk after chunk, as the encoder concatenates them."""

    def __init__(self, clip: Any, key: str, chunks: Sequence[Sequence[tuple]]):
        tokenizer = getattr(clip.tokenizer, _MODULES.get(key, key), None)
        if tokenizer is None:
            name = type(clip.tokenizer).__name__
            raise SubjectError(f"the tokenizer {name} is not known: it has no part {_MODULES.get(key, key)!r}.")
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

    def keep_prompt(self, template: str) -> None:
        """Make the columns of the template around `{}` spell nothing; they are found by counting bytes."""
        head, tail = (self._bytes_of(part) for part in template.split("{}"))
        end, total = 0, sum(map(len, self.spelled))
        for column, spelled in enumerate(self.spelled):
            begin, end = end, end + len(spelled)
            if end <= head or begin >= total - tail:
                self.spelled[column] = b""
        self.words = [p for p in self.words if self.spelled[p] or self.pieces[p] == "<embedding>"]

    def drop_head(self, count: int) -> None:
        """Leave out columns that the encoder left out of its result: the beginning of the template."""
        if count <= 0 or any(self.spelled[:count]):
            return
        self.pieces, self.spelled = self.pieces[count:], self.spelled[count:]
        self.words = [p - count for p in self.words]
        self.vectors = {word: [p - count for p in found] for word, found in self.vectors.items()}

    def _bytes_of(self, text: str) -> int:
        found = self.tokenizer.tokenizer(text)["input_ids"]
        return sum(len(self._spelled(token)) for token in found)

    def _spelled(self, token: int) -> bytes:
        return b"" if token in self.special else self.spelling(self.tokenizer.inv_vocab[token])

    def row(self, prompt: Prompt) -> TokenRow:
        names = {word.embedding for word in prompt.words if word.embedding}
        plain = self.tokenizer.embedding_directory is None
        known = None if plain else frozenset(name for name in names if self._loads(name))
        return TokenRow(tuple(self.spelled), tuple(tuple(v) for v in self.vectors.values()), known)

    def _read(self, chunk: Sequence[tuple]) -> None:
        rejected = ended = 0
        for index, (token, _, word) in enumerate(chunk):
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
    if "▁" in vocabulary or "▁a" in vocabulary:
        return _spell_sentencepiece
    raise SubjectError(
        f"the tokenizer {type(tokenizer).__name__} is not known: its vocabulary is neither CLIP's, nor T5's, nor"
        " a byte-level one."
    )


def _spell_bytes(piece: str) -> bytes:
    """CLIP, Qwen: one visible character per byte; those that have no visible character sit above 255, in order."""
    hidden = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255)]
    codes = (ord(char) for char in piece.removesuffix("</w>"))
    return bytes(code if code < 256 else hidden[code - 256] for code in codes)


def _spell_sentencepiece(piece: str) -> bytes:
    return piece.replace("▁", " ").encode()
