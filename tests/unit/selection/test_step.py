"""Step selection: the paper's published tables, the weights, ties, and how sure it is."""

import math

import numpy as np
import pytest

from gsn.methods.presets import ddpm_sigma
from gsn.methods.steps import Schedule, Step
from gsn.pictures.step_selection import selection_plot
from gsn.selection.step import Cell, chance_range, place, report, select

SETS = ("2 entities", "2 coloured", "3 entities", "3 coloured")
# Grimal et al. 2025, Table 13 (SD 1.4, 10 prompts x 16 seeds) and the table of section A.2 (SD 3, 10 x 8), in percent:
# a row for each training time t, a column for each set.
TIMES = [981 - 40 * i for i in range(11)]
ALONE = """44.38 7.50 5.00 0.00 / 53.12 8.75 4.38 0.00 / 55.00 14.38 6.25 0.00 / 56.88 15.62 11.25 0.00
 / 56.88 18.75 11.88 0.00 / 60.00 14.38 10.63 0.00 / 58.13 18.13 9.38 0.00 / 61.25 15.00 11.25 0.00
 / 57.50 14.38 14.38 0.62 / 59.38 11.25 12.50 0.00 / 53.75 12.50 6.25 0.62"""
GUIDED = """69.38 20.00 32.50 2.50 / 73.12 18.75 35.62 3.75 / 76.88 21.88 36.88 1.88 / 78.13 17.50 34.38 0.62
 / 74.38 16.88 38.12 0.62 / 76.25 17.50 33.13 1.25 / 75.00 16.25 40.63 0.62 / 73.75 15.00 29.38 1.88
 / 70.62 13.75 24.38 1.25 / 70.62 8.75 21.25 1.25 / 65.62 11.88 16.88 0.62"""
SD3_TIMES = [1000, 987.4, 974.1, 960.1, 945.4]
SD3 = """81.25 27.50 61.25 12.50 / 83.75 20.00 66.25 13.75 / 87.50 22.50 66.25 16.25 / 85.00 22.50 62.50 17.50
 / 88.75 28.75 62.50 13.75"""


def published(text, times, n, leave_out=""):
    cells = []
    for time, row in zip(times, text.split("/"), strict=True):
        for name, percent in zip(SETS, row.split(), strict=True):
            successes = float(percent) / 100 * n
            assert abs(successes - round(successes)) < 0.02  # the table's percentages are whole images
            if name != leave_out:
                cells.append(Cell(Step(time, "sigma"), name, round(successes), n))
    return cells


def sums(selection):
    return {one.step.value: total for one, total in zip(selection.places, selection.totals, strict=True)}


@pytest.mark.parametrize(
    ("cells", "chosen", "expected"),
    [
        (published(SD3, SD3_TIMES, 80), 974.1, {974.1: 2.869, 945.4: 2.500, 960.1: 2.036, 987.4: 1.583, 1000: 0.857}),
        (published(GUIDED, TIMES, 160), 941, {941: 3.150, 901: 3.145, 981: 2.416, 861: 2.403}),
        # What the paper chose is 821; all four sets of its own table give 661.
        (published(ALONE, TIMES, 160), 661, {661: 3.389, 821: 2.491, 701: 2.354, 741: 2.260}),
        (published(ALONE, TIMES, 160, "3 coloured"), 821, {821: 2.491, 661: 2.389, 701: 2.354}),
    ],
    ids=["SD 3", "guided", "alone", "alone, three sets"],
)
def test_the_papers_rule_on_the_papers_tables(cells, chosen, expected):
    selection = select(cells, shrink=False)
    assert selection.chosen.step.value == chosen
    found = sums(selection)
    for time, total in expected.items():
        assert found[time] == pytest.approx(total, abs=5e-3)  # the published rates are rounded


@pytest.mark.parametrize(
    ("cells", "chosen", "weights"),
    [
        (published(SD3, SD3_TIMES, 80), 974.1, (1, 1, 0.70, 0.95)),
        (published(GUIDED, TIMES, 160), 941, (1, 1, 1, 1)),
        (published(ALONE, TIMES, 160), 821, (1, 1, 1, 0)),
    ],
    ids=["SD 3", "guided", "alone"],
)
def test_with_flat_sets_shrunk_all_four_sets_give_the_published_choices(cells, chosen, weights):
    selection = select(cells)
    assert selection.chosen.step.value == chosen
    assert [one.weight for one in selection.sets] == pytest.approx(weights, abs=5e-3)


def test_a_shrunk_set_and_an_uncertain_winner_are_said():
    selection = select(published(ALONE, TIMES, 160))
    said = report(selection)
    assert selection.wins[selection.best] == max(selection.wins)  # a set that counts nothing has no say in resamples
    assert "'3 coloured': best and worst differ by 1 of 160 images" in said and "counts 0 %" in said
    assert "not certain" in said and "sigma 661 in" in said


def cells(table, n=100, unit="index"):
    """table: set -> one count per candidate, 0, 1, 2, ..."""
    return [Cell(Step(c, unit), name, x, n) for name, counts in table.items() for c, x in enumerate(counts)]


def test_weight_by_hand():
    (one,) = select(cells({"a": (20, 22, 24)})).sets
    assert one.spread == pytest.approx(4) and one.noise == pytest.approx(math.sqrt(100 * 0.22 * 0.78))
    assert one.weight == pytest.approx(3 / math.sqrt(100 * 0.22 * 0.78))
    assert one.scaled == pytest.approx((0, 0.5, 1))


def test_a_constant_column_is_zeros_and_said():
    selection = select(cells({"flat": (50, 50, 50), "real": (10, 40, 20)}))
    flat, real = selection.sets
    assert flat.scaled == (0, 0, 0) and selection.best == 1
    assert selection.totals == pytest.approx(real.scaled)
    assert any("'flat': every candidate has the same score" in said for said in selection.warnings)


