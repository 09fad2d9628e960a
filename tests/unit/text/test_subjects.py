"""Prompts -> subjects, and subjects -> token columns, with hand-made tokenizations."""

import re

import pytest

from gsn.text.locate import TokenRow, locate_subjects
from gsn.text.parse import choose_subjects
from gsn.text.prompt import read_prompt
from gsn.text.subjects import SubjectError, TextStream, token_table


def chosen(text, names=""):
    """ "cat(red); dog" """
    choices, _ = choose_subjects(read_prompt(text), names)
    return "; ".join(
        c.label + (f"({','.join(a.label for a in c.attributes)})" if c.attributes else "") for c in choices
    )


FOUND = {
    "a photo of a red cat and a dog": "cat(red); dog",
    "a cat next to a dog and a bird": "cat; dog; bird",
    "cat next to dog and bird": "cat; dog; bird",
    "a cat, a dog and a bird": "cat; dog; bird",
    "cat, dog and bird": "cat; dog; bird",
    "A Photo Of A Cat And A DOG": "cat; dog",
    "a photo of cat": "cat",
    "red cat": "cat(red)",
    "cat on table": "cat; table",
    "cat riding bicycle": "cat; bicycle",
    "a cat & a dog": "cat; dog",
    # describing words
    "a dog that is red and a cat which is blue": "dog(red); cat(blue)",
    "a dog that is very big and red": "dog(big,red)",
    "the cat is black": "cat(black)",
    "a cat and a dog. The cat is black and fluffy": "cat(black,fluffy); dog",
    "a big, red cat and a dog": "cat(big,red); dog",
    "a red and blue cat with a hat": "cat(red,blue); hat",
    "a light-blue bird and a striped shirt": "bird(light-blue); shirt(striped)",
    "a red cat and a blue cat": "cat(red); cat#2(blue)",
    "a dog that is red, a cat which is blue": "dog(red); cat(blue)",
    # nouns
    "a red sports car and a blue teddy bear": "sports car(red); teddy bear(blue)",
    "a hot dog and a fire truck": "hot dog; fire truck",
    "a photo of an orange and a banana": "orange; banana",
    "an orange cat": "cat(orange)",
    "a t-shirt and a golden-retriever": "t-shirt; golden-retriever",
    "a cat's hat and a dog's bone": "hat; bone",
    "a photo of embedding:mycat.pt and a dog": "mycat.pt; dog",
    # numbers, quantities, verbs, pronouns
    "two cats and a dog": "cats; dog",
    "2 dogs and one cat": "dogs; cat",
    "a group of cats and a pair of shoes": "cats; shoes",
    "two cats chasing a dog": "cats; dog",
    "a red sports car and a teddy bear on a sofa": "sports car(red); teddy bear; sofa",
    "a cat chases a dog": "cat; dog",
    "a cat grooms a dog": "cat; dog",
    "a running dog and a cat running with a ball": "dog(running); cat; ball",
    "a man wearing a red hat and holding an umbrella": "man; hat(red); umbrella",
    "a woman and her dog": "woman; dog",
    "there is a cat on the mat": "cat; mat",
    # what is not a subject
    "a close-up of a cat on a sofa, 8k, masterpiece, highly detailed, cinematic lighting": "cat; sofa",
    "close up photo of a cat": "cat",
    "a black and white photo of a cat": "cat",
    "a cat on a table in the style of van gogh": "cat; table",
    "an oil painting of a frog and a turtle by Greg Rutkowski and Monet": "frog; turtle",
    "a cat by the fire": "cat; fire",
    "a cat at night in a forest": "cat",
    "a forest and a lake": "forest; lake",
    "a girl with blue eyes and red hair wearing a hat": "girl; hat",
    "a street with no cars": "street",
    "a robot as a chef": "robot",
    "a glass of wine and a cat": "glass; cat",
    "a cat to the left of a dog": "cat; dog",
    # tags
    "red car, highly detailed, 8k": "car(red)",
    "1girl, cat ears": "",
    "beautiful, stunning": "",
    # emphasis, BREAK, marks
    "((a red cat:1.3) and (dog)": "cat(red); dog",
    "a photo of a cat BREAK a photo of a dog": "cat; dog",
    "a [red cat] and a [dog] and a bird": "cat(red); dog",
    "a [cat]s and ([teddy bear]:1.2)": "cats; teddy bear",
    r"a \[cat\] and a dog": "cat; dog",
    "[the big sports car]": "sports car(big)",
}


@pytest.mark.parametrize("text", FOUND)
def test_subjects_are_found_in_the_prompt(text):
    assert chosen(text) == FOUND[text]


