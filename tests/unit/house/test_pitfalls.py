"""Where the reference codes of these methods go wrong, or are easily misread, and the test that would notice it here.

The numbers are those of the notes on the reference codes from which the pack was written; those missing here are not
about arithmetic. Each test was seen to fail with its pitfall put into the code.
"""

import ast
import math
from pathlib import Path

import pytest
import torch

from gsn.attention.maps import AttentionMaps, Earlier, MapProcessing, SubjectMaps, smooth, subject_maps
from gsn.interventions.context import Context, History
from gsn.interventions.guide import Guide
from gsn.interventions.levels import INITNO_LEVELS
from gsn.interventions.refine import Refine
from gsn.losses import LOSSES
from gsn.losses.objective import Evaluation, objective
from gsn.methods.model_presets import MODEL_PRESETS
from gsn.methods.presets import PRESETS
from gsn.methods.steps import Schedule
from gsn.text.subjects import Subject, Subjects, TextStream
from gsn.trace import StepInfo, Trace

TESTS = Path(__file__).parents[2]

PITFALLS = {
    # the second softmax, and over which columns
    1: ("unit/losses/test_losses.py::test_golden_vectors",
        "unit/house/test_pitfalls.py::test_padding_competes_in_sd1_alone"),
    # the text's small share of a joint softmax: kept as it is, and stretched by the same factor
    2: ("unit/losses/test_losses.py::test_golden_vectors_of_two_encoders",
        "unit/house/test_pitfalls.py::test_padding_competes_in_sd1_alone",
        "comfy/families/test_families.py::test_maps_and_gradient"),
    # the network's input is scaled in the refinement's calls as well
    3: ("comfy/methods/test_reference.py::test_refinement_equals_an_independent_one_on_diffusers",),
    # rates are for the variance-preserving latent
    4: ("comfy/methods/test_reference.py::test_refinement_equals_an_independent_one_on_diffusers",),
    # Adam's eps belongs to the method
    5: ("unit/interventions/test_inner_loops.py::test_adam_walks_the_known_way",),
    # the latent is not rounded to the model's precision
    6: ("comfy/methods/test_pitfalls.py::test_small_updates_of_a_bf16_models_latent_are_not_rounded_away",),
    # signs and directions
    7: ("unit/house/test_pitfalls.py::test_every_loss_falls_as_the_picture_gets_better",
        "unit/house/test_pitfalls.py::test_every_loss_is_among_these",
        "unit/losses/test_losses_separation.py::test_a_second_spot_is_what_clean_takes_away",
        "unit/house/test_pitfalls.py::test_a_negative_level_is_reached_from_above"),
    # attention that is exactly zero
    8: ("unit/losses/test_losses_binding.py::"
        "test_syngen_with_attention_that_underflowed_is_finite_and_has_a_finite_gradient",),
    9: ("unit/losses/test_losses.py::test_maps_that_are_zero_do_not_divide_by_zero",),
    # SynGen's other words
    10: ("unit/house/test_pitfalls.py::test_syngens_other_words_are_all_between_the_prefix_and_the_end",),
    # finding words
    11: ("unit/text/test_subjects.py::test_the_nth_occurrence",
         "unit/text/test_subjects.py::test_errors_say_what_to_change",
         "unit/text/test_subjects.py::test_subjects_by_name", "unit/text/test_subjects.py::test_a_word_across_chunks",
         "unit/text/test_subjects.py::test_two_streams_and_one_that_cannot_spell"),
    # the kernel's own idea of sigma
    12: ("unit/losses/test_losses.py::test_blur_of_one_pixel_and_at_a_corner",),
    # levels of attention or of variation, given as levels of losses
    13: ("unit/house/test_pitfalls.py::test_levels_are_those_of_losses",),
    # where the text stands in a joint softmax, and which attention sees none
    14: ("comfy/families/test_families.py::test_maps_and_gradient",),
    # steps count from 0, and "the first 25" are 0 to 24
    16: ("unit/methods/test_steps.py::test_units", "unit/house/test_pitfalls.py::test_the_papers_steps_in_its_own_run"),
    # which step the published tables give
    17: ("unit/selection/test_step.py::test_the_papers_rule_on_the_papers_tables",
         "unit/selection/test_step.py::test_with_flat_sets_shrunk_all_four_sets_give_the_published_choices"),
    # Otsu's threshold: whole levels, maps that have one or none, no recursion
    18: ("unit/losses/test_losses_separation.py::test_golden_otsu_mask_and_peaks",
         "unit/losses/test_losses_separation.py::test_masks_again_in_loops",
         "unit/losses/test_losses_separation.py::test_a_map_of_one_level_is_a_mask_of_ones",
         "unit/losses/test_losses_separation.py::test_a_component_follows_a_winding_way_and_no_diagonal"),
    # one image's success is its own
    20: ("unit/house/test_pitfalls.py::test_an_image_that_is_done_leaves_the_others_losses_alone",),
    # height and width
    22: ("unit/house/test_pitfalls.py::test_a_map_that_is_not_square_keeps_its_places",
         "unit/losses/test_losses_binding.py::test_boxes_again_in_loops",
         "comfy/families/test_families.py::test_maps_and_gradient",
         "comfy/families/test_map_grids.py::test_of_every_family"),
    # SynGen: every image of a batch, every noun of a prompt
    23: ("unit/losses/test_losses_binding.py::test_an_image_does_not_change_another_and_the_bounds_hold",
         "unit/text/test_subjects.py::test_subjects_are_found_in_the_prompt"),
    # InitNO+ refines by four losses and guides by one
    24: ("unit/house/test_pitfalls.py::test_initno_plus_guides_by_attend_excite_alone",),
    # a reflected border needs two cells
    25: ("unit/house/test_pitfalls.py::test_maps_of_any_size_are_blurred",),
    # where a maximum is reached twice
    26: ("unit/house/test_pitfalls.py::test_cells_and_subjects_that_tie_share_the_gradient",),
    # half precision
    27: ("comfy/methods/test_pitfalls.py::test_logits_that_overflow_half_precision_are_computed_in_single",
         "comfy/methods/test_pitfalls.py::test_a_gradient_too_small_for_half_precision_arrives",
         "unit/interventions/test_inner_loops.py::test_loss_scale_is_divided_out_and_halved_on_overflow"),
    # SAGA: the scale only shrinks, the variance is learned as its logarithm, every image has its own noise
    28: ("unit/interventions/test_noise_interventions.py::test_the_distribution_is_the_dense_one_in_float64",
         "unit/interventions/test_noise_interventions.py::test_the_mean_is_held_to_the_scale_of_the_estimate",
         "unit/interventions/test_noise_interventions.py::"
         "test_the_mean_finds_the_known_optimum_and_images_are_drawn_with_their_own_noise"),
    # a mean over pairs
    29: ("unit/losses/test_losses.py::test_golden_vectors",),
    # both calls of classifier-free guidance see the optimised latent
    30: ("comfy/methods/test_pitfalls.py::test_both_branches_see_the_refined_latent",),
}  # fmt: skip


