"""A prompt as a person typed it -> the text that is encoded, its words and its `[marks]`.

The words know nothing of tokens. What ComfyUI's emphasis, escapes and embeddings do to the text is repeated
here, so that the letters of the words are, in order, exactly the letters that reach the tokenizer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from .subjects import SubjectError

EMBEDDING = "embedding:"
_EMBEDDING_NAME = re.compile(re.escape(EMBEDDING) + r"\s*([^\s<\[()]+)")


@dataclass(frozen=True)
class Word:
    """A run of letters and digits, or one `embedding:name`. `start` and `end` index the prompt's text."""

    text: str
    start: int
    end: int
    key: str  # for comparing: case, accents and width folded away
    gap: str  # what stands between the previous word and this one, emphasis weights left out
    embedding: str = ""  # the embedding's name


@dataclass(frozen=True)
class Prompt:
    """`text` is what gets encoded; `marks` are (start, end) ranges of it that stood in `[ ]`."""

    text: str
    words: tuple[Word, ...]
    marks: tuple[tuple[int, int], ...] = ()

    def words_in(self, start: int, end: int) -> tuple[Word, ...]:
        """The words that overlap a range of the text."""
        return tuple(word for word in self.words if word.start < end and start < word.end)


def fold(text: str) -> str:
    """Letters, digits and symbols such as emoji, without case, accents, width, spaces and punctuation."""
    kept = (c for c in unicodedata.normalize("NFKD", text).casefold() if is_letter(c))
    return "".join(kept)


def is_letter(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char) == "So"


def read_prompt(raw: str) -> Prompt:
    """Take the `[marks]` out and find the words.

    Raises:
        SubjectError: a bracket without its partner, an empty mark, a mark inside a mark.
    """
    text, marks = _unmark(raw)
    prompt = Prompt(text, tuple(_words(text)), marks)
    for start, end in marks:
        if not prompt.words_in(start, end):
            raise SubjectError(
                f"the mark [{text[start:end]}] in 'text' has no word inside. Put one subject between the "
                r"brackets, or write \[ and \] for plain brackets."
            )
    return prompt


def _unmark(raw: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    out: list[str] = []
    marks: list[tuple[int, int]] = []
    opened: tuple[int, int] | None = None  # of the open bracket: index in the output, index in raw
    i = 0
    while i < len(raw):
        char = raw[i]
        if char == "\\" and raw[i + 1 : i + 2] in ("[", "]"):
            out.append(raw[i + 1])
            i += 2
            continue
        if char == "[" and opened is None:
            opened = len(out), i
        elif char == "]" and opened is not None:
            marks.append((opened[0], len(out)))
            opened = None
        elif char in "[]":
            raise _bracket_error(raw, i, "opens inside another mark" if char == "[" else "closes no mark")
        else:
            out.append(char)
        i += 1
    if opened is not None:
        raise _bracket_error(raw, opened[1], "is never closed")
    return "".join(out), tuple(marks)


def _bracket_error(raw: str, at: int, what: str) -> SubjectError:
    return SubjectError(
        f"in 'text', the bracket at ...{raw[max(0, at - 12) : at + 13]!r}... {what}. "
        r"[ ] mark a subject, as in 'a photo of a [red cat]'; write \[ and \] for plain brackets."
    )


def _words(text: str) -> Iterator[Word]:
    hidden, segment_starts = _emphasis(text)
    found = _EMBEDDING_NAME.finditer(text)
    names = {m.start(): m for m in found if _starts_segment(text, m.start(), segment_starts)}
    i, gap = 0, ""
    while i < len(text):
        if i in names:
            match = names[i]
            end = next((j for j in range(match.start(1), match.end()) if j in hidden), match.end())
            name = text[match.start(1) : end].rstrip(",")
            end = match.start(1) + len(name)
            yield Word(text[i:end], i, end, fold(name), gap, embedding=name)
            i, gap = end, ""
        elif i not in hidden and is_letter(text[i]):
            end = i
            while end < len(text) and end not in hidden and _continues_word(text[end]):
                end += 1
            yield Word(text[i:end], i, end, fold(text[i:end]), gap)
            i, gap = end, ""
        else:
            gap += "" if i in hidden else text[i]
            i += 1


def _continues_word(char: str) -> bool:
    return is_letter(char) or unicodedata.category(char)[0] == "M"


def _starts_segment(text: str, at: int, segment_starts: set[int]) -> bool:
    return at == 0 or text[at - 1].isspace() or at in segment_starts


def _emphasis(text: str) -> tuple[set[int], set[int]]:
    """Indices that ComfyUI's emphasis removes (parentheses and `:1.3`), and those at which it cuts the
    text."""
    hidden: set[int] = set()
    cuts: set[int] = set()
    stack: list[int] = []
    unmatched = 0  # a ")" too many makes ComfyUI take the next "(" as plain text
    i = 0
    while i < len(text):
        if text[i] == "\\" and text[i + 1 : i + 2] in ("(", ")"):
            i += 2
            continue
        if text[i] == "(" and unmatched:
            unmatched -= 1
        elif text[i] == "(":
            stack.append(i)
        elif text[i] == ")" and not stack:
            unmatched += 1
        elif text[i] == ")":
            start = stack.pop()
            hidden |= {start, i, *_weight(text, start + 1, i)}
            cuts |= {start, start + 1, i + 1}
        i += 1
    return hidden, cuts


def _weight(text: str, start: int, end: int) -> range:
    colon = text.rfind(":", start, end)
    if colon <= start:
        return range(0)
    try:
        float(text[colon + 1 : end])
    except ValueError:
        return range(0)
    return range(colon, end)
