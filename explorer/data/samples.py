"""Samples: labelled images that a generator drew (synthetic data, a proxy of the real set), in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from explorer.core import BadCheckpoint, InvalidValue, UnknownName
from explorer.core.files import write_atomically
from explorer.core.paths import runs
from explorer.data.specs import dataset


@dataclass(frozen=True, eq=False)
class Samples:
    """Drawn images and all that says how they came about."""

    pixels: Tensor  # (N,C,H,W) uint8
    labels: Tensor  # (N,) int64: the class that each was drawn for
    about: Mapping[str, Any]  # name, dataset, generator, generator_sha256, seed, ...
    sha256: str  # of pixels and labels

    def __len__(self) -> int:
        return len(self.labels)


def samples_folder() -> Path:
    """Where files of samples lie on this computer, as <dataset>/<name>.safetensors."""
    return runs() / "samples"


def samples_file(name: str) -> Path:
    return samples_folder() / f"{name}.safetensors"


def sample_names() -> list[str]:
    """ "fashion_mnist/flow-n10000-s0" and the like: all that are here."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in samples_folder().glob("*/*.safetensors"))


def write_samples(name: str, pixels: Tensor, labels: Tensor, about: Mapping[str, Any]) -> Samples:
    """Keep images (N,C,H,W) uint8 and labels (N,) under `name`. Raises InvalidValue if the name is taken."""
    path = samples_file(name)
    if path.exists():
        raise InvalidValue(f"there are samples called {name} already, in {path}: choose another name, or delete them.")
    made = Samples(pixels.contiguous(), labels.contiguous(), dict(about), _hash(pixels, labels))
    tensors = {"pixels": made.pixels, "labels": made.labels}
    write_atomically(path, save(tensors, metadata={"about": json.dumps(made.about), "sha256": made.sha256}))
    return made


def read_samples(name: str, of: str | None = None) -> Samples:
    """The samples of this name, which must be of the dataset `of` (None: of any).

    Raises UnknownName, InvalidValue for those of another dataset, BadCheckpoint where the file is damaged or was changed.
    """
    if name not in sample_names():
        raise UnknownName("samples", name, sample_names())
    path = samples_file(name)
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            about, digest = json.loads(facts["about"]), facts["sha256"]
            pixels, labels = file.get_tensor("pixels"), file.get_tensor("labels")
        origin = about["dataset"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BadCheckpoint(f"The samples {name} cannot be read: {path.name} is damaged or none of ours.") from error
    if _hash(pixels, labels) != digest:
        raise BadCheckpoint(f"The samples {name} were changed: {path.name} does not match its checksum.")
    if of not in (None, origin):
        raise InvalidValue(f"samples must be of the dataset {of}; got {name!r}, of {origin}.")
    spec = dataset(origin)
    fits = pixels.shape[1:] == spec.shape and pixels.dtype == torch.uint8 and labels.shape == pixels.shape[:1]
    if not fits or len(labels) == 0 or not 0 <= int(labels.min()) <= int(labels.max()) < len(spec.classes):
        raise BadCheckpoint(f"The samples {name} do not fit {origin}: other shapes, or labels that it does not have.")
    return Samples(pixels, labels, about, digest)


def _hash(pixels: Tensor, labels: Tensor) -> str:
    total = hashlib.sha256(pixels.contiguous().numpy().data)
    total.update(labels.contiguous().numpy().data)
    return total.hexdigest()
