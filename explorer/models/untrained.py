"""A network as training finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from explorer.core import Classifier
from explorer.data import dataset
from explorer.models import ARCHITECTURES


def untrained(name: str, architecture: str, arguments: Mapping[str, Any], seed: int) -> Classifier:
    """The registered `architecture` for the dataset `name`, with the initial weights of this seed, on the CPU."""
    spec = dataset(name)
    with initial_weights(seed):
        return ARCHITECTURES[architecture](spec.mean, spec.std, spec.shape, len(spec.classes), **arguments)


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Layers that are made inside the block have the initial weights of this seed; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # layer constructors draw from no other generator
        yield