NAMED = [
    ("a photo of a cat and a dog", "cat, dog", "cat; dog"),
    ("a photo of a cat and a dog", "dog; cat\n", "dog; cat"),
    ("a red cat and a dog", "cat", "cat"),
    ("a red cat and a dog", "The Red CAT", "cat(red)"),
    ("a red fluffy cat", "red cat", "cat(red)"),
    ("a cat that is red", "red cat", "cat(red)"),
    ("two cats", "cat", "cats"),
    ("a cat", "cats", "cat"),
    ("two wolves and a baby", "wolf, babies", "wolves; baby"),
    ("cats and a cat", "cat", "cat"),
    ("a catapult and a Cat's hat", "cat", "cat"),
    ("a golden-retriever", "retriever", "retriever"),
    ("a café", "cafe", "café"),
    ("a bowl of fruit", "bowl of fruit", "bowl of fruit"),
    ("a [cat] and a dog", "dog", "cat; dog"),
    ("a [cat] and a dog", "cat, dog", "cat; dog"),
    ("embedding:My-Cat and a dog", "my-cat, dog", "My-Cat; dog"),
    ("embedding:mycat and a dog", "embedding:mycat", "mycat"),
    ("(cat:1.3) 猫", "猫, cat", "猫; cat"),
    ("a 🐱 and a 🐶", "🐶", "🐶"),
]


@pytest.mark.parametrize(("text", "names", "expected"), NAMED)
def test_subjects_by_name(text, names, expected):
    assert chosen(text, names) == expected


def test_the_nth_occurrence():
    prompt = read_prompt("a cat, a red cat and a catapult, Cat")
    for name, start in (("cat", 2), ("cat#2", 13), ("cat #3", 33), ("red cat", 13), ("red cat#1", 13)):
        (choice,), _ = choose_subjects(prompt, name)
        assert choice.words[-1].start == start, name
    _, notes = choose_subjects(prompt, "cat")
    assert "3 times" in notes[0]
    assert chosen(prompt.text, "cat, cat#3") == "cat; cat#3"


ERRORS = [
    ("", "", "'text' is empty"),
    (" ,\n", "cat", "'text' is empty"),
    (
        "a zebra and a horse",
        "zerba",
        r"'zerba' is not in the prompt.*Closest word: 'zebra'.*a, zebra, and, horse",
    ),
    ("a catapult", "cat", "'cat' is not in the prompt"),
    ("a cat", "blue cat", "'blue' is not in the prompt"),
    ("a blue dog and a cat", "blue cat", "not together"),
    ("a cat", "cat#2", "only once"),
    ("a cat", "cat#0", "counts from 1"),
    ("a cat", "?", "no word in it"),
    ("a cat", "cat, cat", "named twice"),
    ("a red cat", "red, red cat", "'red' and 'cat' share the word 'red'"),
    ("a cat and a dog", "cat and dog", "more than one subject"),
    ("[a cat, a dog]", "", "more than one subject"),
    ("a [cat", "", "never closed"),
    ("a cat]", "", "closes no mark"),
    ("[a [cat]]", "", "inside another"),
    ("a [] cat", "", "no word inside"),
]


@pytest.mark.parametrize(("text", "names", "message"), ERRORS)
def test_errors_say_what_to_change(text, names, message):
    with pytest.raises(SubjectError, match=re.compile(message, re.S)):
        choose_subjects(read_prompt(text), names)


def test_no_subject_is_a_note_not_an_error():
    choices, notes = choose_subjects(read_prompt("beautiful, stunning"))
    assert choices == () and "no subject was found" in notes[0]


def test_marks_go_and_everything_else_stays():
    prompt = read_prompt(r"([red cat]:1.2) \(x\) embedding:foo, \[y\] [dog]s")
    assert prompt.text == r"(red cat:1.2) \(x\) embedding:foo, [y] dogs"
    assert [prompt.text[a:b] for a, b in prompt.marks] == ["red cat", "dog"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(cat:1.3) dog", ["cat", "dog"]),
        ("((cat:1.2) dog:0.5), x:2", ["cat", "dog", "x", "2"]),
        (r"cat \(big:1.5\)", ["cat", "big", "1", "5"]),
        ("a) (cat:1.2)", ["a", "cat", "1", "2"]),
        ("(embedding:foo:1.2), embedding:b-1,x cat", ["foo", "b-1,x", "cat"]),
        ("xembedding:foo", ["xembedding", "foo"]),
    ],
)
def test_words_are_what_reaches_the_tokenizer(text, words):
    assert [word.embedding or word.text for word in read_prompt(text).words] == words


# --- locating


def stream(pieces, name="clip", offset=0):
    words = tuple(i for i, piece in enumerate(pieces) if not piece.startswith("<"))
    return TextStream(name, offset, len(pieces), words, (0,), tuple(pieces))


def row(pieces):
    return TokenRow(tuple(b"" if p.startswith("<") else p.encode() for p in pieces))


