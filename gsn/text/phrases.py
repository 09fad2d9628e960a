"""The subject parser: which words of a prompt are its subjects, and which describe them.

Rules, no model, the same answer every time.

Read from left to right, a phrase is a run of describing words and nouns. A noun phrase is a subject when it
has an article, a number or a possessive, or when a word such as "and", "with", "next to", "on" or a verb
joins it to another. Left out: what the picture is ("a photo of"), how good it is ("8k"), whose style it
has, where it is set ("in a forest"), what there is none of, and parts of a subject ("with blue eyes"). Bare
tags separated by commas are subjects only when a single one of them can be meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from . import lexicon as lex
from .prompt import Word

_VERB = "<verb>"  # stands for any verb among the words that lead to a phrase
_SIDES = lex.vocabulary("front top left right side middle center centre back bottom")


@dataclass(frozen=True)
class Unit:
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
class Phrase:
    determiner: str
    leads: frozenset[str]  # the function words since the phrase before
    segment: int  # counts stretches between commas
    attributes: list[Unit] = field(default_factory=list)
    nouns: list[Unit] = field(default_factory=list)
    linked: bool = False

    @property
    def head(self) -> str:
        return self.nouns[-1].key

    @property
    def label(self) -> str:
        return " ".join(unit.text for unit in self.nouns)


def read_phrases(units: Sequence[Unit]) -> list[Phrase]:
    """Every noun phrase, in order; what "that is red" says of one is among its attributes."""
    return _Reader(units).read()


def read_units(words: Iterable[Word]) -> list[Unit]:
    units: list[Unit] = []
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
        units.append(Unit((word,), stop, ampersand="&" in gap or "+" in gap))
        stop = ""
    return units


def kind_of(unit: Unit) -> str:
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
        return "adj" if last in lex.ADJECTIVES | {"style"} or _has_ending(last, lex.ADJECTIVE_ENDINGS) else "noun"
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
    """Finds all noun phrases of a prompt; `select_subjects` decides which of them are subjects."""

    def __init__(self, units: Sequence[Unit]):
        self.units = list(units)
        self.kinds = [kind_of(unit) for unit in units]
        self.phrases: list[Phrase] = []
        self.open: Phrase | None = None
        self.leads: set[str] = set()
        self.segment = 0
        self.inherited = ""  # "a photo of", "a pair of": what follows counts as having their article

    def read(self) -> list[Phrase]:
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
        elif unit.key == "by" and self._next_kind(i) != "det" or unit.key == "of" and self._open_head() == "style":
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

    def _begin(self, determiner: str) -> Phrase:
        phrase = Phrase(determiner, frozenset(self.leads), self.segment)
        phrase.linked = bool(self.leads & (lex.LINKS | {_VERB}))
        self.open = phrase
        return phrase

    def _extend(self, unit: Unit, kind: str) -> None:
        phrase = self.open or self._begin(self.inherited)
        if unit.possessive:  # "the cat's black hat" is about the hat
            phrase.attributes, phrase.nouns, phrase.determiner = [], [], "'s"
        else:
            (phrase.nouns if kind == "noun" else phrase.attributes).append(unit)

    def _determiner(self, i: int, unit: Unit) -> None:
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

    def _predicate(self, j: int) -> tuple[list[Unit], int]:
        found: list[Unit] = []
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

    def _verb_in_s(self, phrase: Phrase, i: int) -> None:
        """ "a cat grooms a dog": an unknown -s word after a singular, before the next phrase, is a verb."""
        if i >= len(self.units) or self.units[i].stop or self.units[i].key in ("of", "and", "or", "with"):
            return
        singular = phrase.determiner in ("a", "an", "one") and len(phrase.nouns) > 1
        third_person = singular and phrase.head.endswith("s") and not phrase.head.endswith("ss")
        if third_person and self.kinds[i] in ("det", "prep"):
            phrase.nouns.pop()
            self.leads.add(_VERB)


def select_subjects(phrases: Sequence[Phrase]) -> list[Phrase]:
    settings = _left_out(phrases)
    possible = [phrase for n, phrase in enumerate(phrases) if n not in settings]
    chosen = [p for n, p in enumerate(possible) if p.determiner or _joined(p) or _enumerated(possible, n)]
    if not chosen and (len(possible) == 1 or all(p.segment == 0 for p in possible)):
        chosen = possible[:1]
    return _without_mentions(chosen)


def _joined(phrase: Phrase) -> bool:
    return phrase.linked and "of" not in phrase.leads  # "a glass of wine and a cat": wine stands in no relation


def _left_out(phrases: Sequence[Phrase]) -> set[int]:
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


def _enumerated(possible: Sequence[Phrase], n: int) -> bool:
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


def _without_mentions(chosen: Sequence[Phrase]) -> list[Phrase]:
    """ "a cat and a dog. The cat is black": the second mention describes the first."""
    kept: dict[str, Phrase] = {}
    out: list[Phrase] = []
    for phrase in chosen:
        if phrase.determiner in ("the", "this", "that", "these", "those") and phrase.head in kept:
            kept[phrase.head].attributes += phrase.attributes
        else:
            kept.setdefault(phrase.head, phrase)
            out.append(phrase)
    return out
