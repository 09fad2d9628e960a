"""SynGen: a word and what describes it look at one place, all other words elsewhere (Rassin et al. 2023).

    d(a, b)  = (KL(p_a || p_b) + KL(p_b || p_a)) / 2,   p = a token's attention / its sum over the picture
    away(x)  = -mean over o of max over x's pieces of d(piece, o)
    a noun n with modifiers m: sum over m of [ max over pieces of d(m, n) + (away(n) + away(m)) / 2 ]
    a noun alone:              away(n)
    L = sum over subjects

The maps are the model's attention as it is: no second softmax, no blur. o runs over the other word pieces of the
prompt, each for itself. Usually negative, often -3 to -10.

Grimal et al. 2025 leave a leading "a photo of" out of the others (`drop_prefix`). Deviations: the words come from
`Subjects`, not from a grammatical parse, so that a noun of two words counts as one of several pieces; where two
text encoders are read, each subject has the mean of both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps
from ..text.subjects import Subject, Subjects, TextStream
from .loss import loss

_TINY = 1e-12  # below any attention that matters; half precision may have left exact zeros
_PREFIX = "aphotoof"


def syngen_refuses(subjects: Subjects, grid: tuple[int, int], entities: bool = True, drop_prefix: bool = True) -> None:
    """Raise ValueError where there is nothing to bring together and nothing to keep apart, or a word cannot be."""
    for subject in subjects.items:
        for word in (one for one in subject.attributes if not one.tokens.keys() & subject.tokens.keys()):
            raise ValueError(
                f"loss 'syngen' compares words within one text encoder, but '{word.label}' has tokens in"
                f" {' and '.join(word.tokens)} alone and '{subject.label}' in {' and '.join(subject.tokens)};"
                " write one of them in another way, or load one text encoder"
            )
    for subject in subjects.items:
        for stream in subjects.streams:
            noun, modifiers, others = _rows(stream, subject, drop_prefix)
            if noun and (modifiers or (entities and others)):
                return
    raise ValueError(
        f"loss 'syngen' would always be 0: no subject ({', '.join(subjects.labels)}) has a word that describes it, and"
        f" {'the prompt has no other word' if entities else 'its entities, the subjects without one, are off'};"
        " describe one ('a red cat') or choose attend_excite"
    )


@loss(
    "Rassin et al. 2023",
    "a subject lies where its describing words do and no other word does",
    refuse=syngen_refuses,
    binds=True,
    explains={
        "entities": "Subjects without describing words count as well.",
        "drop_prefix": "Leave a leading 'a photo of' out of the other words.",
    },
)
def syngen(maps: SubjectMaps, subjects: Subjects, entities: bool = True, drop_prefix: bool = True) -> Tensor:
    """[B], unbounded. entities: nouns without modifiers count; drop_prefix: a leading "a photo of" does not."""
    total = maps.maps.new_zeros(maps.maps.shape[0])
    streams = [stream for stream in subjects.streams if stream.name in maps.streams]
    distances = {
        stream.name: _distances(maps.attention.probabilities, stream)
        for stream in streams
        if any(stream.name in subject.tokens for subject in subjects.items)
    }
    for subject in subjects.items:
        found = []
        for stream in streams:
            noun, modifiers, others = _rows(stream, subject, drop_prefix)
            if noun and (modifiers or entities):
                found.append(_subtree(distances[stream.name], noun, modifiers, others))
        if found:
            total = total + torch.stack(found).mean(0)
    return total


def _rows(stream: TextStream, subject: Subject, drop_prefix: bool) -> tuple[list[int], list[list[int]], list[int]]:
    """The noun's pieces, each modifier's, and the others', as indices into the stream's words."""
    row = {position: index for index, position in enumerate(stream.words)}
    noun = [row[p] for p in subject.tokens.get(stream.name, ())]
    modifiers = [[row[p] for p in one.tokens[stream.name]] for one in subject.attributes if stream.name in one.tokens]
    inside = {*noun, *(index for modifier in modifiers for index in modifier)}
    first = _prefix_length(stream) if drop_prefix else 0
    return noun, modifiers, [index for index in range(first, len(row)) if index not in inside]


def _prefix_length(stream: TextStream) -> int:
    """How many of the first word pieces spell "a photo of"; T5 has pieces that spell nothing."""
    spelled = ""
    for count, position in enumerate(stream.words, 1):
        spelled += stream.pieces[position].strip("▁ ").casefold()
        if spelled == _PREFIX:
            return count
    return 0


def _distances(probabilities: Tensor, stream: TextStream) -> Tensor:
    """[B, W, W]: d of every two word pieces of the stream."""
    index = torch.tensor([stream.offset + p for p in stream.words], device=probabilities.device)
    p = probabilities.index_select(-1, index).flatten(1, 2).transpose(1, 2).clamp(min=_TINY)
    p = p / p.sum(-1, keepdim=True)
    log = p.log()
    log = log - log.mean(-1, keepdim=True)  # cancels in d, and keeps its terms as small as d itself
    own = (p * log).sum(-1)
    cross = p @ log.transpose(1, 2)
    return (own[:, :, None] + own[:, None, :] - cross - cross.transpose(1, 2)) / 2


def _subtree(distances: Tensor, noun: list[int], modifiers: list[list[int]], others: list[int]) -> Tensor:
    """[B]: one subject's share of the loss."""

    def furthest(pieces: list[int], targets: list[int]) -> Tensor:
        return distances[:, pieces][:, :, targets].amax(1)

    def away(pieces: list[int]) -> Tensor:
        return -furthest(pieces, others).mean(-1) if others else distances.new_zeros(distances.shape[0])

    if not modifiers:
        return away(noun)
    pairs = [furthest(m, noun).amax(-1) + (away(noun) + away(m)) / 2 for m in modifiers]
    return torch.stack(pairs).sum(0)
