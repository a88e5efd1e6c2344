"""Figures of randomized smoothing: what is proven stands where it should, is rounded down, and never by colour alone."""

import numpy as np
import pytest

from explorer.plots import certify

NAMES = ("cat", "dog", "frog")


def by_name(figure):
    return {trace.name: trace for trace in figure.data}


@pytest.mark.parametrize("dark", [False, True])
def test_votes_of_both_kinds_are_shown_in_percent(dark):
    figure = certify.votes(np.array([0, 1, 9]), np.array([0, 30, 70]), NAMES, 2, 0.61, "lower bound", dark=dark)
    by = by_name(figure)
    assert list(by["votes that count"].x) == [0, 30, 70] and list(by["votes that count"].text) == ["", "30", "70"]
    assert list(by["choosing draws"].x) == [10, 90] and list(by["choosing draws"].y) == ["dog", "frog"]
    assert list(by["lower bound"].x) == [61.0] and list(by["lower bound"].y) == ["frog"]
    assert figure.layout.shapes[0].x0 == 50


def test_before_the_first_vote_there_is_no_bound():
    figure = certify.votes(np.zeros(3), np.zeros(3), NAMES, None, None, "lower bound")
    assert "lower bound" not in by_name(figure) and not np.isnan(np.array(by_name(figure)["votes that count"].x)).any()


def test_the_radius_firms_up_below_what_the_draws_could_reach():
    drawn, radius = np.array([10, 100, 1000]), np.array([np.nan, 0.2, 0.29999])
    figure = certify.course(drawn, radius, np.array([10, 1000]), np.array([0.0, 0.6]), 1000, 0.31239)
    by = by_name(figure)
    assert list(by["so far"].x) == [100, 1000] and list(by["so far"].customdata) == ["0.2000", "0.2999"]
    assert list(by["if all agreed"].y) == [0.0, 0.6]
    assert list(by["the certificate"].x) == [1000] and "0.3123" in by["the certificate"].hovertemplate
    nothing = certify.course(
        np.zeros(0), np.zeros(0), np.array([10, 1000]), np.array([0.0, 0.6]), 1000, None, "abstains"
    )
    assert [note.text for note in nothing.layout.annotations] == ["abstains"] and not figure.layout.annotations
    assert "the certificate" not in by_name(nothing)
    assert (
        nothing.layout.xaxis.range == figure.layout.xaxis.range
        and nothing.layout.yaxis.range == figure.layout.yaxis.range
    )


def test_a_proven_number_is_rounded_down():
    assert certify.down(0.29999, 3) == "0.299" and certify.down(0.3, 1) == "0.2" and certify.down(0.25, 2) == "0.25"


def test_the_chosen_sigma_stands_out_among_others():
    x = np.array([60.0, 99.0])
    lines = [certify.Line("σ 0.25", x, x / 100, True), certify.Line("σ 0.5", x, x / 50), certify.Line("σ 1", x, x / 25)]
    shares = certify.radius_by_share(lines, 90.0, 0.3)
    by = by_name(shares)
    assert by["σ 0.25"].line.width > by["σ 0.5"].line.width and by["σ 0.5"].line.dash != by["σ 1"].line.dash
    assert list(by["this picture"].x) == [90.0] and list(by["this picture"].y) == [0.3]
    assert "this picture" not in by_name(certify.radius_by_share(lines, None, None))
    draws = by_name(certify.radius_by_draws(lines, 1000, 0.6, None))
    assert list(draws["at this n"].x) == [1000] and list(draws["at this n"].y) == [0.6] and "this picture" not in draws


def axis(found, alarm, certified=0.5):
    eps, distance = np.array([1.0, 0.5, 0.7, 0.6]), np.array([0.9, 0.5, 0.7, 0.6])
    reached, abstained = np.array([True, False, False, False]), np.array([False, False, False, True])
    return certify.attack_axis(certified, eps, distance, reached, abstained, found, alarm)


