"""Reference features: what a model makes of a fixed set of images, the ground on which its maps are drawn.

Where these images do not show every class, the classes' directions stand in for them: the rows of the last linear layer, each
scaled to the mean length of the images' features.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue, seeded, use_generator
from explorer.core.files import write_atomically
from explorer.data import Images, load, raw
from explorer.data.folders import cache_folder
from explorer.data.loading import balanced

BATCH = 64  # images times draws in one pass: small, so that somebody else's attack step need not wait long
DRAWS = 8  # passes averaged for a stochastic model

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference images with the model's penultimate features, all on the CPU; or, of each class, its direction."""

    features: Tensor  # (n,D) float32; the mean over DRAWS passes for a stochastic model
    labels: Tensor  # (n,) int64, true classes
    rows: Tensor  # (n,) int64, row in the bundled sample; -1 for a direction
    index: Tensor  # (n,) int64, row in the full test set; of a direction its class
    dataset: str
    classes: tuple[str, ...]
    directions: bool = False  # no images, but the rows of the last layer, scaled to the mean length of images' features

    @property
    def images(self) -> Tensor:
        """(n,C,H,W) uint8; none of directions."""
        return raw(self.dataset, "test", "sample")[0][self.rows[self.rows >= 0]]


class Gathering:
    """The features batch by batch, so that the device's owner can serve others in between: `advance` until it says so.

    `n` None takes all of the bundled sample, in its own order; a number, so many evenly from all classes.
    `key` is the sha256 of the model's weights: with it the features are kept in the user's cache folder and found
    again by the next process; a folder that cannot be written costs a warning in the log and nothing else.
    `shipped` is a file that came with the model (`write_features`): taken if it belongs to these very weights.
    """

    def __init__(
        self,
        model: Classifier,
        dataset: str,
        n: int | None = None,
        seed: int = 0,
        key: str | None = None,
        shipped: Path | None = None,
    ):
        self._images = load(dataset, split="test", n=n, seed=seed, source="sample")
        self._rows = _rows(self._images, n, seed)
        self._done = 0
        draws = draws_of(model)
        self._file = _cache_file(key, dataset, len(self._images), seed, draws) if key else None
        self._parts: list[Tensor] = []
        self._features = None
        if shipped is not None and key is not None:
            self._features = _read(shipped, self._images.index, key)
        if self._features is None and self._file:
            self._features = _read(self._file, self._images.index)
        self._batches = _batches(model, self._images.x, draws, seed)
        self._head = None if every_class(self._images) else _last_layer(model)

    @property
    def progress(self) -> tuple[int, int]:
        """Images that have been through the model, and how many there are."""
        total = len(self._images)
        return (total if self._features is not None else self._done), total

    def advance(self) -> Reference | None:
        """One more batch; the reference once all have been through the model.

        Raises FloatingPointError on NaN, InvalidValue for a model without features.
        """
        if self._features is None:
            part = next(self._batches, None)
            if part is not None:
                self._parts.append(part)
                self._done += len(part)
                return None
            self._features = torch.cat(self._parts)
            if self._file:
                _write(self._file, self._features, self._images.index)
        images = self._images
        if self._head is not None:
            return _of_directions(self._head, self._features, images)
        return Reference(self._features, images.y, self._rows, images.index, images.name, images.classes)


def reference(
    model: Classifier, dataset: str, n: int | None = None, seed: int = 0, key: str | None = None
) -> Reference:
    """The model's features of `n` images of the bundled sample; see `Gathering`."""
    gathering = Gathering(model, dataset, n, seed, key)
    while (found := gathering.advance()) is None:
        pass
    return found


def every_class(images: Images) -> bool:
    """Whether each class is among the labels: else no class could have a centre of its own images."""
    return len(images.y.unique()) == len(images.classes)


def _last_layer(model: Classifier) -> Tensor:
    """(K,D) float32, on the CPU: the weights of the layer that makes logits of features."""
    weight = getattr(model.head, "weight", None)
    if not isinstance(model.head, nn.Linear) or not isinstance(weight, Tensor):
        raise InvalidValue(
            "a map needs a test image of every class, or a model that ends in a linear layer; here is neither."
        )
    return weight.detach().float().cpu()