def positions(text, names, *streams):
    prompt = read_prompt(text)
    choices, _ = choose_subjects(prompt, names)
    rows = {stream(pieces, name): (row(pieces),) for name, pieces in streams}
    return locate_subjects(prompt, choices, rows)


def test_pieces_of_a_word_and_the_right_occurrence():
    pieces = ["<start>", "a", "cat", "apult", "and", "a", "c", "at", "'s", "hat", "<end>", "<pad>"]
    subjects, notes = positions("a catapult and a Cat's hat", "cat, catapult", ("clip", pieces))
    assert [s.tokens for s in subjects.items] == [{"clip": (6, 7)}, {"clip": (2, 3)}]
    assert notes == () and subjects.text_length == 12


def test_a_word_across_chunks():
    pieces = ["<start>", "a", "zeb", "<end>", "<start>", "ra", "cat", "<end>"]
    subjects, _ = positions("a zebra cat", "zebra, cat", ("clip", pieces))
    assert [s.tokens["clip"] for s in subjects.items] == [(2, 5), (6,)]


def test_two_streams_and_one_that_cannot_spell():
    clip, t5 = ["<start>", "a", "猫", "dog", "<end>"], [" ", "a", " ", "<unk>", " dog", "<end>"]
    subjects, notes = positions("a 猫 dog", "猫, dog", ("clip", clip), ("t5", t5))
    assert [s.tokens for s in subjects.items] == [{"clip": (2,)}, {"clip": (3,), "t5": (4,)}]
    assert "no token in the text encoder t5" in notes[0]
    with pytest.raises(SubjectError, match="'猫' has no token"):
        positions("a 猫 dog", "猫", ("t5", t5))


def test_a_character_split_into_bytes():
    prompt = read_prompt("naïve cat")
    choices, _ = choose_subjects(prompt, "naïve, cat")
    line = stream(["na", "?", "?", "ve", "cat"])
    spelled = TokenRow((b"na", "ï".encode()[:1], "ï".encode()[1:], b"ve", b"cat"))
    subjects, _ = locate_subjects(prompt, choices, {line: (spelled,)})
    assert [s.tokens["clip"] for s in subjects.items] == [(0, 1, 2, 3), (4,)]


def test_weights_that_a_tokenizer_takes_as_text():
    text = "(13 owls:1.3), 13 cats"
    read = ["13", " owls", ",", " 13", " cats"]
    taken_as_text = ["(", "13", " owls", ":", "1", ".", "3", "),", " 13", " cats"]
    for pieces, columns in ((read, [0, 3]), (taken_as_text, [1, 8])):
        for name, column in zip(("13#1", "13#2"), columns, strict=True):
            subjects, _ = positions(text, name, ("llm", pieces))
            assert subjects.items[0].tokens == {"llm": (column,)}


def test_embeddings_and_rows_that_differ():
    """One encoder has the embedding (2 vectors), the other leaves it out: the columns of both count."""
    prompt = read_prompt("embedding:foo cat")
    choices, _ = choose_subjects(prompt, "foo, cat")
    line = stream(["<start>", "v", "v", "cat", "<end>"])
    full = TokenRow((b"", b"", b"", b"cat", b""), ((1, 2),), frozenset({"foo"}))
    without = TokenRow((b"", b"cat", b"", b"", b""))
    subjects, _ = locate_subjects(prompt, choices, {line: (full, without)})
    assert [s.tokens["clip"] for s in subjects.items] == [(1, 2), (1, 3)]
    plain = TokenRow((b"", b"embedding", b"foo", b"cat", b""), (), None)
    subjects, _ = locate_subjects(prompt, choices, {line: (plain,)})
    assert [s.tokens["clip"] for s in subjects.items] == [(1, 2), (3,)]


def test_the_table():
    pieces = ["<start>", "red", "cat", "<end>", "<start>", "dog", "<end>", "<pad>", "<pad>"]
    prompt = read_prompt("red cat dog")
    choices, _ = choose_subjects(prompt, "red cat, dog")
    line = TextStream("clip", 0, 9, (1, 2, 5), (0, 4), tuple(pieces))
    subjects, _ = locate_subjects(prompt, choices, {line: (row(pieces),)})
    assert token_table(subjects, ("look",)).splitlines() == [
        "subjects: cat, dog",
        "",
        "clip: 9 columns from 0",
        "-- chunk 1 --",
        "   0  <start>",
        "   1  red  ○ red → cat",
        "   2  cat  ● cat",
        "   3  <end>",
        "-- chunk 2 --",
        "   4  <start>",
        "   5  dog  ● dog",
        "   6  <end>",
        "   7  <pad> x 2",
        "",
        "note: look",
    ]
    assert subjects.labels == ("cat", "dog")
