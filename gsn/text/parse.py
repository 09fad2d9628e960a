"""The subject parser: which subjects a prompt has, the marked ones, the named ones, or those that its phrases give."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import lexicon as lex
from .phrases import Phrase, Unit, kind_of, read_phrases, read_units, select_subjects
from .prompt import Prompt, Word, fold, read_prompt
from .subjects import SubjectError


@dataclass(frozen=True)
class Choice:
    """A subject as words of the prompt, not yet as tokens."""

    label: str
    words: tuple[Word, ...]
    attributes: tuple[Choice, ...] = ()


def choose_subjects(prompt: Prompt, names: str = "") -> tuple[tuple[Choice, ...], tuple[str, ...]]:
    """The subjects of a prompt, and notes for the user.

    `names` is a list separated by commas, semicolons or lines: `cat`, `the red cat`, `cat#2` (the second
    one), `embedding:name`. With names or marks, these are the subjects, and only the describing words they
    contain are attributes; with neither, subjects and attributes are found in the text.

    Raises:
        SubjectError: no word in the prompt, a name that is not in it, a word that belongs to two subjects.
    """
    if not prompt.words:
        raise SubjectError(
            f"'text' is empty (got {prompt.text!r}). Write what the picture should show, such as "
            "'a photo of a cat and a dog'; for an empty negative prompt use CLIP Text Encode."
        )
    phrases = read_phrases(read_units(prompt.words))
    marked = [_from_mark(prompt, start, end) for start, end in prompt.marks]
    notes: list[str] = []
    named = [_from_name(prompt, phrases, name, notes) for name in _split_names(names)]
    chosen = marked + [choice for choice in named if all(choice.words != mark.words for mark in marked)]
    if not chosen:
        chosen = [_choice(phrase) for phrase in select_subjects(phrases)]
        if not chosen:
            notes.append(
                "no subject was found, so nothing will be refined. Name them in 'subjects' (cat, dog) or "
                "mark them "
                "in the text ([cat])."
            )
    _refuse_overlap(chosen)
    return tuple(_distinct(prompt, chosen)), tuple(notes)


def _choice(phrase: Phrase) -> Choice:
    words = tuple(word for unit in phrase.nouns for word in unit.words)
    return Choice(phrase.label, words, tuple(Choice(unit.text, unit.words) for unit in phrase.attributes))


def _split_names(names: str) -> list[str]:
    return [name.strip() for name in re.split(r"[,;\n]", names) if name.strip()]


def _from_mark(prompt: Prompt, start: int, end: int) -> Choice:
    return _divide(prompt.words_in(start, end), f"the mark [{prompt.text[start:end]}] in 'text'")


def _divide(words: Sequence[Word], where: str) -> Choice:
    """Words that name one subject -> its noun and the describing words before it; articles are dropped."""
    units = read_units(words)
    while len(units) > 1 and units[0].key in lex.DETERMINERS:
        units = units[1:]
    if any(unit.key in ("and", "or") or unit.ampersand or (unit.stop and n) for n, unit in enumerate(units)):
        raise SubjectError(f"{where} names more than one subject. Give each its own brackets, or a comma between.")
    content = [unit for unit in units if unit.key not in lex.PREPOSITIONS | lex.DETERMINERS | lex.ADVERBS] or units
    keys = [unit.key for unit in content]
    nouns, attributes = [content[-1]], []
    for n, unit in enumerate(content[:-1]):
        describes = kind_of(unit) in ("adj", "ed", "ing") and (keys[n], keys[n + 1]) not in lex.COMPOUNDS
        (attributes if describes else nouns).append(unit)
    nouns.sort(key=lambda unit: unit.words[0].start)
    spoken = units[units.index(nouns[0]) : units.index(nouns[-1]) + 1]  # keeps the "of" of "bowl of fruit"
    return Choice(
        " ".join(unit.text for unit in spoken if unit not in attributes),
        tuple(word for unit in nouns for word in unit.words),
        tuple(Choice(unit.text, unit.words) for unit in attributes),
    )


def _from_name(prompt: Prompt, phrases: Sequence[Phrase], name: str, notes: list[str]) -> Choice:
    match = re.fullmatch(r"(.*?)\s*(?:#\s*(\d+))?", name)
    wanted, number = (match[1], int(match[2] or 0)) if match else (name, 0)
    if "#" in name and number < 1:
        raise SubjectError(f"'subjects' got {name!r}: the number after # counts from 1, as in 'cat#2'.")
    spoken = read_prompt(wanted.replace("[", "").replace("]", "")).words
    if not spoken:
        raise SubjectError(f"'subjects' got {name!r}, which has no word in it. Name a word of the prompt.")
    where = f"{name!r} in 'subjects'"
    target = _divide(spoken, where)
    places = [_divide(run, where) for run in _occurrences(prompt, spoken, wanted)]
    places = places or _described(phrases, target)
    if not places:
        raise _not_there(prompt, target, wanted)
    if number > len(places):
        times = "once" if len(places) == 1 else f"{len(places)} times"
        raise SubjectError(f"'subjects' got {name!r}, but {wanted!r} is in the prompt only {times}.")
    if not number and len(places) > 1:
        notes.append(f"{wanted!r} is in the prompt {len(places)} times; the first is taken, {wanted}#2 is the next.")
    return places[max(number, 1) - 1]


def _occurrences(prompt: Prompt, spoken: Sequence[Word], name: str) -> list[tuple[Word, ...]]:
    """Runs of the prompt's words that say the name: exactly, or else in singular or plural."""
    vectors = [(word,) for word in prompt.words if word.embedding and fold(word.embedding) == fold(name)]
    if vectors:  # the name of an embedding may well be "my-cat", which is two words elsewhere
        return vectors
    drop = sum(len(unit.words) for unit in _leading_determiners(spoken))
    keys = [word.key for word in spoken[drop:]]
    runs = [prompt.words[i : i + len(keys)] for i in range(len(prompt.words) - len(keys) + 1)]
    runs = [run for run in runs if not any(set(word.gap) & set(",.;:!?") for word in run[1:])]
    exact = [run for run in runs if all(map(_says, keys, run))]
    forms = [lex.number_forms(key) for key in keys]
    return exact or [run for run in runs if all(w.key in form for w, form in zip(run, forms, strict=True))]