def _of_directions(rows: Tensor, features: Tensor, images: Images) -> Reference:
    """Of the last layer's rows (K,D), and of features (n,D) whose mean length they are given."""
    length = features.norm(dim=1).mean()
    classes = torch.arange(len(rows))
    scaled = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12) * length
    return Reference(
        scaled, classes, torch.full_like(classes, -1), classes, images.name, images.classes, directions=True
    )


def draws_of(model: Classifier) -> int:
    """How many passes are averaged into one image's features: DRAWS for a stochastic model, else 1."""
    return DRAWS if model.stochastic else 1


def check_features(model: Classifier) -> None:
    """Raises InvalidValue unless the model says what its last layer sees."""
    cls = type(model)
    silent = isinstance(model, Classifier) and cls.features is Classifier.features and cls.embed is Classifier.embed
    if silent or not callable(getattr(model, "features", None)):
        raise InvalidValue(
            f"a map needs a model with penultimate features (`features` or `embed`); {cls.__name__} has none."
        )


def _rows(images: Images, n: int | None, seed: int) -> Tensor:
    labels = raw(images.name, "test", "sample")[1]
    return torch.arange(len(labels)) if n is None else balanced(labels, n, seed)


def _batches(model: Classifier, x: Tensor, draws: int, seed: int) -> Iterator[Tensor]:
    rng = seeded(seed)
    for batch in x.split(max(1, BATCH // draws)):
        yield _mean_features(model, batch, draws, rng)


def _mean_features(model: Classifier, batch: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    """(b,D) float32 on the CPU. Nothing is yielded while gradients are off."""
    check_features(model)
    with torch.no_grad(), use_generator(rng):
        seen = model.features(batch.to(model.device).repeat_interleave(draws, 0)).float()
    features = seen.view(len(batch), draws, -1).mean(1).cpu()
    if not bool(torch.isfinite(features).all()):
        raise FloatingPointError("the model's features of the reference images are not finite")
    return features


def _cache_file(key: str, dataset: str, n: int, seed: int, draws: int) -> Path:
    return cache_folder() / "features" / f"{key[:32]}-{dataset}-{n}-{seed}-{draws}.safetensors"


def write_features(model: Classifier, dataset: str, key: str, file: Path) -> None:
    """Keep the reference features of a model with weights of sha256 `key` in a file to ship beside them (float16).

    Directions are not kept: they are in the weights.
    """
    found = reference(model, dataset)
    if not found.directions:
        save_features(found, key, file)


def save_features(found: Reference, key: str, file: Path) -> None:
    """As `write_features`, of features that are there already."""
    tensors = {"features": found.features.half().contiguous(), "index": found.index.contiguous()}
    write_atomically(file, save(tensors, metadata={"weights": key}))


def fits(file: Path, found: Reference, key: str) -> bool:
    """Whether a file to ship holds features of these images and weights."""
    return _read(file, found.index, key) is not None


def _read(file: Path, index: Tensor, key: str | None = None) -> Tensor | None:
    """The stored features, None if there are none that fit these images (and, with `key`, these weights)."""
    try:
        data = file.read_bytes()
        stored = parse(data)
        if key is not None and metadata(data).get("weights") != key:
            _log.warning("The features %s belong to other weights: they are computed again.", file.name)
            return None
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        _log.warning("The stored features %s cannot be read (%s): they are computed again.", file.name, error)
        return None
    features = stored.get("features")
    same = torch.equal(stored.get("index", index[:0]), index)
    if (
        same
        and features is not None
        and features.ndim == 2
        and len(features) == len(index)
        and bool(torch.isfinite(features).all())
    ):
        return features.float()
    _log.warning("The stored features %s do not fit the reference images: they are computed again.", file.name)
    return None


def metadata(data: bytes) -> dict[str, str]:
    """The free entries of a safetensors header; `data` has been parsed before, so the header is sound."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})


def _write(file: Path, features: Tensor, index: Tensor) -> None:
    try:
        write_atomically(file, save({"features": features.contiguous(), "index": index.contiguous()}))
    except OSError as error:
        _log.warning("The reference features are not kept for the next start, %s: %s", file.parent, error)
