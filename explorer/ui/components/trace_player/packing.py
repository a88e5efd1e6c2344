"""A trace as the bytes that the trace player reads (see `explorer.ui.components.messages` for their layout).

What has been sent is not sent again while a walk grows: a message holds what may change (how far the walk is, its path on
the map) and names its parts, which never do: one scene (classes, the map's reference images), then frames, some at a time.

Pixels travel as the bytes a screen can show: `image` is the frame, `delta` the signed perturbation around mid-grey 128,
scaled so that the frame's largest change, `peak`, just fits. Distances travel as words, rounded as everywhere (`rounding.size`),
as do certified radii (rounded down);
every other number as float32, unrounded.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from explorer.core.errors import InvalidValue
from explorer.core.trace import FeaturePath, Trace
from explorer.data.pictures import amplification
from explorer.engine.rounding import size
from explorer.plots.certify import down
from explorer.plots.theme import class_color, class_shape
from explorer.ui.components import messages

MAGIC = b"TRC2"
STEPS, PASSES = "steps", "passes"  # what players of a group have in common at a moment: the step, or what was spent
CLOCKS = (STEPS, PASSES)
GREY = 128  # the byte that means "unchanged"
LISTED = 16  # addresses of frames in one part
LARGEST = 127  # bytes away from it that mean "changed as much as any pixel of this frame"


def data_url(part: bytes) -> str:
    """A part inside its own address, for a page that has no server."""
    return "data:application/octet-stream;base64," + base64.b64encode(part).decode()


def pack(
    trace: Trace,
    feature_path: FeaturePath | None,
    captions: Sequence[str],
    *,
    remark: tuple[int, str] | None = None,
    live: bool = False,
    autoplay: bool = True,
    title: str = "",
    group: str | None = None,
    clock: str = STEPS,
    other: FeaturePath | None = None,
    other_note: str = "",
    stops: Sequence[int] = (),
    publish: Callable[[bytes], str] = data_url,
) -> bytes:
    """One message with everything the player shows. `captions` has one sentence per frame; `remark` is added to one.

    `stops`: frames at which a part ends, e.g. those up to which the walk has been sent already. `publish` makes a part
    available to the browser and returns its address.
    Raises InvalidValue where captions, feature paths and trace disagree about the number of frames, the image is
    neither grey (1 channel) nor colour (3), or the clock is none of CLOCKS or counts passes that were not recorded.
    """
    _check(trace, (feature_path, other), captions, clock)
    frames = len(trace)
    ends = sorted({stop for stop in stops if 0 < stop < frames} | {frames})
    head: dict[str, Any] = {
        "title": title,
        "frames": frames,
        "planned": max(trace.planned, frames),
        "first_reached": trace.first_reached,
        "wrong_before": trace.wrong_before,
        "amplification": amplification(_largest_change(trace)),
        "remark": remark,
        "live": live,
        "autoplay": autoplay,
        "group": group,
        "clock": clock,
        "transfer": trace.conditions.get("threat") == "transfer",
        "proven": trace.proven,  # the last frame that cannot have another class; None: nothing is proven of this model
        "map": None,
        "other": None,
        "scene": publish(_scene(trace, feature_path)),
        "parts": _listed([_frames(trace, captions, a, b) for a, b in zip([0, *ends], ends, strict=False)], publish),
    }
    arrays: dict[str, np.ndarray] = {}
    if feature_path is not None:
        directions = feature_path.directions
        head["map"] = {"axes": list(feature_path.axes), "method": feature_path.method, "directions": directions}
        arrays |= {
            "path": feature_path.path.astype("<f4"),
            "progress": feature_path.progress.astype("<f4"),
            "toward": feature_path.toward.astype("<u2"),
        }
        if other is not None:
            reference = publish(messages.pack(MAGIC, {}, _reference(other)))
            head["other"] = {"axes": list(other.axes), "method": other.method, "note": other_note, "scene": reference}
            arrays["other_path"] = other.path.astype("<f4")
    return messages.pack(MAGIC, head, arrays)


def _check(trace: Trace, ways: Sequence[FeaturePath | None], captions: Sequence[str], clock: str) -> None:
    """Raises InvalidValue for what `pack` says."""
    frames, channels = len(trace), trace.frames.shape[1]
    if len(captions) != frames:
        raise InvalidValue(f"captions must hold one sentence per frame ({frames}); got {len(captions)}.")
    for way in filter(None, ways):
        if len(way.path) != frames:
            raise InvalidValue(f"the feature path must have one point per frame ({frames}); got {len(way.path)}.")
    if clock not in CLOCKS or (clock == PASSES and trace.passes is None):
        raise InvalidValue(f"clock must be {STEPS} or, where passes were recorded, {PASSES}; got {clock!r}.")
    if channels not in (1, 3):
        raise InvalidValue(f"an image must have 1 or 3 channels; got {channels}.")


def _listed(parts: Sequence[bytes], publish: Callable[[bytes], str]) -> list[str]:
    """Their addresses, so many at a time in a part of their own: the list, too, is not sent again and again."""
    urls = [publish(part) for part in parts]
    full = len(urls) - len(urls) % LISTED
    lists = [messages.pack(MAGIC, {"parts": urls[k : k + LISTED]}, {}) for k in range(0, full, LISTED)]
    return [publish(part) for part in lists] + urls[full:]


def _scene(trace: Trace, feature_path: FeaturePath | None) -> bytes:
    """What is the same from the first frame to the last."""
    head = {
        "size": [int(n) for n in (*trace.frames.shape[2:], trace.frames.shape[1])],  # H, W, C
        "classes": list(trace.classes),
        "colors": [class_color(k) for k in range(len(trace.classes))],
        "shapes": [class_shape(k) for k in range(len(trace.classes))],
        "label": int(trace.label),
        "also": trace.also,  # right, too; else the label
        "label_known": bool(trace.conditions.get("label_known", True)),  # false: it is the model's own first guess
        "target": None if trace.target is None else int(trace.target),
    }
    return messages.pack(MAGIC, head, {} if feature_path is None else _reference(feature_path))


def _reference(ground: FeaturePath) -> dict[str, np.ndarray]:
    """The reference images and the classes' centres on one map."""
    return {
        "points": ground.points.astype("<f4"),
        "point_classes": ground.point_classes.astype("<u2"),
        "centroids": ground.centroids.astype("<f4"),
    }


