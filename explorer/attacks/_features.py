"""Penultimate features of any network in the same pass as its logits, and pictures whose features one may walk toward."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from explorer.attacks._decisions import noise
from explorer.attacks.gradient import Network
from explorer.core import InvalidValue
from explorer.data import DATASETS, raw


def logits_and_features(model: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """(N,K) and (N,D): what the module `head` of the model is given in this pass; the logits where it has none."""
    head, seen, mine = getattr(model, "head", None), [], threading.get_ident()

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if threading.get_ident() == mine:  # others may use the same model at the same time
            seen.append(inputs[0])

    if not isinstance(head, nn.Module):
        logits: Tensor = model(x)
        return logits.float(), logits.float()
    handle = head.register_forward_pre_hook(keep)
    try:
        logits = model(x)
    finally:
        handle.remove()
    return logits.float(), (seen[-1] if seen else logits).float().flatten(1)


def check_guide(name: str) -> None:
    """Raises InvalidValue unless it is empty or a row of a bundled sample, such as cifar10/17."""
    dataset, _, row = name.partition("/")
    if name and (dataset not in DATASETS or not row.isdecimal() or int(row) >= len(raw(dataset, "test", "sample")[0])):
        raise InvalidValue(
            f"guide must be a dataset and a row of its bundled pictures, such as cifar10/17; got {name!r}."
        )


def guides(name: str, like: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """(N,count,C,H,W): the named picture, or for each image some drawn from the bundled test pictures of its shape.

    Where there are no such pictures, random fields of colour. Raises InvalidValue for a named picture of another shape.
    """
    shape = tuple(like.shape[1:])
    if name:
        dataset, _, row = name.partition("/")
        if DATASETS[dataset].shape != shape:
            raise InvalidValue(f"guide must be a picture of shape {shape}; {name} has {DATASETS[dataset].shape}.")
        picture = raw(dataset, "test", "sample")[0][int(row)].to(like.device).to(like) / 255
        return picture.expand(len(like), 1, *shape)
    known = next((spec.name for spec in DATASETS.values() if spec.shape == shape), None)
    if known is None:
        fields = [noise(like, 2 ** (k % 4), rng) for k in range(count)]
        return torch.stack(fields, 1)
    pixels = raw(known, "test", "sample")[0]
    rows = torch.randint(len(pixels), (len(like), count), generator=rng, device=rng.device).cpu()
    return pixels[rows].to(like.device).to(like) / 255
