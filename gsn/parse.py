"""Which words of a prompt are its subjects, and which describe them: rules, no model, the same answer every
time.

Read from left to right, a phrase is a run of describing words and nouns. A noun phrase is a subject when it
has an article, a number or a possessive, or when a word such as "and", "with", "next to", "on" or a verb
joins it to another. Left out: what the picture is ("a photo of"), how good it is ("8k"), whose style it
has, where it is set ("in a forest"), what there is none of, and parts of a subject ("with blue eyes"). Bare
tags separated by commas are subjects only when a single one of them can be meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from . import lexicon as lex
from .prompt import Prompt, Word, fold, read_prompt
from .subjects import SubjectError

_VERB = "<verb>"  # stands for any verb among the words that lead to a phrase
_SIDES = lex.vocabulary("front top left right side middle center centre back bottom")


@dataclass(frozen=True)
class Choice:
    """A subject as words of the prompt, not yet as tokens."""

    label: str
    words: tuple[Word, ...]
    attributes: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class _Unit:
    """One word, or several with hyphens or apostrophes between them."""

    words: tuple[Word, ...]
    stop: str = ""  # punctuation before it: "", "," or "."
    ampersand: bool = False
    possessive: bool = False

    @property
    def key(self) -> str:
        return "-".join(word.key for word in self.words)

    @property
    def text(self) -> str:
        return "-".join(word.embedding or word.text.lower() for word in self.words)


@dataclass
class _Phrase:
    determiner: str
    leads: frozenset[str]  # the function words since the phrase before
    segment: int  # counts stretches between commas
    attributes: list[_Unit] = field(default_factory=list)
    nouns: list[_Unit] = field(default_factory=list)
    linked: bool = False

    @property
    def head(self) -> str:
        return self.nouns[-1].key

    @property
    def label(self) -> str:
        return " ".join(unit.text for unit in self.nouns)


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
    phrases = _Reader(_units(prompt.words)).read()
    marked = [_from_mark(prompt, start, end) for start, end in prompt.marks]
    notes: list[str] = []
    named = [_from_name(prompt, phrases, name, notes) for name in _split_names(names)]
    chosen = marked + [choice for choice in named if all(choice.words != mark.words for mark in marked)]
    if not chosen:
        chosen = [_choice(phrase) for phrase in _select(phrases)]
        if not chosen:
            notes.append(
                "no subject was found, so nothing will be refined. Name them in 'subjects' (cat, dog) or "
                "mark them "
                "in the text ([cat])."
            )
    _refuse_overlap(chosen)
    return tuple(_distinct(prompt, chosen)), tuple(notes)


# --- reading the prompt


def _units(words: Iterable[Word]) -> list[_Unit]:
    units: list[_Unit] = []
    stop, fresh = "", True
    for word in words:
        gap = word.gap.strip(" ")
        apart = fresh or bool(word.embedding or units[-1].words[-1].embedding)
        if not apart and gap == word.gap and gap in ("'", "’", "-", "‐"):
            if word.key == "s" and gap in "'’":
                units[-1] = replace(units[-1], possessive=True)
            else:
                units[-1] = replace(units[-1], words=(*units[-1].words, word))
            continue
        stop = max(stop, "." if set(gap) & set(".;:!?|") else "," if set(gap) & set(",\n\\—–-/") else "")
        fresh = word.text == "BREAK"
        if fresh:
            stop = "."
            continue
        units.append(_Unit((word,), stop, ampersand="&" in gap or "+" in gap))
        stop = ""
    return units


def _kind(unit: _Unit) -> str:
    """adj, noun, ing, ed: what may be in a phrase; det, join, prep, rel, copula, verb, adv, func: what ends
    one."""
    key = unit.key
    if unit.words[0].embedding:
        return "noun"
    if key.isdigit():
        return "det"
    for kind, keys in (
        ("det", lex.DETERMINERS),
        ("join", lex.JOINERS),
        ("prep", lex.PREPOSITIONS),
        ("rel", lex.RELATIVES),
        ("copula", lex.COPULAS),
        ("func", lex.FUNCTION_WORDS),
        ("adj", lex.ADJECTIVES),
        ("verb", lex.VERBS),
        ("adv", lex.ADVERBS),
        ("noun", lex.NOUNS | lex.MEDIA),
    ):
        if key in keys:
            return kind
    last = unit.words[-1].key
    if len(unit.words) > 1:
        return (
            "adj"
            if last in lex.ADJECTIVES | {"style"} or _has_ending(last, lex.ADJECTIVE_ENDINGS)
            else "noun"
        )
    if len(key) > 4 and key.endswith("ing"):
        return "ing"
    if len(key) > 4 and key.endswith("ed"):
        return "ed"
    if len(key) > 4 and key.endswith("ly"):
        return "adv"
    return "adj" if _has_ending(key, lex.ADJECTIVE_ENDINGS) else "noun"


def _has_ending(key: str, endings: tuple[str, ...]) -> bool:
    return key not in lex.NOUNS and any(key.endswith(end) and len(key) >= len(end) + 2 for end in endings)


class _Reader:
    """Finds all noun phrases of a prompt; `_select` decides which of them are subjects."""

    def __init__(self, units: Sequence[_Unit]):
        self.units = list(units)
        self.kinds = [_kind(unit) for unit in units]
        self.phrases: list[_Phrase] = []
        self.open: _Phrase | None = None
        self.leads: set[str] = set()
        self.segment = 0
        self.inherited = ""  # "a photo of", "a pair of": what follows counts as having their article

    def read(self) -> list[_Phrase]:
        i = 0
        while i < len(self.units):
            i = self._step(i)
        self._close(len(self.units))
        return self.phrases

    def _step(self, i: int) -> int:
        unit, kind = self.units[i], self._kind_here(i)
        if unit.stop:
            adjectives = self.open and self.open.determiner and not self.open.nouns and kind in ("adj", "ed")
            if not (unit.stop == "," and adjectives):
                self._close(i)
                self.segment += 1
                self.leads, self.inherited = set(), ""
        if unit.ampersand:
            self._function(i, "and")
        if kind in ("adj", "noun"):
            self._extend(unit, kind)
        elif kind == "det":
            self._determiner(i, unit)
        elif kind == "copula":
            return self._copula(i)
        elif unit.key in ("of", "showing", "depicting", "featuring") and self._drops_lead_in():
            pass
        elif (
            unit.key == "by"
            and self._next_kind(i) != "det"
            or unit.key == "of"
            and self._open_head() == "style"
        ):
            self._close(i)  # an artist's name, or a style's: nothing to be seen until the next comma
            return self._next_stop(i)
        elif unit.key in ("and", "or") and self._only_attributes() and self._next_kind(i) in ("adj", "ed"):
            pass
        elif kind != "adv":
            self._function(i, _VERB if kind == "verb" else unit.key)
        return i + 1

    def _kind_here(self, i: int) -> str:
        """The kind of a unit where it stands: "running" in "a running dog" and in "a dog running"."""
        kind, unit = self.kinds[i], self.units[i]
        after = self._next_kind(i)
        if kind in ("adj", "ing", "ed") and (unit.key, self._next_key(i)) in lex.COMPOUNDS:
            return "noun"
        if unit.key == "close" and self._next_key(i) == "up":
            return "func"
        if unit.key in _SIDES and self._next_key(i) == "of":
            return "join"
        if unit.key == "that" and not self._has_noun() and after in ("noun", "adj"):
            return "det"
        if kind == "ing":
            if self._has_noun():
                return "verb"
            if after in ("noun", "adj", "ing", "ed"):
                return "adj"
            return "noun" if self.open and self.open.determiner else "verb"
        if kind == "ed":
            return "verb" if self._has_noun() or (self.open is None and after in ("prep", "")) else "adj"
        return kind

    def _next_kind(self, i: int) -> str:
        return self.kinds[i + 1] if i + 1 < len(self.units) and not self.units[i + 1].stop else ""

    def _next_key(self, i: int) -> str:
        return self.units[i + 1].key if i + 1 < len(self.units) and not self.units[i + 1].stop else ""

    def _next_stop(self, i: int) -> int:
        return next((j for j in range(i + 1, len(self.units)) if self.units[j].stop), len(self.units))

    def _has_noun(self) -> bool:
        return bool(self.open and self.open.nouns)

    def _open_head(self) -> str:
        return self.open.head if self.open and self.open.nouns else ""

    def _only_attributes(self) -> bool:
        return bool(self.open and self.open.attributes and not self.open.nouns)

    def _begin(self, determiner: str) -> _Phrase:
        phrase = _Phrase(determiner, frozenset(self.leads), self.segment)
        phrase.linked = bool(self.leads & (lex.LINKS | {_VERB}))
        self.open = phrase
        return phrase

    def _extend(self, unit: _Unit, kind: str) -> None:
        phrase = self.open or self._begin(self.inherited)
        if unit.possessive:  # "the cat's black hat" is about the hat
            phrase.attributes, phrase.nouns, phrase.determiner = [], [], "'s"
        else:
            (phrase.nouns if kind == "noun" else phrase.attributes).append(unit)

    def _determiner(self, i: int, unit: _Unit) -> None:
        if self.open and not self.open.nouns and not self.open.attributes:
            self.open.determiner = unit.key  # "all the", "her two"
            return
        self._close(i)
        self._begin(unit.key)

    def _function(self, i: int, key: str) -> None:
        self._close(i)
        if key in lex.LINKS | _SIDES | {_VERB} and self.phrases and self.phrases[-1].segment == self.segment:
            self.phrases[-1].linked = True
        self.leads.add("on" if key in _SIDES else key)

    def _drops_lead_in(self) -> bool:
        head = self._open_head()
        first_thing = head in lex.MEDIA_OR_THINGS and not self.phrases
        if self.open is None or not (head in lex.MEDIA | lex.QUANTITIES or first_thing):
            return self.open is None and not self.phrases and not self.leads
        self.inherited = self.open.determiner or "a"
        self.open = None
        return True

    def _copula(self, i: int) -> int:
        """ "(that) is red": gives the words after it to the phrase before, and returns the next index to
        read."""
        self._close(i)
        self.leads = set()
        found, j = self._predicate(i + 1)
        if self.phrases and found:
            self.phrases[-1].attributes += found
            return j
        self.leads.add(_VERB)
        return i + 1

    def _predicate(self, j: int) -> tuple[list[_Unit], int]:
        found: list[_Unit] = []
        while j < len(self.units):
            unit, kind = self.units[j], self.kinds[j]
            more = not found or self.kinds[j - 1] in ("join", "adv") or unit.stop == ","
            if unit.stop and not (unit.stop == "," and found and kind == "adj"):
                break
            if kind == "adv" or (found and unit.key in ("and", "or") and self._next_kind(j) == "adj"):
                j += 1
            elif more and (kind == "adj" or kind == "ed" and self._next_kind(j) != "prep"):
                found.append(unit)
                j += 1
            elif kind == "noun" and not found and self._next_kind(j) not in ("noun", "adj", "ing", "prep"):
                return [unit], j + 1
            elif kind in ("noun", "ing") and found and not unit.stop:
                return [], j  # "are red cats" names new things
            else:
                break
        return found, j

    def _close(self, i: int) -> None:
        phrase, self.open = self.open, None
        if phrase is None:
            return
        self.inherited = ""
        self._verb_in_s(phrase, i)
        following = self.kinds[i] if i < len(self.units) else ""
        if not phrase.nouns and phrase.attributes and phrase.attributes[-1].key in lex.QUALITIES_AND_THINGS:
            joined = phrase.leads & lex.JOINERS or following == "join"
            if phrase.determiner or (joined and len(phrase.attributes) == 1):
                phrase.nouns.append(phrase.attributes.pop())
        if phrase.nouns:
            self.phrases.append(phrase)
            self.leads -= phrase.leads

    def _verb_in_s(self, phrase: _Phrase, i: int) -> None:
        """ "a cat grooms a dog": an unknown -s word after a singular, before the next phrase, is a verb."""
        if i >= len(self.units) or self.units[i].stop or self.units[i].key in ("of", "and", "or", "with"):
            return
        singular = phrase.determiner in ("a", "an", "one") and len(phrase.nouns) > 1
        third_person = singular and phrase.head.endswith("s") and not phrase.head.endswith("ss")
        if third_person and self.kinds[i] in ("det", "prep"):
            phrase.nouns.pop()
            self.leads.add(_VERB)


# --- which phrases are subjects


def _select(phrases: Sequence[_Phrase]) -> list[_Phrase]:
    settings = _left_out(phrases)
    possible = [phrase for n, phrase in enumerate(phrases) if n not in settings]
    chosen = [p for n, p in enumerate(possible) if p.determiner or _joined(p) or _enumerated(possible, n)]
    if not chosen and (len(possible) == 1 or all(p.segment == 0 for p in possible)):
        chosen = possible[:1]
    return _without_mentions(chosen)


def _joined(phrase: _Phrase) -> bool:
    return (
        phrase.linked and "of" not in phrase.leads
    )  # "a glass of wine and a cat": wine stands in no relation


def _left_out(phrases: Sequence[_Phrase]) -> set[int]:
    out: set[int] = set()
    for n, phrase in enumerate(phrases):
        head, leads = phrase.head, phrase.leads
        also = bool(leads & {"and", "or"}) and n - 1 in out  # "with blue eyes and red hair"
        never = head in lex.QUALITY_TAGS or head in lex.MEDIA or phrase.determiner == "no"
        absent = bool(leads & {"without", "not", "as", "like", "than"})
        setting = head in lex.PLACES and (also or bool(leads & (lex.PREPOSITIONS - lex.JOINERS)))
        owned = phrase.determiner in ("her", "his", "its", "their", "'s")
        part = head in lex.PARTS and (also or owned or "with" in leads)
        if never or absent or setting or part:
            out.add(n)
    return out


def _enumerated(possible: Sequence[_Phrase], n: int) -> bool:
    """ "cat, dog and bird": is the bare phrase n followed, a comma at a time, by two that "and" joins?"""
    and_or = {"and", "or"}
    if possible[n].leads - and_or:
        return False
    for here, after in zip(possible[n:], possible[n + 1 :], strict=False):
        if here.segment == after.segment:
            return here is not possible[n] and bool(after.leads & and_or)
        if after.segment != here.segment + 1 or after.determiner or after.leads - and_or:
            return False
        if after.leads & and_or:
            return True
    return False


def _without_mentions(chosen: Sequence[_Phrase]) -> list[_Phrase]:
    """ "a cat and a dog. The cat is black": the second mention describes the first."""
    kept: dict[str, _Phrase] = {}
    out: list[_Phrase] = []
    for phrase in chosen:
        if phrase.determiner in ("the", "this", "that", "these", "those") and phrase.head in kept:
            kept[phrase.head].attributes += phrase.attributes
        else:
            kept.setdefault(phrase.head, phrase)
            out.append(phrase)
    return out


def _choice(phrase: _Phrase) -> Choice:
    words = tuple(word for unit in phrase.nouns for word in unit.words)
    return Choice(phrase.label, words, tuple(Choice(unit.text, unit.words) for unit in phrase.attributes))


# --- subjects that the user named


def _split_names(names: str) -> list[str]:
    return [name.strip() for name in re.split(r"[,;\n]", names) if name.strip()]


def _from_mark(prompt: Prompt, start: int, end: int) -> Choice:
    return _divide(prompt.words_in(start, end), f"the mark [{prompt.text[start:end]}] in 'text'")


def _divide(words: Sequence[Word], where: str) -> Choice:
    """Words that name one subject -> its noun and the describing words before it; articles are dropped."""
    units = _units(words)
    while len(units) > 1 and units[0].key in lex.DETERMINERS:
        units = units[1:]
    if any(unit.key in ("and", "or") or unit.ampersand or (unit.stop and n) for n, unit in enumerate(units)):
        raise SubjectError(
            f"{where} names more than one subject. Give each its own brackets, or a comma between."
        )
    content = [
        unit for unit in units if unit.key not in lex.PREPOSITIONS | lex.DETERMINERS | lex.ADVERBS
    ] or units
    keys = [unit.key for unit in content]
    nouns, attributes = [content[-1]], []
    for n, unit in enumerate(content[:-1]):
        describes = _kind(unit) in ("adj", "ed", "ing") and (keys[n], keys[n + 1]) not in lex.COMPOUNDS
        (attributes if describes else nouns).append(unit)
    nouns.sort(key=lambda unit: unit.words[0].start)
    spoken = units[units.index(nouns[0]) : units.index(nouns[-1]) + 1]  # keeps the "of" of "bowl of fruit"
    return Choice(
        " ".join(unit.text for unit in spoken if unit not in attributes),
        tuple(word for unit in nouns for word in unit.words),
        tuple(Choice(unit.text, unit.words) for unit in attributes),
    )


def _from_name(prompt: Prompt, phrases: Sequence[_Phrase], name: str, notes: list[str]) -> Choice:
    match = re.fullmatch(r"(.*?)\s*(?:#\s*(\d+))?", name)
    wanted, number = (match[1], int(match[2] or 0)) if match else (name, 0)
    if "#" in name and number < 1:
        raise SubjectError(f"'subjects' got {name!r}: the number after # counts from 1, as in 'cat#2'.")
    spoken = read_prompt(wanted.replace("[", "").replace("]", "")).words
    if not spoken:
        raise SubjectError(f"'subjects' got {name!r}, which has no word in it. Name a word of the prompt.")
    where = f"{name!r} in 'subjects'"
    target = _divide(spoken, where)
    places = [_divide(run, where) for run in _occurrences(prompt, target, spoken)]
    places = places or _described(phrases, target)
    if not places:
        raise _not_there(prompt, target, wanted)
    if number > len(places):
        times = "once" if len(places) == 1 else f"{len(places)} times"
        raise SubjectError(f"'subjects' got {name!r}, but {wanted!r} is in the prompt only {times}.")
    if not number and len(places) > 1:
        notes.append(
            f"{wanted!r} is in the prompt {len(places)} times; the first is taken, {wanted}#2 is the next."
        )
    return places[max(number, 1) - 1]


def _occurrences(prompt: Prompt, target: Choice, spoken: Sequence[Word]) -> list[tuple[Word, ...]]:
    """Runs of the prompt's words that say the name: exactly, or else in singular or plural."""
    drop = sum(len(unit.words) for unit in _leading_determiners(spoken))
    keys = [word.key for word in spoken[drop:]]
    runs = [prompt.words[i : i + len(keys)] for i in range(len(prompt.words) - len(keys) + 1)]
    runs = [run for run in runs if not any(set(word.gap) & set(",.;:!?") for word in run[1:])]
    exact = [run for run in runs if all(map(_says, keys, run))]
    forms = [lex.number_forms(key) for key in keys]
    return exact or [run for run in runs if all(w.key in form for w, form in zip(run, forms, strict=True))]


def _leading_determiners(words: Sequence[Word]) -> list[_Unit]:
    units = _units(words)
    count = next((n for n, unit in enumerate(units) if unit.key not in lex.DETERMINERS), len(units) - 1)
    return units[:count]


def _says(key: str, word: Word) -> bool:
    return key == word.key or (bool(word.embedding) and key in (fold(word.embedding), fold(word.text)))


def _described(phrases: Sequence[_Phrase], target: Choice) -> list[Choice]:
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
    content = [unit.words[0] for unit in _units(prompt.words) if _kind(unit) in telling] or prompt.words
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
                raise SubjectError(
                    f"{choice.label!r} is named twice. Name it once; {choice.label}#2 is the next one."
                )
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