@pytest.mark.parametrize("number", PITFALLS)
def test_the_named_tests_exist(number):
    for named in PITFALLS[number]:
        file, name = named.split("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], named


def test_padding_competes_in_sd1_alone():
    """The released constants of SD 1.x are for 75 columns, those of all others for the words."""
    for name, preset in MODEL_PRESETS.items():
        assert (preset.columns == "padded") == (name == "sd1"), name
        assert preset.processing("auto", "average") == MapProcessing(preset.columns, contrast=100.0, blur=0.5)


# ---- a prompt of four words whose places in the picture are given

PIECES = ("<start>", "red", "car", "and", "bow", "<end>")


def stream(pieces):
    words = tuple(p for p, piece in enumerate(pieces) if not piece.startswith("<"))
    return TextStream("clip", 0, len(pieces), words, (0,), tuple(pieces))


RED = Subject("red", {"clip": (1,)})
CAR = Subject("car", {"clip": (2,)}, (RED,), box=(0.0, 0.0, 0.5, 1.0))
BOW = Subject("bow", {"clip": (4,)}, box=(0.5, 0.0, 1.0, 1.0))
CAR_AND_BOW = Subjects("red car and bow", (CAR, BOW), (stream(PIECES),))
GOOD = {"red": "left", "car": "left", "bow": "right"}


def seen(**places):
    """Attention [1, 4, 6, T] of words that lie in the left or right half of the picture, or nowhere in particular.

    Every cell of the picture attends to its own half.
    """
    values = torch.full((1, 4, 6, len(PIECES)), 0.02)
    for word, place in places.items():
        halves = {"left": slice(0, 3), "right": slice(3, 6), "nowhere": slice(0, 0)}
        values[:, :, halves[place], PIECES.index(word)] = 0.2
    left = (torch.arange(6) < 3).expand(4, 6)

    def rows(cells):
        return torch.where(((cells % 6) < 3)[..., None, None], left, ~left) / 12

    return AttentionMaps(values, values, rows)


WORSE = [
    ("attend_excite", {"bow": "nowhere"}),
    ("iou", {"bow": "left"}),
    ("syngen", {"red": "right"}),
    ("syngen", {"bow": "left"}),
    ("tv", {"bow": "nowhere"}),
    ("tv_bind", {"bow": "nowhere"}),
    ("tv_bind", {"red": "right"}),
    ("box_inner", {"car": "right"}),
    ("boxdiff", {"bow": "left"}),
    ("box_retention", {"bow": "left"}),
    ("self_conflict", {"bow": "left"}),
    ("alignment", {"bow": "left"}),
    ("segregation", {"bow": "left"}),
    ("retention", {"car": "right"}),
    ("focus", {"bow": "left"}),
    ("conform", {"bow": "left"}),
    ("conform", {"red": "right"}),
    ("self_cross", {"bow": "left"}),
]


@pytest.mark.parametrize("name, worse", WORSE)
def test_every_loss_falls_as_the_picture_gets_better(name, worse):
    """The picture of the step before was the good one."""
    settings = {"coefficient": 50.0} if name == "tv_bind" else {}  # its other part is the larger one in small maps
    processing = MapProcessing("words", contrast=10.0)
    before = subject_maps(seen(**GOOD), CAR_AND_BOW, processing).maps

    def value(attention):
        maps = subject_maps(attention, CAR_AND_BOW, processing, Earlier(before, before))
        return float(LOSSES[name].function(maps, CAR_AND_BOW, **settings))

    good, bad = value(seen(**GOOD)), value(seen(**(GOOD | worse)))
    assert good < bad - 0.01
    low, high = LOSSES[name].bounds
    assert low <= good and bad <= high


def test_every_loss_is_among_these():
    assert {name for name, _ in WORSE} | {"clean"} == set(LOSSES), "clean's test is beside its formula"


def test_syngens_other_words_are_all_between_the_prefix_and_the_end():
    """Also behind the last subject, with and without the prefix, with and without describing words."""
    pieces = ("<start>", "a", "photo", "of", "a", "red", "cat", "near", "old", "trees", "<end>", "<pad>")
    others = {True: {4, 7, 8, 9}, False: {1, 2, 3, 4, 7, 8, 9}}
    attributes = (Subject("red", {"clip": (5,)}),)
    torch.manual_seed(0)
    attention = torch.rand(1, 3, 4, len(pieces), dtype=torch.float64)
    for described in (attributes, ()):
        cat = Subjects("", (Subject("cat", {"clip": (6,)}, described),), (stream(pieces),))
        for drop_prefix, wanted in others.items():
            leaf = attention.clone().requires_grad_(True)
            maps = subject_maps(AttentionMaps(leaf), cat, MapProcessing())
            LOSSES["syngen"].function(maps, cat, drop_prefix=drop_prefix).sum().backward()
            looked_at = set(leaf.grad.abs().amax((0, 1, 2)).nonzero().flatten().tolist())
            assert looked_at == wanted | {5, 6}


# ---- levels and steps


class Known:
    """Loss 0.5 |z - target|^2 - depth per image, as objective and forward at once."""

    subjects = None
    terms = ()

    def __init__(self, target, depth=0.0):
        self.target, self.depth = target, depth
        self.history = History()

    def __call__(self, latent, rows):
        return AttentionMaps(latent)

    def evaluate(self, attention, subjects, processing, earlier):
        loss = 0.5 * (attention.probabilities - self.target).square().flatten(1).sum(1) - self.depth
        return Evaluation(loss, {"known": loss}, attention.probabilities.abs())


def refined(refine, latent, model):
    opened = Context(StepInfo(3, 5.6, 0.2), 50, model, MapProcessing(), Trace())
    return refine.apply(latent, (model,), opened), opened.trace.stops[0].iterations


def test_a_negative_level_is_reached_from_above():
    """At or below -0.3: an image at -0.4 is done, one at -0.2 is not."""
    latent = torch.tensor([0.1, 0.3]).mul(2).sqrt().view(2, 1, 1, 1)
    moved, updates = refined(Refine(4, 1e-4, "sgd", stop=(("known", -0.3),)), latent, Known(0.0, depth=0.5))
    assert updates == [0, 4]
    assert torch.equal(moved[0], latent[0]) and not torch.equal(moved[1], latent[1])


def test_an_image_that_is_done_leaves_the_others_losses_alone():
    latent, model = torch.tensor([-1.0, 0.99, 2.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2).clone(), Known(1.0)
    refine = Refine(6, 0.05, stop=(("total", 0.01),))
    together, updates = refined(refine, latent, model)
    assert updates == [6, 0, 6]
    for b in range(3):
        assert torch.equal(refined(refine, latent[b : b + 1], model)[0], together[b : b + 1])


def levels(name):
    """Loss levels of a preset's refinements, in the order of its steps."""
    return [move.intervention.stop for move in PRESETS[name].moves if isinstance(move.intervention, Refine)]


def test_levels_are_those_of_losses():
    """Chefer et al.'s 0.05, 0.5, 0.8 are of the attention, Li et al.'s 0.05, 0.2, 0.3 of the variation: there more is
    better. Guo et al.'s are of the losses."""
    excite = [(("attend_excite", level),) for level in (0.95, 0.5, 0.2)]
    inner = [(("box_inner", level),) for level in (0.95, 0.5, 0.2)]
    variation = [(("tv", -level),) for level in (0.05, 0.2, 0.3)]
    assert levels("Attend&Excite") == excite and levels("BoxDiff") == inner
    assert levels("Divide&Bind") == [*variation, *variation]  # without describing words, and with them
    assert [dict(one) for one in levels("InitNO+")] == [dict(INITNO_LEVELS)] * 2
    assert dict(INITNO_LEVELS) == {"attend_excite": 0.2, "self_conflict": 0.3}
    assert objective("tv").lowest("tv") == -2 and objective("attend_excite").lowest("attend_excite") == 0


def ddpm(steps=50):
    """SD 1.4's noise levels over 50 steps: t = 981, 961, ..., 1."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    sigmas = ((1 - kept) / kept).sqrt()
    levels = [float(sigmas[981 - 20 * i]) for i in range(steps)]
    return Schedule((*levels, 0.0), lambda p: float(sigmas[round(999 * (1 - p))]) if p > 0 else 1e9, float(sigmas[-1]))


FIRST_25 = tuple(range(25))


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("Ours", [8]),
        ("Ours+", [2, tuple(range(3, 25))]),
        ("SynGen", [FIRST_25]),
        ("SynGen+", [0, FIRST_25]),
        ("Attend&Excite", [0, 10, 20, FIRST_25]),
        ("BoxDiff", [0, 10, 20, FIRST_25]),
        ("InitNO", [0]),
        ("InitNO+", [0, 10, 20, FIRST_25]),
        ("A-STAR", [FIRST_25]),
        ("SAGA", [10]),
        ("SAGA+", [6, tuple(range(6, 25))]),
    ],
)
def test_the_papers_steps_in_its_own_run(name, wanted):
    run, found = ddpm(), []
    for move in PRESETS[name].moves:
        none = (math.nan, math.nan)  # these presets leave no step to the model
        one = run.find(move.first, math.nan) if move.last is None else run.between(move.first, move.last, none)
        found.append(one)
    assert found == wanted


def test_initno_plus_guides_by_attend_excite_alone():
    names = {Guide: [], Refine: []}
    for move in PRESETS["InitNO+"].moves:
        if type(move.intervention) in names:
            names[type(move.intervention)].append({term.loss for term in move.objective.terms if term.weight})
    assert names[Guide] == [{"attend_excite"}]
    assert names[Refine] == [{"attend_excite", "self_conflict", "clean", "alignment"}] * 2


# ---- maps


def test_a_map_that_is_not_square_keeps_its_places():
    """Rows first: a word that lies at row 1, column 4 of 3 x 5 cells has its peak and its blur there."""
    attention = torch.full((1, 3, 5, len(PIECES)), 0.01)
    attention[0, 1, 4, 4] = 0.5
    maps = subject_maps(AttentionMaps(attention), CAR_AND_BOW, MapProcessing("words")).maps[0, 1]
    assert maps.shape == (3, 5) and int(maps.argmax()) == 1 * 5 + 4
    above, below, beside = maps[0, 4], maps[2, 4], maps[1, 3]
    assert above == below and above > maps[0, 2] and beside > maps[1, 2]


@pytest.mark.parametrize("h, w", [(1, 1), (1, 7), (7, 1), (2, 2), (2, 3), (3, 5)])
def test_maps_of_any_size_are_blurred(h, w):
    """A constant map stays itself, and a corner's cell loses a part to its neighbours, where it has any."""
    assert torch.allclose(smooth(torch.ones(1, 2, h, w), 0.5), torch.ones(1, 2, h, w))
    corner = torch.zeros(1, 1, h, w)
    corner[..., 0, 0] = 1
    blurred = smooth(corner, 0.5)
    assert torch.isfinite(blurred).all() and int(blurred.argmax()) == 0
    assert (float(blurred[0, 0, 0, 0]) < 1) == (h * w > 1)


def test_cells_and_subjects_that_tie_share_the_gradient():
    """A picture that is its own mirror image stays one: neither side is preferred, and neither of two subjects."""
    half = torch.rand(1, 1, 4, 3, generator=torch.Generator().manual_seed(0))
    leaf = torch.cat([half, half.flip(3)], 3).expand(1, 2, 4, 6).clone().requires_grad_(True)
    maps = SubjectMaps(leaf, AttentionMaps(torch.ones(1, 4, 6, len(PIECES))))
    LOSSES["attend_excite"].function(maps, CAR_AND_BOW).sum().backward()
    gradient = leaf.grad
    assert torch.equal(gradient, gradient.flip(3)) and torch.equal(gradient[:, 0], gradient[:, 1])
    assert float(gradient.sum()) == pytest.approx(-1) and int((gradient < 0).sum()) == 4
    flat = torch.full((1, 2, 4, 6), 0.2, requires_grad=True)
    LOSSES["attend_excite"].function(SubjectMaps(flat, maps.attention), CAR_AND_BOW).sum().backward()
    assert (flat.grad < 0).all(), "a plateau is raised as a whole"