def _frames(trace: Trace, captions: Sequence[str], start: int, stop: int) -> bytes:
    """Frames `start` to `stop`, without `stop`."""
    rows = slice(start, stop)
    change = trace.perturbation[rows]
    peak = np.abs(change).reshape(len(change), -1).max(1)
    scale = np.divide(LARGEST, peak, out=np.zeros_like(peak), where=peak > 0)
    arrays = {
        "image": _as_bytes(trace.frames[rows] * 255),  # (T,H,W,C)
        "delta": _as_bytes(GREY + change * scale[:, None, None, None]),  # (T,H,W,C)
        "peak": peak.astype("<f4"),
        "logits": trace.logits[rows].astype("<f4"),
        "probabilities": trace.probabilities[rows].astype("<f4"),
        "margin": trace.margin[rows].astype("<f4"),
        "loss": trace.loss[rows].astype("<f4"),
        "predicted": trace.predicted[rows].astype("<u2"),
        "reached": trace.reached[rows].astype("u1"),
        "degenerate": trace.degenerate[rows].astype("u1"),
    }
    if trace.passes is not None:
        arrays["passes"] = trace.passes[rows].astype("<f4")  # counts to 16 million
    sizes = [[size(linf, "linf"), size(l2, "l2")] for linf, l2 in zip(trace.linf[rows], trace.l2[rows], strict=True)]
    radii = [] if trace.certified is None else [down(r, 4) if np.isfinite(r) else "any" for r in trace.certified[rows]]
    return messages.pack(MAGIC, {"captions": list(captions[rows]), "sizes": sizes, "radii": radii}, arrays)


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The head and the arrays of a message whose parts are data URLs, put together as the player does it.

    Raises InvalidValue if it is not one.
    """
    head, arrays = messages.unpack(MAGIC, message)
    scene, fixed = _part(head["scene"])
    frames = list(_film(head["parts"]))
    told = {name: [word for part, _ in frames for word in part[name]] for name in ("captions", "sizes", "radii")}
    rows = {name: np.concatenate([own[name] for _, own in frames]) for name in frames[0][1]}
    if head["other"]:
        fixed |= {f"other_{name}": array for name, array in _part(head["other"]["scene"])[1].items()}
    return scene | head | told, fixed | arrays | rows


def _film(urls: Sequence[str]) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    for head, arrays in map(_part, urls):
        if "parts" in head:
            yield from _film(head["parts"])
        else:
            yield head, arrays


def _part(url: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return messages.unpack(MAGIC, base64.b64decode(url.partition(",")[2]))


def _largest_change(trace: Trace) -> float:
    """Largest change of a pixel in the walk; in an Linf walk never less than eps, so that the factor holds while it grows."""
    largest = float(np.abs(trace.perturbation).max())
    eps = trace.conditions.get("eps")
    if trace.conditions.get("norm") == "linf" and isinstance(eps, int | float):
        largest = max(largest, float(eps))
    return largest


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    """(T,C,H,W) on the scale 0..255 -> (T,H,W,C) uint8, rounded to the nearest."""
    return np.clip(np.rint(pixels), 0, 255).astype("u1").transpose(0, 2, 3, 1)
