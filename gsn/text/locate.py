"""From chosen words to token columns.

A tokenizer may cut words anywhere, but it keeps their letters in order. So the letters of the prompt and
the letters that the columns spell are laid side by side, and a word owns the columns that spell it: the
right occurrence, across chunks of 77, with nothing searched for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .parse import Choice
from .prompt import Prompt, Word, fold
from .subjects import Subject, SubjectError, Subjects, TextStream

_VECTORS = "\ue000"  # stands for one embedding in both letter sequences; from the private range, no prompt has it

Letters = list[tuple[str, tuple[int, ...]]]  # one folded letter and the columns that spell it


@dataclass(frozen=True)
class TokenRow:
    """What one tokenizer made of the prompt, column by column.

    `spelled[c]` is the UTF-8 text that column c stands for, possibly part of a character; empty for start,
    end, padding and embedding vectors. `vectors` has, for every embedding in the order of the prompt, its
    columns. `known` are the embeddings' names that the tokenizer replaced by vectors; None when it takes
    them as plain text.
    """

    spelled: tuple[bytes, ...]
    vectors: tuple[tuple[int, ...], ...] = ()
    known: frozenset[str] | None = frozenset()


def locate_subjects(
    prompt: Prompt, choices: Sequence[Choice], streams: Mapping[TextStream, Sequence[TokenRow]]
) -> tuple[Subjects, tuple[str, ...]]:
    """Give every chosen subject its columns in every stream, and notes on those that only some streams can
    spell.

    A stream may have several rows (SDXL's two encoders share columns); a subject then owns the columns of
    all.

    Raises:
        SubjectError: a subject that no tokenizer can spell.
    """
    owners = {stream: [_owners(prompt, row) for row in rows] for stream, rows in streams.items()}
    notes: list[str] = []

    def place(choice: Choice) -> Subject:
        tokens = {stream.name: _columns(choice.words, maps, stream.length) for stream, maps in owners.items()}
        absent = [name for name, columns in tokens.items() if not columns]
        if len(absent) == len(tokens):
            raise SubjectError(
                f"{choice.label!r} has no token of its own: the text encoder's tokenizer cannot spell it, it stands "
                "behind the end of what the encoder reads, or the embedding was not loaded. Use another word, a "
                "shorter prompt, or check the embedding's file name."
            )
        if absent:
            notes.append(f"{choice.label!r} has no token in the text encoder {', '.join(absent)}.")
        attributes = tuple(place(attribute) for attribute in choice.attributes)
        return Subject(choice.label, {name: columns for name, columns in tokens.items() if columns}, attributes)

    items = tuple(place(choice) for choice in choices)
    return Subjects(prompt.text, items, tuple(streams)), tuple(notes)


def _columns(words: Iterable[Word], maps: Sequence[Mapping[int, set[int]]], length: int) -> tuple[int, ...]:
    """The columns of all the words in all the rows; empty if in none of them every word can be found."""
    words = list(words)
    found = [set().union(*(owned[w.start] for w in words)) for owned in maps if all(w.start in owned for w in words)]
    return tuple(sorted(column for column in set().union(*found) if column < length))


def _owners(prompt: Prompt, row: TokenRow) -> dict[int, set[int]]:
    """For every word of the prompt that the row spells in full: its start in the text -> its columns."""
    spelled = _row_letters(row)
    letters = [letter for letter, _ in spelled]
    # Many language models do not know emphasis: its weights are then letters like any others.
    readings = [_prompt_letters(prompt, row, weights) for weights in (False, True)]
    wanted = next((one for one in readings if [letter for letter, _ in one] == letters), readings[0])
    pairs = _aligned([letter for letter, _ in wanted], letters)
    owned: dict[int, set[int]] = {}
    matched: dict[int, int] = {}
    for i, j in pairs:
        word = wanted[i][1]
        if word is None:
            continue
        start = word.start
        owned.setdefault(start, set()).update(spelled[j][1])
        matched[start] = matched.get(start, 0) + 1
    whole = {word.start for word in prompt.words if matched.get(word.start) == len(_word_letters(word, row))}
    return {start: columns for start, columns in owned.items() if start in whole}


def _aligned(wanted: list[str], spelled: list[str]) -> Iterable[tuple[int, int]]:
    if wanted == spelled:
        return zip(range(len(wanted)), range(len(spelled)), strict=True)
    # The tokenizer lost or replaced letters (an unknown character, markup of its own): pair up the rest.
    blocks = difflib.SequenceMatcher(None, wanted, spelled, autojunk=False).get_matching_blocks()
    return ((block.a + k, block.b + k) for block in blocks for k in range(block.size))


def _prompt_letters(prompt: Prompt, row: TokenRow, weights: bool) -> list[tuple[str, Word | None]]:
    """The letters that a row may spell, each with its word; weights: also those of emphasis, which are no word's."""
    out: list[tuple[str, Word | None]] = []
    end = 0
    for word in prompt.words:
        out += [(letter, None) for letter in fold(prompt.text[end : word.start]) if weights]
        out += [(letter, word) for letter in _word_letters(word, row)]
        end = word.end
    return out + [(letter, None) for letter in fold(prompt.text[end:]) if weights]


def _word_letters(word: Word, row: TokenRow) -> str:
    if not word.embedding or row.known is None:
        return fold(word.text)
    return _VECTORS if word.embedding in row.known else ""


def _row_letters(row: TokenRow) -> Letters:
    vectors = {columns[0]: columns for columns in row.vectors}
    out: Letters = []
    pending: list[tuple[int, int]] = []  # bytes of text not yet read, with their columns
    for column, spelled in enumerate(row.spelled):
        if column in vectors:
            out += _letters(pending)
            pending = []
            out.append((_VECTORS, vectors[column]))
        pending += [(byte, column) for byte in spelled]
    return out + _letters(pending)


def _letters(data: Sequence[tuple[int, int]]) -> Letters:
    out: Letters = []
    i = 0
    while i < len(data):
        size = _character_size(data[i][0])
        part = data[i : i + size]
        columns = tuple(dict.fromkeys(column for _, column in part))
        out += [(letter, columns) for letter in fold(bytes(byte for byte, _ in part).decode("utf-8", "ignore"))]
        i += size
    return out


def _character_size(first: int) -> int:
    """Bytes of a UTF-8 character, from its first byte."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
