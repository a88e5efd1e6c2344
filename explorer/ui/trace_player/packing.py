"""A trace as the bytes that the trace player reads (see `explorer.ui.messages` for their layout).

Pixels travel as the bytes a screen can show: `image` is the frame, `delta` the signed perturbation already amplified
around mid-grey 128. Every other number (logits, loss, norms) travels as float32, unrounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explorer.core.errors import InvalidValue
from explorer.core.trace import FeaturePath, Trace
from explorer.data.pictures import amplification
from explorer.plots.theme import class_color, class_shape
from explorer.ui import messages

MAGIC = b"TRC1"
GREY = 128  # the byte that means "unchanged"


def pack(
    trace: Trace,
    feature_path: FeaturePath | None,
    captions: Sequence[str],
    *,
    live: bool = False,
    autoplay: bool = True,
    title: str = "",
    group: str | None = None,
    other: FeaturePath | None = None,
    other_note: str = "",
) -> bytes:
    """One message with everything the player shows. `captions` has one sentence per frame.

    Raises InvalidValue where captions, walkways and trace disagree about the number of frames, or the image is
    neither grey (1 channel) nor colour (3).
    """
    frames, channels = len(trace), trace.frames.shape[1]
    if len(captions) != frames:
        raise InvalidValue(f"captions must hold one sentence per frame ({frames}); got {len(captions)}.")
    for way in filter(None, (feature_path, other)):
        if len(way.path) != frames:
            raise InvalidValue(f"the walkway's path must have one point per frame ({frames}); got {len(way.path)}.")
    if channels not in (1, 3):
        raise InvalidValue(f"an image must have 1 or 3 channels; got {channels}.")

    change = trace.perturbation
    factor = amplification(_largest_change(trace, change))
    arrays: dict[str, np.ndarray] = {
        "image": _as_bytes(trace.frames * 255),  # (T,H,W,C)
        "delta": _as_bytes(GREY + change * (255 * (factor or 0.0))),  # (T,H,W,C)
        "logits": trace.logits.astype("<f4"),
        "probabilities": trace.probabilities.astype("<f4"),
        "margin": trace.margin.astype("<f4"),
        "loss": trace.loss.astype("<f4"),
        "linf": trace.linf.astype("<f4"),
        "l2": trace.l2.astype("<f4"),
        "predicted": trace.predicted.astype("<u2"),
        "reached": trace.reached.astype("u1"),
        "degenerate": trace.degenerate.astype("u1"),
    }
    head: dict[str, Any] = {
        "title": title,
        "frames": frames,
        "planned": max(trace.planned, frames),
        "size": [int(n) for n in (*trace.frames.shape[2:], channels)],  # H, W, C
        "classes": list(trace.classes),
        "colors": [class_color(k) for k in range(len(trace.classes))],
        "shapes": [class_shape(k) for k in range(len(trace.classes))],
        "label": int(trace.label),
        "label_known": bool(trace.conditions.get("label_known", True)),  # false: it is the model's own first guess
        "target": None if trace.target is None else int(trace.target),
        "first_reached": trace.first_reached,
        "amplification": factor,
        "captions": list(captions),
        "live": live,
        "autoplay": autoplay,
        "group": group,
        "transfer": trace.conditions.get("threat") == "transfer",
        "map": None,
        "other": None,
    }
    if feature_path is not None:
        head["map"] = {"axes": list(feature_path.axes), "method": feature_path.method}
        arrays |= {
            "points": feature_path.points.astype("<f4"),
            "point_classes": feature_path.point_classes.astype("u1"),
            "centroids": feature_path.centroids.astype("<f4"),
            "path": feature_path.path.astype("<f4"),
            "progress": feature_path.progress.astype("<f4"),
            "toward": feature_path.toward.astype("<u2"),
        }
    if feature_path is not None and other is not None:
        head["other"] = {"axes": list(other.axes), "method": other.method, "note": other_note}
        arrays |= {
            "other_points": other.points.astype("<f4"),
            "other_centroids": other.centroids.astype("<f4"),
            "other_path": other.path.astype("<f4"),
        }
    return messages.pack(MAGIC, head, arrays)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The head and the arrays of a message, as the player reads them. Raises InvalidValue if it is not one."""
    return messages.unpack(MAGIC, data)


def _largest_change(trace: Trace, change: np.ndarray) -> float:
    """Largest change of a pixel in the walk; in an Linf walk never less than eps, so that the factor holds while it grows."""
    largest = float(np.abs(change).max())
    eps = trace.conditions.get("eps")
    if trace.conditions.get("norm") == "linf" and isinstance(eps, int | float):
        largest = max(largest, float(eps))
    return largest


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    """(T,C,H,W) on the scale 0..255 -> (T,H,W,C) uint8, rounded to the nearest."""
    return np.clip(np.rint(pixels), 0, 255).astype("u1").transpose(0, 2, 3, 1)
