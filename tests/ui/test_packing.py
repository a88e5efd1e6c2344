"""What the trace player receives is the trace, unrounded where it is a number and true to a screen's step where it is a pixel."""

from dataclasses import replace

import numpy as np
import pytest

from explorer.core.errors import InvalidValue
from explorer.core.trace import FeaturePath, Trace
from explorer.engine.rounding import size
from explorer.plots.theme import CLASS_COLORS, CLASS_SHAPES, PAGES, class_color, class_shape
from explorer.ui.components.trace_player.packing import GREY, LARGEST, LISTED, amplification, pack, unpack

EPS = 8 / 255


def make_trace(
    frames: int = 5, channels: int = 3, side: int = 7, classes: int = 10, eps: float = EPS, **changes
) -> Trace:
    rng = np.random.default_rng(0)
    original = rng.uniform(0.2, 0.8, (channels, side, side))
    delta = rng.uniform(-eps, eps, (frames, channels, side, side))
    delta[0] = 0
    logits = rng.normal(size=(frames, classes)).astype(np.float32)
    return Trace(
        **{
            "frames": (original + delta).astype(np.float32),
            "logits": logits,
            "features": np.zeros((frames, 4), np.float32),
            "loss": rng.normal(size=frames).astype(np.float32),
            "linf": np.abs(delta).max((1, 2, 3)),
            "l2": np.sqrt((delta**2).sum((1, 2, 3))),
            "reached": logits.argmax(1) != 2,
            "degenerate": np.zeros(frames, bool),
            "label": 2,
            "target": None,
            "classes": tuple(f"class {k}" for k in range(classes)),
            "planned": frames + 3,
            "conditions": {"norm": "linf", "eps": eps},
        }
        | changes
    )


def make_feature_path(trace: Trace) -> FeaturePath:
    rng = np.random.default_rng(1)
    frames = len(trace)
    return FeaturePath(
        points=rng.normal(size=(31, 2)).astype(np.float32),
        point_classes=rng.integers(0, 10, 31).astype(np.uint8),
        centroids=rng.normal(size=(10, 2)).astype(np.float32),
        path=rng.normal(size=(frames, 2)).astype(np.float32),
        progress=rng.uniform(size=frames),
        toward=rng.integers(0, 10, frames),
        axes=("PC 1 (34 % of variance)", "PC 2"),
    )


def words(trace: Trace) -> list[str]:
    return [f"frame {t}" for t in range(len(trace))]


@pytest.mark.parametrize("channels", [1, 3])
def test_numbers_arrive_unrounded_and_pixels_within_half_a_screen_step(channels):
    trace = make_trace(channels=channels)
    feature_path = make_feature_path(trace)
    head, arrays = unpack(pack(trace, feature_path, words(trace)))

    for name in ("logits", "probabilities", "margin", "loss", "predicted", "reached", "degenerate"):
        sent = getattr(trace, name)
        np.testing.assert_array_equal(arrays[name], sent.astype(arrays[name].dtype), err_msg=name)
    for name in ("points", "point_classes", "centroids", "path", "progress", "toward"):
        sent = getattr(feature_path, name)
        np.testing.assert_array_equal(arrays[name], sent.astype(arrays[name].dtype), err_msg=name)

    image = arrays["image"].transpose(0, 3, 1, 2) / 255
    assert np.abs(image - trace.frames).max() <= 0.5 / 255 + 1e-6
    peak = arrays["peak"][:, None, None, None]
    shown = (arrays["delta"].transpose(0, 3, 1, 2) - float(GREY)) / LARGEST * peak
    assert (np.abs(shown - trace.perturbation) <= 0.5 / LARGEST * peak + 1e-6).all()
    assert head["size"] == [7, 7, channels]


