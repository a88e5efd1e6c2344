"""Hand-made features: clouds of known shape, and reference images that have them."""

import torch

from explorer.data import raw
from explorer.features import Reference

CLASSES = ("cat", "dog", "frog")


def cloud(n=90, d=12, seed=0):
    """Three classes around three centres: features (n,d), labels (n,)."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centers = torch.randn(3, d, generator=rng) * 3
    return centers[labels] + torch.randn(n, d, generator=rng), labels


def as_reference(features, labels):
    """As if the first images of the bundled sample had these features."""
    rows = torch.arange(len(labels))
    assert len(rows) <= len(raw("cifar10", "test", "sample")[1])
    return Reference(features, labels, rows, rows + 5000, "cifar10", CLASSES)