def _leading_determiners(words: Sequence[Word]) -> list[Unit]:
    units = read_units(words)
    count = next((n for n, unit in enumerate(units) if unit.key not in lex.DETERMINERS), len(units) - 1)
    return units[:count]


def _says(key: str, word: Word) -> bool:
    return key == word.key or (bool(word.embedding) and key in (fold(word.embedding), fold(word.text)))


def _described(phrases: Sequence[Phrase], target: Choice) -> list[Choice]:
    """ "red cat" where the prompt has "a cat that is red" or "a red fluffy cat"."""
    nouns = {word.key for word in target.words}
    wanted = {word.key for attribute in target.attributes for word in attribute.words}
    found: list[Choice] = []
    for phrase in phrases:
        choice = _choice(phrase)
        attributes = tuple(a for a in choice.attributes if wanted & {word.key for word in a.words})
        words = tuple(word for word in choice.words if lex.number_forms(word.key) & nouns)
        said = {word.key for attribute in attributes for word in attribute.words}
        if wanted and wanted <= said and len(words) == len(nouns):
            label = " ".join(word.text.lower() for word in words)
            found.append(Choice(label, words, attributes))
    return found


def _not_there(prompt: Prompt, target: Choice, name: str) -> SubjectError:
    keys = list(dict.fromkeys(word.key for word in prompt.words))
    texts = list(dict.fromkeys(word.embedding or word.text for word in prompt.words))
    asked = [*(word for attribute in target.attributes for word in attribute.words), *target.words]
    missing = [word for word in asked if not lex.number_forms(word.key) & set(keys)]
    listing = ", ".join(texts[:60]) + (", ..." if len(texts) > 60 else "")
    if not missing:
        return SubjectError(
            f"'subjects' got {name!r}: the prompt has these words, but not together. Name the noun alone, or "
            f"mark it in the text with [ ]. The prompt's words: {listing}."
        )
    word = missing[0]
    telling = ("noun", "adj", "ing", "ed", "verb")
    content = [unit.words[0] for unit in read_units(prompt.words) if kind_of(unit) in telling] or prompt.words
    closest = max(content, key=lambda other: difflib.SequenceMatcher(None, word.key, other.key).ratio())
    return SubjectError(
        f"'subjects' got {name!r}, but {word.text!r} is not in the prompt. Closest word: "
        f"{closest.embedding or closest.text!r}. The prompt's words: {listing}."
    )


def _refuse_overlap(chosen: Sequence[Choice]) -> None:
    owner: dict[Word, Choice] = {}
    for choice in chosen:
        words = (*choice.words, *(word for attribute in choice.attributes for word in attribute.words))
        for word in words:
            other = owner.get(word)
            if other and other.words == choice.words:
                raise SubjectError(f"{choice.label!r} is named twice. Name it once; {choice.label}#2 is the next one.")
            if other:
                raise SubjectError(
                    f"{other.label!r} and {choice.label!r} share the word {word.text!r}. A word "
                    f"belongs to one subject: remove one, or say which is meant, as in '{word.text}#2'."
                )
        owner |= dict.fromkeys(words, choice)


def _distinct(prompt: Prompt, chosen: Sequence[Choice]) -> list[Choice]:
    """Labels told apart: of two cats, the second is `cat#2`."""
    seen: dict[str, int] = {}
    out: list[Choice] = []
    for choice in chosen:
        seen[choice.label] = seen.get(choice.label, 0) + 1
        if seen[choice.label] > 1:
            choice = replace(choice, label=f"{choice.label}#{_number(prompt, choice)}")
        out.append(choice)
    return out


def _number(prompt: Prompt, choice: Choice) -> int:
    head = choice.words[-1]
    return 1 + sum(word.key == head.key and word.start < head.start for word in prompt.words)
