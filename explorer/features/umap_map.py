"""A UMAP of reference images (arXiv:1802.03426), computed ahead and kept as arrays; new points by their neighbours.

umap-learn takes long to import and to fit, and places a point differently alone and in a batch. So only `compute`
imports it, in a process of its own (`python -m explorer features NAME`); everything else needs the arrays alone.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor

from explorer.core import ExplorerError, InvalidValue
from explorer.core.files import write_atomically
from explorer.data.folders import cache_folder
from explorer.features.measures import trustworthiness
from explorer.features.neighbours import K, Neighbours, exact
from explorer.features.pca import class_means, turning
from explorer.features.reference import Reference, metadata
from explorer.models import zoo

LIBRARIES = ("umap-learn", "pynndescent", "numba", "scikit-learn", "numpy")


class NoMap(ExplorerError):
    """There is no UMAP that belongs to this model; `reason` is "missing", "stale" or "damaged"."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class UmapSettings:
    """What a UMAP is computed with; kept beside it."""

    neighbours: int = 15
    min_dist: float = 0.1
    metric: str = "euclidean"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Embedding:
    """A UMAP of reference images. Axes, distances and sizes of its clusters mean little; who stands beside whom does.

    A new point is placed between its K nearest reference images in feature space (see `place`), so it can never leave
    the cloud: `Neighbours.gauge` says how far it is from anything that the map is made of.
    """

    method: ClassVar[str] = "UMAP"
    axes: ClassVar[tuple[str, str]] = ("UMAP 1", "UMAP 2")

    points: Tensor  # (M,2) float32
    labels: Tensor  # (M,) int64
    classes: tuple[str, ...]
    centers: Tensor  # (K,D) float64, mean features of each class
    centroids: Tensor  # (K,2) float32, mean of each class's points on the map
    neighbours: Neighbours
    directions: bool = False  # as of `Reference`
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # "recipe" (its UmapSettings), trustworthiness, weights, versions

    @property
    def trustworthiness(self) -> float:
        """With `facts["trustworthiness_k"]` neighbours; see `explorer.features.trustworthiness`."""
        return self.facts["trustworthiness"]

    def place(self, features: Tensor | np.ndarray) -> Tensor:
        """(n,2) float32 of features (n,D): the mean of the K nearest references' places, weighted by distance.

        The weights are ((R - d) / (R d))^2, R the distance of the next one (Franke and Nielson 1980): a reference image
        lands on its own point, and nothing jumps where one neighbour replaces another. In float64, each point by
        itself: the same alone and in a batch. Raises InvalidValue if there are no more than K references.
        """
        distances, near = self.neighbours.nearest(features, K + 1)
        reach, distances = distances[:, K:], distances[:, :K]
        nearest = distances[:, :1]
        closeness = torch.where(distances > nearest, nearest / distances, 1.0)  # 1 for the nearest
        weights = (closeness * (reach - distances) / reach) ** 2
        weights = torch.where(weights.sum(1, keepdim=True) > 0, weights, 1.0)  # all equally far, NaN if all are here
        placed = (weights[:, :, None] * self.points.double()[near[:, :K]]).sum(1) / weights.sum(1, keepdim=True)
        return placed.float()

    def turned_onto(self, other: Embedding) -> Embedding:
        """The same map turned, perhaps mirrored, and moved so that the same images lie as near `other`'s as they can."""
        turn = turning(self.points, other.points)
        middle, there = self.points.double().mean(0), other.points.double().mean(0)
        moved = {
            name: ((getattr(self, name).double() - middle) @ turn + there).float() for name in ("points", "centroids")
        }
        return dataclasses.replace(self, **moved)


def compute(
    reference: Reference,
    weights: str,
    settings: UmapSettings = UmapSettings(),
    say: Callable[[str], None] = lambda doing: None,
) -> bytes:
    """The UMAP of a model's reference features as a safetensors file. Imports umap-learn: for a process of its own.

    Raises InvalidValue for fewer points than neighbours and for features that are not finite.
    """
    points = exact(reference.features).float().numpy()
    if not 2 <= settings.neighbours < len(points):
        raise InvalidValue(
            f"a UMAP with {settings.neighbours} neighbours needs more than {settings.neighbours} points; got {len(points)}."
        )
    say("Loading umap-learn")
    import umap

    say(f"Laying out {len(points):,} images")
    fit = umap.UMAP(
        n_components=2, n_neighbors=settings.neighbours, min_dist=settings.min_dist, metric=settings.metric,
        random_state=settings.seed, n_jobs=1,
    )  # fmt: skip
    laid = np.ascontiguousarray(fit.fit_transform(points), dtype=np.float32)
    say("Measuring which neighbourhoods it keeps")
    facts = {
        "recipe": asdict(settings),
        "dataset": reference.dataset,
        "images": len(points),
        "trustworthiness": round(trustworthiness(points, laid, min(K, (len(points) - 1) // 2)), 4),
        "trustworthiness_k": min(K, (len(points) - 1) // 2),
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
    }
    tensors = {"points": torch.from_numpy(laid), "index": reference.index.contiguous()}
    return save(tensors, metadata={"weights": weights, "facts": json.dumps(facts)})


def places(name: str, weights: str) -> tuple[Path, Path]:
    """Where a model's UMAP is looked for: beside its card, and in the user's cache folder."""
    card = zoo.card_path(name)
    return card.with_name(f"{card.stem}.umap.safetensors"), cache_folder() / "umap" / f"{weights[:32]}.safetensors"


def keep(name: str, weights: str, data: bytes, beside: bool) -> Path:
    """Store a computed UMAP beside the model's card, to be shipped, or else in the user's cache folder."""
    file = places(name, weights)[0 if beside else 1]
    write_atomically(file, data)
    return file


def find(name: str, weights: str, reference: Reference, neighbours: Neighbours) -> Embedding:
    """The UMAP of the model with these very weights and of these very images; raises NoMap."""
    if not name:
        raise NoMap("missing", "A model without a name has no UMAP map.")
    refused = None
    for file in places(name, weights):
        try:
            return _read(file, name, weights, reference, neighbours)
        except FileNotFoundError:
            continue
        except NoMap as why:
            refused = refused or why
    raise refused or NoMap("missing", f"There is no UMAP map of {name} yet: {_remedy(name)}.")


def _read(file: Path, name: str, weights: str, reference: Reference, neighbours: Neighbours) -> Embedding:
    try:
        data = file.read_bytes()
        stored, about = parse(data), metadata(data)
        points, index, facts = stored["points"].float(), stored["index"], json.loads(about["facts"])
        finite = points.shape == (len(index), 2) and bool(torch.isfinite(points).all())
        if not (finite and {"trustworthiness", "trustworthiness_k"} <= facts.keys()):
            raise ValueError("incomplete")
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise NoMap("damaged", f"The UMAP map {file.name} cannot be read: {_remedy(name)}.") from error
    if about.get("weights") != weights:
        raise NoMap(
            "stale", f"The UMAP map {file.name} was made with other weights than {name} has now: {_remedy(name)}."
        )
    if not torch.equal(index, reference.index):
        raise NoMap("stale", f"The UMAP map {file.name} does not show the reference images of {name}: {_remedy(name)}.")
    labels, classes = reference.labels, reference.classes
    return Embedding(
        points=points,
        labels=labels,
        classes=classes,
        centers=class_means(exact(reference.features), labels, classes),
        centroids=class_means(points.double(), labels, classes).float(),
        neighbours=neighbours,
        directions=reference.directions,
        facts=facts | {"weights": weights},
    )


def _remedy(name: str) -> str:
    return f"`python -m explorer features {name}` computes it"