def test_head_says_what_the_player_must_know():
    trace = make_trace(target=4)
    head, _ = unpack(pack(trace, None, words(trace), live=True, autoplay=False, title="PGD · L∞"))
    assert (head["label"], head["target"], head["first_reached"]) == (2, 4, trace.first_reached)
    assert (head["frames"], head["planned"]) == (5, 8)
    assert (head["live"], head["autoplay"], head["title"], head["map"]) == (True, False, "PGD · L∞", None)
    assert head["captions"] == words(trace)
    assert head["sizes"][-1] == [size(trace.linf[-1], "linf"), size(trace.l2[-1], "l2")]
    assert head["classes"] == list(trace.classes)
    assert head["colors"] == list(CLASS_COLORS)


def test_certified_radii_arrive_rounded_down_with_the_last_step_that_they_rule_out():
    trace = make_trace(frames=4)
    head, _ = unpack(pack(trace, None, words(trace)))
    assert head["proven"] is None and head["radii"] == []
    trace = replace(trace, l2=np.array([0, 0.1, 0.3, 0.2]), certified=np.array([0.29999, 0.2, np.inf, 0]))
    head, _ = unpack(pack(trace, None, words(trace), stops=(2,)))
    assert head["proven"] == 1 and head["radii"] == ["0.2999", "0.2000", "any", "0.0000"]


def test_players_go_by_passes_only_where_they_were_recorded():
    trace = replace(make_trace(), passes=np.arange(5) * 3)
    head, arrays = unpack(pack(trace, None, words(trace), clock="passes"))
    assert head["clock"] == "passes" and arrays["passes"].tolist() == [0, 3, 6, 9, 12]
    for without, clock in ((make_trace(), "passes"), (trace, "seconds")):
        with pytest.raises(InvalidValue, match="clock must be steps"):
            pack(without, None, words(without), clock=clock)


def test_another_map_of_the_same_walk_comes_with_what_it_is_worth():
    trace = make_trace()
    feature_path, other = (
        make_feature_path(trace),
        replace(make_feature_path(trace), axes=("UMAP 1", "UMAP 2"), method="UMAP"),
    )
    head, arrays = unpack(pack(trace, feature_path, words(trace), other=other, other_note="It keeps neighbours."))
    assert (head["other"]["method"], head["other"]["note"]) == ("UMAP", "It keeps neighbours.") and head["map"][
        "method"
    ] == "PCA"
    for name in ("points", "centroids", "path"):
        np.testing.assert_array_equal(arrays[f"other_{name}"], getattr(other, name))
    assert (
        unpack(pack(trace, None, words(trace), other=other))[0]["other"] is None
    )  # it is offered beside the first only
    with pytest.raises(InvalidValue, match="one point per frame"):
        pack(trace, feature_path, words(trace), other=replace(other, path=other.path[:2]))


def test_arrays_are_aligned_and_the_message_is_small():
    trace = make_trace(frames=41, side=32)
    message = pack(trace, make_feature_path(trace), words(trace))
    head, arrays = unpack(message)
    assert all(offset % 8 == 0 for _, _, offset in head["arrays"].values())
    pixels = arrays["image"].nbytes + arrays["delta"].nbytes
    sent: list[bytes] = []
    message = pack(
        trace, make_feature_path(trace), words(trace), publish=lambda part: sent.append(part) or "/media/0.bin"
    )
    assert len(message) + sum(map(len, sent)) < pixels + 16_384


def first(trace: Trace, frames: int) -> Trace:
    rows = ("frames", "logits", "features", "loss", "linf", "l2", "reached", "degenerate")
    return replace(trace, **{name: getattr(trace, name)[:frames] for name in rows})


def test_the_message_of_a_longer_walk_begins_with_the_same_frames():
    """The player tells a growing walk from a new one by this, and a running Linf attack must not change its factor."""
    whole = make_trace(frames=9)
    part = first(whole, 2)
    (early, some), (late, all_) = unpack(pack(part, None, words(part))), unpack(pack(whole, None, words(whole)))
    assert early["amplification"] == late["amplification"]
    for name in ("image", "delta", "logits"):
        np.testing.assert_array_equal(some[name], all_[name][:2])


