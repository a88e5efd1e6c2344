"""A slice's figures hold the arrays they were given, name every class, and stand on a light and a dark page."""

import numpy as np
import plotly.graph_objects as go
import pytest

from explorer.plots import slices
from explorer.plots.theme import PAGES, class_color

CLASSES = ("airplane", "cat", "dog", "frog")
SIZE = 31


@pytest.fixture
def plane():
    along, across = np.linspace(-1, 2, SIZE), np.linspace(-1.5, 1.5, SIZE)
    a, b = np.meshgrid(along, across)
    predicted = np.where(a > 0.5, 1, 3).astype(np.int16)
    predicted[b > 1.45] = 2  # one thin row
    turn = np.linspace(0, 2 * np.pi, 50)
    return {
        "along": along,
        "across": across,
        "predicted": predicted,
        "probability": np.clip(0.4 + np.abs(a - 0.5), 0, 1).astype(np.float32),
        "margin": (0.5 - a).astype(np.float32),
        "loss": np.exp(a).astype(np.float32),
        "cut": np.clip(np.abs(b) / 10, 0, 1).astype(np.float32),
        "outline": np.c_[np.cos(turn), np.sin(turn)],
    }


def class_map(plane, **changes):
    names = ("along", "across", "predicted", "probability", "margin", "cut")
    return slices.class_map(*(plane[name] for name in names), CLASSES, plane["outline"], "allowed: L2 0.5", **changes)


def traces(figure, kind):
    return [trace for trace in figure.data if isinstance(trace, kind)]


def test_each_class_has_its_own_colour_and_its_name_stands_in_the_legend_and_on_the_map(plane):
    figure = class_map(plane)
    regions = traces(figure, go.Heatmap)[0]
    shown = [1, 2, 3]
    assert np.array_equal(np.array(shown)[regions.z], plane["predicted"])
    flat = [color for _, color in regions.colorscale]
    assert flat == [class_color(k) for k in shown for _ in range(2)]
    legend = {trace.name for trace in figure.data if trace.type == "scatter" and trace.showlegend is not False}
    assert {"cat", "dog", "frog", "allowed: L2 0.5", "decision boundary"} <= legend and "airplane" not in legend
    written = {note.text: (note.x, note.y) for note in figure.layout.annotations}
    assert set(written) == {"cat", "frog"}  # the thin row is not named
    assert written["cat"][0] > 0.5 > written["frog"][0]
    assert all(abs(y) > 0.1 for _, y in written.values())  # clear of the two pictures


def test_hovering_tells_coordinates_class_and_probability(plane):
    regions = traces(class_map(plane), go.Heatmap)[0]
    name, probability, margin, cut = regions.customdata[4, 25]
    assert name == CLASSES[plane["predicted"][4, 25]] and probability == pytest.approx(plane["probability"][4, 25])
    assert margin == pytest.approx(plane["margin"][4, 25]) and cut == pytest.approx(plane["cut"][4, 25])
    for part in ("%{x:", "%{y:", "customdata[0]", "customdata[1]"):
        assert part in regions.hovertemplate


def test_boundary_and_cut_are_drawn_where_they_are_and_only_there(plane):
    lines = {line.name: line for line in traces(class_map(plane), go.Contour)}
    assert lines["decision boundary"].contours.start == 0 and np.array_equal(
        lines["decision boundary"].z, plane["margin"]
    )
    assert lines[slices._CUT].contours.start == slices.CUT
    whole = plane | {"margin": plane["margin"] + 9, "cut": plane["cut"] * 0}
    assert traces(class_map(whole), go.Contour) == []


def test_lines_go_through_the_known_points_only(plane):
    coarse = {line.name: line for line in traces(class_map(plane, stride=6), go.Contour)}["decision boundary"]
    assert np.array_equal(coarse.z, plane["margin"][::6, ::6]) and np.array_equal(coarse.x, plane["along"][::6])
    assert traces(class_map(plane, stride=SIZE), go.Contour) == []


def test_both_pictures_and_the_outline_are_marked(plane):
    points = next(t for t in traces(class_map(plane), go.Scatter) if t.text is not None)
    assert (list(points.x), list(points.y), list(points.text)) == ([0, 1], [0, 0], ["original", "attacked"])
    edge = next(t for t in traces(class_map(plane), go.Scatter) if t.name == "allowed: L2 0.5")
    assert np.array_equal(np.c_[edge.x, edge.y], plane["outline"]) and edge.line.dash == "dash"


@pytest.mark.parametrize("dark", [False, True])
def test_uncertain_answers_fade_into_the_page(plane, dark):
    page = PAGES["dark" if dark else "light"]
    veil = traces(class_map(plane, dark=dark), go.Heatmap)[1]
    rgb = ",".join(str(int(page[i : i + 2], 16)) for i in (1, 3, 5))
    assert veil.colorscale[0][1].startswith(f"rgba({rgb},") and veil.colorscale[1][1] == f"rgba({rgb},0)"
    assert veil.zmin == 1 / len(CLASSES) and veil.hoverinfo == "skip"


def test_the_loss_is_a_map_or_a_landscape_over_the_same_plane(plane):
    about = {"loss_name": "cross-entropy"}
    flat = slices.loss_map(
        plane["along"], plane["across"], plane["loss"], plane["margin"], plane["outline"], "edge", **about
    )
    assert np.array_equal(traces(flat, go.Heatmap)[0].z, plane["loss"])
    assert traces(flat, go.Heatmap)[0].colorbar.title.text == "cross-entropy"
    land = slices.loss_surface(
        plane["along"], plane["across"], plane["loss"], plane["outline"], "edge", stride=3, **about
    )
    (surface,) = traces(land, go.Surface)
    assert np.array_equal(surface.z, plane["loss"][::3, ::3]) and land.layout.scene.zaxis.title.text == "cross-entropy"
    stand = {t.name: t for t in traces(land, go.Scatter3d)}
    assert stand["attacked"].x[0] == 1 and stand["attacked"].z[0] > stand["original"].z[0]  # the loss has risen
    assert "edge" in stand


def test_axes_say_what_they_are_and_have_one_scale(plane):
    figure = class_map(plane)
    assert (
        "0 = original, 1 = attacked" in figure.layout.xaxis.title.text and "sideways" in figure.layout.yaxis.title.text
    )
    assert figure.layout.yaxis.scaleanchor == "x"