def test_proof_and_attack_share_an_axis():
    figure = axis(0.9, False)
    by = by_name(figure)
    assert list(by["attack succeeded"].x) == [0.9] and list(by["attack failed"].x) == [0.5, 0.7]
    assert list(by["no answer (PREDICT abstains)"].x) == [0.6]
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    (proven,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert (proven.x0, proven.x1) == (0, 0.5) and figure.layout.xaxis.range[1] > 0.9


def test_an_alarm_is_red_and_nothing_else_is():
    def inks(figure):
        return {shape.fillcolor or shape.line.color for shape in figure.layout.shapes}

    assert certify.BROKEN in inks(axis(0.4, True)) and certify.BROKEN not in inks(axis(0.9, False))
    assert not [shape for shape in axis(0.9, False, certified=None).layout.shapes if shape.type == "rect"]


def test_accuracy_over_the_radius_with_bands_and_points():
    x, y = np.array([0.0, 0.5]), np.array([0.8, 0.4])
    whole = certify.Curve("here", x, y, y - 0.1, y + 0.1, 100)
    card = certify.Curve("card", x, y - 0.2, y - 0.3, y - 0.1, 500, points=True)
    figure = certify.accuracy([whole, card])
    by = by_name(figure)
    np.testing.assert_allclose(by["here"].y, [80, 40])
    np.testing.assert_allclose(by["here, low"].y, [70, 30])
    np.testing.assert_allclose(by["here, high"].y, [90, 50])
    assert by["here"].line.shape == by["here, low"].line.shape == "vh"  # never more than is proven between two radii
    np.testing.assert_allclose(by["card"].error_y.array, [10, 10])
    assert "markers" in by["card"].mode and by["here"].line.color != by["card"].line.color
    assert figure.layout.xaxis.title.text == "radius (L2)" and figure.layout.yaxis.title.text == "certified accuracy, %"


def test_no_two_cards_look_alike():
    x = np.array([0.0, 0.5])
    figure = certify.accuracy([certify.Curve(f"card {k}", x, x, x, x, 500, points=True) for k in range(20)])
    assert len({(trace.marker.color, trace.marker.symbol) for trace in figure.data}) == 20


def test_of_a_thousand_classes_those_with_votes_have_rows_and_the_rest_one():
    selection, estimation = np.zeros(1000, int), np.zeros(1000, int)
    selection[700], selection[3] = 4, 6
    estimation[:40], estimation[700], estimation[999] = 1, 90, 500
    figure = certify.votes(selection, estimation, [f"c{i}" for i in range(1000)], 3, 0.1, "bound")
    bar, choosing, bound = figure.data
    assert bar.y[:3] == ("c3", "c999", "c700") and bar.y[-1] == "990 others" and len(bar.y) == certify.ROWS + 1
    assert bar.customdata.sum() == estimation.sum() and bar.customdata[-1] == 32
    assert set(choosing.y) == {"c3", "c700"} and bound.y == ("c3",)
    first = certify.votes(np.zeros(1000, int), np.zeros(1000, int), [f"c{i}" for i in range(1000)], None, None, "bound")
    assert first.data[0].y == ("1,000 others",)


def test_votes_are_written_in_what_can_be_read_on_their_bars():
    figure = certify.votes(np.zeros(3, int), np.array([5, 3, 1]), ["a", "b", "c"], None, None, "bound")
    colors = zip(figure.data[0].marker.color, figure.data[0].insidetextfont.color, strict=True)
    assert {text for _, text in colors} <= {"#000000", "#ffffff"}
    assert (
        certify._on("#ffffff") == certify._on("#6b9e86") == "#000000"
        and certify._on("#000000") == certify._on("#3f5fb0") == "#ffffff"
    )


def looks(figure):
    """Of each curve and card its colour, mark and dash."""
    lines = [trace for trace in figure.data if trace.showlegend is not False]
    return {trace.name: (trace.line.color, trace.marker.symbol, trace.line.dash, trace.opacity) for trace in lines}


def test_colours_and_marks_belong_to_the_model_before_and_after_a_run():
    x = np.array([0.0, 0.5])
    cards = [certify.Curve(f"{k}: card", x, x, x, x, 500, points=True, owner=k) for k in ("a", "b", "c")]
    here = [certify.Curve(f"{k}: here", x, x, x, x, 10, owner=k) for k in ("b", "new")]
    among = ("a", "b", "c")
    before, after = looks(certify.accuracy(cards, among)), looks(certify.accuracy([*here, *cards], among))
    assert {name: after[name] for name in before} == before and len({look[0] for look in before.values()}) == 3
    assert after["b: here"][0] == before["b: card"][0] and after["new: here"][0] not in {
        look[0] for look in before.values()
    }
    assert after["b: here"][2:] == ("solid", None) and before["b: card"][2] == "dot" and before["b: card"][3] < 1
    alone = looks(certify.accuracy(here, among))  # the cards hidden
    assert alone == {name: after[name] for name in alone}


def test_a_second_curve_of_one_model_has_its_colour_and_another_dash():
    x = np.array([0.0, 0.5])
    first, second = looks(certify.accuracy([certify.Curve(n, x, x, x, x, 9, owner="a") for n in "12"])).values()
    assert first[0] == second[0] and (first[2], second[2]) == ("solid", "dash")
