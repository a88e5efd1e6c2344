"""Maps, paths and thumbnails as the bytes that the browser reads (see `explorer.ui.components.messages` for their layout)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from explorer.core import InvalidValue
from explorer.data.pictures import reduced
from explorer.plots.theme import class_color, class_shape
from explorer.ui.components import messages

MAP, SHEET = b"FMP1", b"THM1"
LARGEST = 96  # pixels a side of a thumbnail
BLOCK = 16  # a JPEG block with its colours halved: no thumbnail shares one with another


@dataclass(frozen=True, eq=False)
class Ground:
    """One model's map."""

    title: str
    axes: Sequence[str]  # d titles, d = 2 or 3
    points: np.ndarray  # (M,d) float32 reference images
    centroids: np.ndarray  # (K,d) float32
    regions: np.ndarray | None = None  # (S,S) class that has the say; row y, column x, both ascending
    extent: tuple[float, float, float, float] = (
        0,
        1,
        0,
        1,
    )  # x from and to, y from and to: centres of the outermost cells


@dataclass(frozen=True, eq=False)
class Moves:
    """The attacked images on each of the grounds: N images, T frames (perhaps another number on each ground)."""

    rows: np.ndarray  # (N,) of the thumbnails
    labels: np.ndarray  # (N,) true classes
    paths: Sequence[np.ndarray]  # of each ground: (T,N,d) float32
    predicted: Sequence[np.ndarray]  # (T,N) class at each frame
    attacked: Sequence[np.ndarray]  # (N,) bool: the others stay where they are
    off: Sequence[np.ndarray | None]  # (N,) bool: off the map in the end; None while it is not known
    steps: Sequence[Sequence[str]]  # what each frame is, in words
    images: Sequence[np.ndarray | None]  # (N,C,H,W) float32 pixels in [0,1] of the result; None while there is none
    name: str = ""  # another one is another attack: it is played from its beginning


def pack(
    grounds: Sequence[Ground],
    rows: np.ndarray,
    kinds: np.ndarray,
    classes: Sequence[str],
    dataset: str,
    moves: Moves | None = None,
    *,
    live: bool = False,
) -> bytes:
    """One message. `rows` (M,) names each reference image's thumbnail, `kinds` (M,) its class.

    Raises InvalidValue if the grounds do not show these images, or the moves do not fit the grounds.
    """
    dims = grounds[0].points.shape[1]
    for ground in grounds:
        if ground.points.shape != (len(rows), dims) or len(kinds) != len(rows) or dims not in (2, 3):
            raise InvalidValue(
                f"each map must place the same {len(rows)} images on 2 or 3 axes; got {ground.points.shape}."
            )
    arrays = {"rows": rows.astype("<u2"), "kinds": kinds.astype("<u2")}  # a row of -1, of no image, becomes 65,535
    lanes = []
    for k, ground in enumerate(grounds):
        arrays |= {f"points{k}": ground.points.astype("<f4"), f"centroids{k}": ground.centroids.astype("<f4")}
        lane = {
            "title": ground.title,
            "axes": list(ground.axes),
            "extent": list(map(float, ground.extent)),
            "regions": 0,
        }
        if ground.regions is not None:
            arrays[f"regions{k}"] = ground.regions.astype("<u2")
            lane["regions"] = len(ground.regions)
        lanes.append(lane)
    head = {
        "dataset": dataset,
        "classes": list(classes),
        "colors": [class_color(k) for k in range(len(classes))],
        "shapes": [class_shape(k) for k in range(len(classes))],
        "dims": dims,
        "live": live,
        "lanes": lanes,
        "moves": None,
    }
    if moves is not None:
        head["moves"] = _add_moves(moves, lanes, arrays, dims)
    return messages.pack(MAP, head, arrays)


def _add_moves(moves: Moves, lanes: list[dict], arrays: dict[str, np.ndarray], dims: int) -> dict:
    n = len(moves.rows)
    arrays |= {"picks": moves.rows.astype("<u2"), "labels": moves.labels.astype("<u2")}
    size = None
    for k, lane in enumerate(lanes):
        path = moves.paths[k]
        if (
            path.shape[1:] != (n, dims)
            or len(path) != len(moves.steps[k])
            or moves.predicted[k].shape != path.shape[:2]
        ):
            raise InvalidValue(f"paths must be (T,{n},{dims}), with T words and classes; got {path.shape}.")
        arrays[f"path{k}"] = path.astype("<f4")
        arrays[f"predicted{k}"] = moves.predicted[k].astype("<u2")
        arrays[f"attacked{k}"] = moves.attacked[k].astype("u1")
        off, images = moves.off[k], moves.images[k]
        if off is not None:
            arrays[f"off{k}"] = off.astype("u1")
        if images is not None:
            pixels = _interleaved(np.clip(np.rint(255 * images), 0, 255).astype("u1"))
            arrays[f"images{k}"], size = pixels, list(pixels.shape[1:])
        lane["steps"] = list(moves.steps[k])
    return {"n": n, "size": size, "name": moves.name}


def sheet(dataset: str, pixels: np.ndarray) -> bytes:
    """All pictures (n,C,H,W) uint8 in one, as JPEG: for a look, not for measuring. Raises InvalidValue for none."""
    if not len(pixels):
        raise InvalidValue("a sheet needs at least one picture; got none.")
    pixels = reduced(pixels, LARGEST)
    n, _, height, width = pixels.shape
    tall, wide = (-(-side // BLOCK) * BLOCK for side in (height, width))
    columns = math.ceil(math.sqrt(n))
    lines = -(-n // columns)
    tiles = np.zeros((lines * columns, tall, wide, 3), "u1")
    tiles[:n, :height, :width] = _interleaved(pixels)
    whole = tiles.reshape(lines, columns, tall, wide, 3).swapaxes(1, 2).reshape(lines * tall, columns * wide, 3)
    file = io.BytesIO()
    Image.fromarray(whole).save(file, "JPEG", quality=88)
    head = {"dataset": dataset, "columns": columns, "tile": [wide, tall], "size": [width, height]}
    return messages.pack(SHEET, head, {"jpeg": np.frombuffer(file.getvalue(), "u1")})


def _interleaved(pixels: np.ndarray) -> np.ndarray:
    """(n,C,H,W) of 1 or 3 channels -> (n,H,W,3)."""
    if pixels.shape[1] not in (1, 3):
        raise InvalidValue(f"a picture must have 1 or 3 channels; got {pixels.shape[1]}.")
    return np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:])).transpose(0, 2, 3, 1)
