"""What a model makes of a fixed set of reference images: the ground on which its plane is drawn."""

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
from torch import Tensor

from explorer.core import Classifier, randomness, seeded
from explorer.core.files import write_atomically
from explorer.data import load
from explorer.data.folders import cache_folder

IMAGES = 1000
BATCH = 64  # images times draws in one pass: small, so that somebody else's attack step need not wait long
DRAWS = 8  # passes averaged for a stochastic model

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference images with the model's penultimate features, all on the CPU."""

    features: Tensor  # (n,D) float32; the mean over DRAWS passes for a stochastic model
    labels: Tensor  # (n,) int64, true classes
    images: Tensor  # (n,C,H,W) uint8
    index: Tensor  # (n,) int64, row in the full test set
    classes: tuple[str, ...]


class Gathering:
    """The features batch by batch, so that the device's owner can serve others in between: `advance` until it says so.

    `key` is the sha256 of the model's weights: with it the features are kept in the user's cache folder and found
    again by the next process; a folder that cannot be written costs a warning in the log and nothing else.
    `shipped` is a file that came with the model (`write_features`): taken if it belongs to these very weights.
    """

    def __init__(
        self,
        model: Classifier,
        dataset: str,
        n: int = IMAGES,
        seed: int = 0,
        key: str | None = None,
        shipped: Path | None = None,
    ):
        self._images = load(dataset, split="test", n=n, seed=seed, source="sample")
        draws = DRAWS if model.stochastic else 1
        self._file = _cache_file(key, dataset, n, seed, draws) if key else None
        self._parts: list[Tensor] = []
        self._features = None
        if shipped is not None and key is not None:
            self._features = _read(shipped, self._images.index, key)
        if self._features is None and self._file:
            self._features = _read(self._file, self._images.index)
        self._batches = _batches(model, self._images.x, draws, seed)

    def advance(self) -> Reference | None:
        """One more batch; the reference once all have been through the model. Raises FloatingPointError on NaN."""
        if self._features is None:
            part = next(self._batches, None)
            if part is not None:
                self._parts.append(part)
                return None
            self._features = torch.cat(self._parts)
            if self._file:
                _write(self._file, self._features, self._images.index)
        pixels = (self._images.x * 255).round().to(torch.uint8)
        return Reference(self._features, self._images.y, pixels, self._images.index, self._images.classes)


def reference(model: Classifier, dataset: str, n: int = IMAGES, seed: int = 0, key: str | None = None) -> Reference:
    """The model's features of `n` images of the bundled sample, evenly from all classes; see `Gathering`."""
    gathering = Gathering(model, dataset, n, seed, key)
    while (found := gathering.advance()) is None:
        pass
    return found


def _batches(model: Classifier, x: Tensor, draws: int, seed: int) -> Iterator[Tensor]:
    rng = seeded(seed)
    for batch in x.split(max(1, BATCH // draws)):
        yield _mean_features(model, batch, draws, rng)


def _mean_features(model: Classifier, batch: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    """(b,D) float32 on the CPU. Nothing is yielded while gradients are off."""
    with torch.no_grad(), randomness(rng):
        seen = model.features(batch.to(model.device).repeat_interleave(draws, 0)).float()
    features = seen.view(len(batch), draws, -1).mean(1).cpu()
    if not bool(torch.isfinite(features).all()):
        raise FloatingPointError("the model's features of the reference images are not finite")
    return features


def _cache_file(key: str, dataset: str, n: int, seed: int, draws: int) -> Path:
    return cache_folder() / "features" / f"{key[:32]}-{dataset}-{n}-{seed}-{draws}.safetensors"


def write_features(model: Classifier, dataset: str, key: str, file: Path) -> None:
    """Keep the reference features of a model with weights of sha256 `key` in a file to ship beside them (float16)."""
    found = reference(model, dataset)
    tensors = {"features": found.features.half().contiguous(), "index": found.index.contiguous()}
    write_atomically(file, save(tensors, metadata={"weights": key}))


def _read(file: Path, index: Tensor, key: str | None = None) -> Tensor | None:
    """The stored features, None if there are none that fit these images (and, with `key`, these weights)."""
    try:
        data = file.read_bytes()
        stored = parse(data)
        if key is not None and _metadata(data).get("weights") != key:
            _log.warning("The features %s belong to other weights: they are computed again.", file.name)
            return None
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        _log.warning("The stored features %s cannot be read (%s): they are computed again.", file.name, error)
        return None
    features = stored.get("features")
    fits = features is not None and features.ndim == 2 and len(features) == len(index)
    if fits and torch.equal(stored.get("index", index[:0]), index) and bool(torch.isfinite(features).all()):
        return features.float()
    _log.warning("The stored features %s do not fit the reference images: they are computed again.", file.name)
    return None


def _metadata(data: bytes) -> dict[str, str]:
    """The free entries of a safetensors header; `data` has been parsed before, so the header is sound."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})


def _write(file: Path, features: Tensor, index: Tensor) -> None:
    try:
        write_atomically(file, save({"features": features.contiguous(), "index": index.contiguous()}))
    except OSError as error:
        _log.warning("The reference features are not kept for the next start, %s: %s", file.parent, error)
