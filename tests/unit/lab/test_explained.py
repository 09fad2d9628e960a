"""The share of a picture that the demo models' art explains: exact where it can be worked out, lower where spoilt."""

import sys

import numpy as np
import pytest

from gsn.text.prompt_sets import marked_case
from lab.study import cli
from lab.study.explained import Explainer, training_scenes
from lab.study.scores import make_scorers, scored
from lab.study.study import StudyError

SCENES = training_scenes()
SPRITES = SCENES.Sprites()


@pytest.fixture(scope="module")
def explainer():
    return Explainer()


def drawn(*things, opacity=1.0):
    """A picture of (noun, size, x, y)."""
    image = SCENES.canvas()
    for noun, size, x, y in things:
        SCENES.paste(image, opacity * SPRITES.at(noun, size), x, y)
    return image


def places(found):
    return sorted((thing.noun, thing.size, thing.x, thing.y) for thing in found.things)


@pytest.mark.parametrize(
    "things",
    [
        [("cat", 56, 3, 70), ("dog", 48, 61, 5)],
        [("elephant", 48, 0, 0), ("zebra", 56, 72, 72), ("elephant", 56, 50, 1)],
        [("apple", 48, 80, 33)],
    ],
)
def test_sprites_are_found_where_they_are(explainer, things):
    picture = drawn(*things)
    found = explainer.explain(picture)
    assert found.explained == pytest.approx(1, abs=1e-6)
    assert places(found) == sorted(things) and all(thing.fit == pytest.approx(1, abs=1e-3) for thing in found.things)
    assert np.abs(found.picture - picture).max() < 1e-5


def test_nothing_explains_nothing(explainer):
    found = explainer.explain(drawn())
    assert found.explained == 0 and not found.things and not found.nouns and found.extra(["cat"]) == 0


def test_noise_is_not_explained(explainer):
    rng = np.random.default_rng(0)
    assert explainer.explain(rng.random((128, 128, 3))).explained < 0.05
    faint = drawn() + 0.02 * rng.standard_normal((128, 128, 3))
    assert explainer.explain(faint).explained == 0


def test_a_ghost_is_explained_by_what_it_has(explainer):
    """Of opacity g, the sprite over it leaves 1 - g of its ink where g was: 1 - ((1 - g) / g)^2."""
    found = explainer.explain(drawn(("bear", 56, 40, 40), opacity=0.95))
    assert places(found) == [("bear", 56, 40, 40)]
    assert found.explained == pytest.approx(1 - (0.05 / 0.95) ** 2, abs=1e-4)
    assert explainer.explain(drawn(("bear", 56, 40, 40), opacity=0.5)).explained == 0


def test_half_of_one_and_half_of_another_is_worse_than_either(explainer):
    whole = drawn(("cat", 56, 40, 40))
    half = whole.copy()
    half[:, 68:] = drawn(("car", 56, 40, 40))[:, 68:]
    lenient = Explainer(level=0.3)  # takes the better half; by the usual level nothing fits
    assert 0.2 < lenient.explain(half).explained < 0.8 < 0.999 < lenient.explain(whole).explained
    assert explainer.explain(half).explained == 0


def test_gains_are_what_pasting_gains(explainer):
    """By the Fourier transform, against sums over the box, with things already drawn."""
    rng = np.random.default_rng(1)
    picture = drawn(("cat", 56, 10, 60), ("dog", 48, 60, 10)) + 0.05 * rng.standard_normal((128, 128, 3))
    now = drawn(("cat", 56, 12, 58), ("donut", 56, 50, 50))
    back = SCENES.canvas()
    gain, covered = explainer.gains(picture - now, now - back)
    assert gain.shape == covered.shape == (24, 128, 128)
    for _ in range(60):
        number = int(rng.integers(24))
        noun, size = explainer.names[number]
        x, y = (int(v) for v in rng.integers(0, 128 - size + 1, 2))
        after = now.copy()
        SCENES.paste(after, SPRITES.at(noun, size), x, y)
        by_hand = np.square(picture - now).sum() - np.square(picture - after).sum()
        assert gain[number, y, x] == pytest.approx(by_hand, abs=1e-2)
        box = np.square(picture - now).sum(-1)[y : y + size, x : x + size]
        assert covered[number, y, x] == pytest.approx((SPRITES.at(noun, size)[..., 3] * box).sum(), abs=1e-2)
    assert np.isneginf(gain[0, 81:]).all() and np.isfinite(gain[0, :81, :81]).all()


def test_things_too_many_are_counted(explainer):
    found = explainer.explain(drawn(("cat", 48, 0, 0), ("cat", 48, 70, 0), ("dog", 48, 0, 70)))
    assert found.nouns == ("cat", "dog")
    assert [found.extra(named) for named in (["cat", "dog"], ["cat"], ["cat", "cat", "dog"], ["car"])] == [1, 2, 0, 3]


def test_columns_of_a_study():
    images = np.stack([drawn(("cat", 48, 0, 0), ("cat", 48, 70, 0)), drawn()])
    rows = scored(images, marked_case("a [cat] and a [dog]"), None, 0.5, make_scorers(["explained"], []))
    assert [(row["explained"], row["things"], row["extra"], row["explained_nouns"]) for row in rows] == [
        (1.0, 2, 1, ["cat"]),
        (0.0, 0, 0, []),
    ]


def test_pictures_of_another_size_are_refused():
    (scorer,) = make_scorers(["explained"], [])
    with pytest.raises(StudyError, match=r"128 x 128 pixels.*got 256 x 256 x 3"):
        scorer(np.zeros((1, 256, 256, 3), np.float32), marked_case("a [cat]"))


def test_other_models_are_refused_before_anything_is_written(tmp_path, capsys):
    asked = ["--model", "sd14.safetensors", "--score", "explained", "--out", str(tmp_path)]
    assert cli.main(asked) == 1
    assert "art that the demo models were trained on, and sd14.safetensors" in capsys.readouterr().err
    assert cli.main(["--score", "explaned", "--out", str(tmp_path)]) == 1
    assert "there is no score 'explaned'" in capsys.readouterr().err
    assert not (tmp_path / "study.json").exists()


def test_names_of_training_stay_free():
    path, modules = list(sys.path), {name: sys.modules.get(name) for name in ("art", "scenes")}
    sys.modules["art"] = other = object()
    try:
        assert training_scenes().SIDE == 128
        assert sys.path == path and sys.modules["art"] is other and "scenes" not in sys.modules
    finally:
        del sys.modules["art"]
    assert {name: sys.modules.get(name) for name in modules} == modules