@pytest.mark.parametrize(
    "conditions", [{"norm": "linf", "eps": EPS}, {"norm": "l2"}]
)  # in L2 the factor changes on the way
def test_a_growing_walk_is_sent_once(conditions):
    """Looked at after each frame, the messages of a walk of 101 frames weigh less than half of the frames themselves."""
    whole, sent, messages, stops = make_trace(frames=101, side=32, conditions=conditions), {}, 0, []
    ground = make_feature_path(whole)
    whole.frames[1:] = whole.frames[:1] + np.linspace(0.1, 1, 100)[:, None, None, None] * whole.perturbation[1:]

    def publish(part: bytes) -> str:
        return sent.setdefault(part, f"/media/{len(sent):060}.bin")

    for frames in range(1, 102):
        so_far = first(whole, frames)
        walked = replace(
            ground, path=ground.path[:frames], progress=ground.progress[:frames], toward=ground.toward[:frames]
        )
        remark = (frames - 1, " Said at the end.") if frames == 101 else None
        message = pack(so_far, walked, words(so_far), remark=remark, live=frames < 101, stops=stops, publish=publish)
        messages += len(message)
        stops = [*stops, frames]
    assert len(sent) == 1 + 101 + 101 // LISTED
    assert messages + sum(map(len, sent)) < 1.5 * sum(map(len, sent))


@pytest.mark.parametrize(
    ("largest", "factor"),
    [
        (8 / 255, 15),
        (np.float32(8 / 255), 15),
        (0.5, 1),
        (1.0, 0.5),
        (0.1, 5),
        (np.float32(0.1), 5),
        (0.001, 500),
        (3e-5, 15_000),
    ],
)
def test_amplification_is_clean_and_never_clips(largest, factor):
    assert amplification(float(largest)) == factor
    assert factor * largest <= 0.5 * (1 + 1e-5)


def test_a_walk_that_changed_nothing_is_plain_grey():
    trace = make_trace(frames=1, conditions={})
    head, arrays = unpack(pack(trace, None, words(trace)))
    assert head["amplification"] is None
    assert (arrays["delta"] == GREY).all()
    assert head["first_reached"] is None


def test_not_finite_numbers_travel():
    trace = make_trace()
    trace.loss[3] = np.nan
    trace.l2[2] = np.inf
    head, arrays = unpack(pack(trace, None, words(trace)))
    assert np.isnan(arrays["loss"][3])
    assert head["sizes"][2][1] == "not finite"


def test_disagreement_is_refused_in_one_sentence():
    trace = make_trace()
    with pytest.raises(InvalidValue, match=r"one sentence per frame \(5\); got 4"):
        pack(trace, None, words(trace)[:4])
    with pytest.raises(InvalidValue, match=r"one point per frame \(5\); got 4"):
        pack(trace, make_feature_path(make_trace(frames=4)), words(trace))
    with pytest.raises(InvalidValue, match="1 or 3 channels; got 2"):
        pack(make_trace(channels=2), None, words(trace))
    with pytest.raises(InvalidValue, match="starts with"):
        unpack(b"PNG....")


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("page", PAGES.values())
@pytest.mark.parametrize("color", CLASS_COLORS)
def test_class_colours_stand_out_from_both_pages(color, page):
    low, high = sorted((luminance(color), luminance(page)))
    assert (high + 0.05) / (low + 0.05) >= 3


def test_colour_and_shape_name_a_class_up_to_a_hundred():
    assert len(set(CLASS_COLORS)) == len(set(CLASS_SHAPES)) == 10
    assert len({(class_color(k), class_shape(k)) for k in range(100)}) == 100


def test_the_head_names_the_group_and_says_what_was_transferred():
    trace = make_trace()
    alone, _ = unpack(pack(trace, None, words(trace)))
    assert (alone["group"], alone["transfer"]) == (None, False)
    shown = replace(trace, conditions=trace.conditions | {"threat": "transfer"})
    head, _ = unpack(pack(shown, None, words(shown), group="comparison 3"))
    assert (head["group"], head["transfer"]) == ("comparison 3", True)