def test_nothing_to_tell_apart_is_said():
    selection = select(cells({"a": (50, 50), "b": (0, 0)}))
    assert selection.totals == (0, 0) and selection.best == 0
    assert any("means nothing" in said for said in selection.warnings)


def test_a_tie_goes_to_the_larger_mean_rate_then_to_the_earlier_step():
    tied = {"a": (10, 60, 35), "b": (60, 10, 35)}  # the sums are 1, 1, 1
    assert select(cells(tied)).best == 0 and any("the same sum" in w for w in select(cells(tied)).warnings)
    assert select(cells({"a": (10, 60), "b": (70, 10)})).best == 0
    assert select(cells({"a": (10, 70), "b": (60, 10)})).best == 1


def test_a_clear_winner_is_certain_and_the_interval_repeats():
    table = {"a": (10, 80, 30), "b": (5, 70, 20)}
    selection = select(cells(table))
    assert selection.best == 1 and selection.margin_interval[0] > 0 and selection.wins[1] > 0.999
    assert not any("not certain" in said for said in selection.warnings)
    assert select(cells(table)).margin_interval == selection.margin_interval
    low, high = selection.margin_interval
    assert low < selection.margin < high
    assert sum(selection.wins) == pytest.approx(1)


def test_more_images_narrow_the_interval():
    few, many = (select(cells({"a": tuple(x * k for x in (4, 9, 7))}, 20 * k)).margin_interval for k in (1, 50))
    assert many[1] - many[0] < (few[1] - few[0]) / 2


def test_chance_range_against_drawn_counts():
    drawn = np.random.default_rng(1).binomial(160, 0.0148, (200_000, 11))
    assert chance_range(160, 0.0148, 11) == pytest.approx(np.ptp(drawn, axis=1).mean(), abs=0.02)
    assert chance_range(160, 0.0, 11) == 0


def test_unequal_sizes_compare_rates():
    both = [Cell(Step(0, "index"), "a", 10, 20), Cell(Step(1, "index"), "a", 60, 200)]
    selection = select(both)
    assert selection.best == 0 and selection.sets[0].spread == pytest.approx(0.2 * 2 / (1 / 20 + 1 / 200))


def test_the_end_of_the_range_is_said():
    assert any("later step" in said for said in select(cells({"a": (10, 20, 60)})).warnings)
    assert not any("earlier" in said for said in select(cells({"a": (60, 20, 10)})).warnings)  # there is none
    late = [Cell(Step(c, "index"), "a", x, 100) for c, x in ((4, 60), (6, 20))]
    assert any("earlier" in said for said in select(late).warnings)


SCHEDULE = Schedule((14.6, 9.0, 5.0, 2.0, 0.0), lambda p: 14.6 * (1 - p), 14.6)


def test_a_place_in_all_units():
    for step in (Step(2, "index"), Step(5.0, "sigma"), Step(100 * (1 - 5 / 14.6), "percent")):
        one = place(step, SCHEDULE)
        assert one.index == 2 and one.sigma == pytest.approx(5) and one.percent == pytest.approx(65.753, abs=1e-2)
        assert one.best_step == Step(5.0, "sigma")
    alone = place(Step(40, "percent"))
    assert (alone.index, alone.percent, alone.sigma) == (None, 40, None) and alone.best_step == Step(40, "percent")


def test_candidates_stand_in_the_runs_order_whatever_their_unit():
    mixed = [Cell(step, "a", x, 100) for step, x in
             ((Step(2, "index"), 10), (Step(9.0, "sigma"), 60), (Step(0, "percent"), 20))]  # fmt: skip
    selection = select(mixed, SCHEDULE)
    assert [one.index for one in selection.places] == [0, 1, 2] and selection.chosen.sigma == 9
    with pytest.raises(ValueError, match="index and percent and sigma.*connect the model"):
        select(mixed)
    assert [one.sigma for one in select(published(SD3, SD3_TIMES[::-1], 80)).places] == SD3_TIMES


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "several candidates"),
        ([Cell(Step(1, "index"), "a", 1, 2)], r"only one \(1\)"),
        (cells({"a": (1, 2)}) + [Cell(Step(0, "index"), "b", 1, 100)], "set 'b' has no score at 1"),
        (cells({"a": (1, 101)}), "101 successes of 100"),
        ([Cell(Step(), "a", 1, 2), Cell(Step(1, "index"), "a", 1, 2)], "'auto'"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        select(bad)


def test_the_plot_marks_the_winner():
    times = [ddpm_sigma(2 * i) for i in range(11)]
    sheet = selection_plot(select(published(ALONE, times, 160)))
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3 and sheet.min() >= 0 and sheet.max() <= 1
    band = (sheet[0] * 255).round().int()
    columns = ((band - band.new_tensor((232, 238, 244))).abs().amax(-1) <= 1).any(0).nonzero().flatten()
    # five of eleven candidates, spaced by ratio: log(13.12 / 5.633) / log(13.12 / 2.135) of the axis
    share = math.log(times[0] / times[4]) / math.log(times[0] / times[10])
    left, right = 126, 878
    assert float(columns.float().mean()) == pytest.approx(left + share * (right - left), abs=4)


@pytest.mark.parametrize("table", [{"a": (3, 3)}, {"a": (0, 0, 1)}, {f"set {n}": (1, n + 3, 2) for n in range(9)}])
@pytest.mark.parametrize("unit", ["index", "percent"])
def test_every_table_is_drawn_and_reported(table, unit):
    selection = select(cells(table, 20, unit))
    assert selection_plot(selection).isfinite().all() and report(selection)
