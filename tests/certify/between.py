"""Prints how far attacks stay from the exact smallest change in Linf: `python -m tests.certify.between [model] [pictures] [seconds]`.

For each of the first right pictures of the bundled test set: the distances that FAB, DeepFool and PGD (by bisection over
eps) find, what CROWN proves, and the mixed-integer answer for all rival classes at 0.8 and at 0.95 of the smallest distance, each
given so many seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.certify.certifiers.crown import Crown
from explorer.certify.exact import settle_all
from explorer.core import Ball, Classifier, Goal, run, seeded
from explorer.data import load
from explorer.models import zoo

SHARES = (0.8, 0.95)  # of the smallest attack's distance
HALVINGS = 10  # of PGD's eps


def minimal(model: Classifier, x: Tensor, y: Tensor, key: str) -> Tensor:
    """(N,) the distances at which an attack that looks for the smallest change succeeds; inf where it does not."""
    goal = Goal.untargeted(y)
    out = run(ATTACKS[key]().walk(model, x, goal, Ball("linf", 1.0), rng=seeded(0)), goal)
    return torch.where(out.success, (out.x - x).flatten(1).abs().amax(1), torch.inf)


def pgd(model: Classifier, x: Tensor, y: Tensor, most: float) -> Tensor:
    """(N,) the smallest eps, found by bisection in [0, most], at which PGD of 20 steps succeeds."""
    low, high, goal = torch.zeros(len(x)), torch.full((len(x),), most), Goal.untargeted(y)
    found = torch.full((len(x),), torch.inf)
    for _ in range(HALVINGS):
        eps = (low + high) / 2
        out = run(ATTACKS["pgd"](steps=20).walk(model, x, goal, Ball("linf", eps), rng=seeded(0)), goal)
        reached = (out.x - x).flatten(1).abs().amax(1)
        found = torch.where(out.success, torch.minimum(found, reached), found)
        low, high = torch.where(out.success, low, eps), torch.where(out.success, eps, high)
    return found


def settled(model: Classifier, x: Tensor, y: Tensor, nearest: Tensor, seconds: float) -> dict[float, list[str]]:
    """For each share of the distance to the nearest success, the exact answer for each picture."""
    answers: dict[float, list[str]] = {}
    for share in SHARES:
        began = time.perf_counter()
        answers[share] = [
            settle_all(model, x[i], int(y[i]), share * float(nearest[i]), seconds=seconds).settled
            for i in range(len(x))
        ]
        counts = {answer: answers[share].count(answer) for answer in ("none", "found", "open")}
        print(f"at {share:g} of the nearest: {counts}, {time.perf_counter() - began:.0f} s", flush=True)  # noqa: T201
    return answers


def main(arguments: Sequence[str]) -> None:
    name = arguments[0] if arguments else "fashion_mnist/fashion-mlp"
    count, seconds = int((*arguments, "", 50)[1] or 50), float((*arguments, "", "", 60)[2] or 60)
    model = zoo.load(name)
    images = load(name.partition("/")[0], n=4 * count, source="sample")
    right = (model(images.x).argmax(1) == images.y).nonzero().flatten()[:count]
    x, y = images.x[right], images.y[right]
    distances = {key: minimal(model, x, y, key) for key in ("fab", "deepfool")}
    distances["pgd"] = pgd(model, x, y, 2 * float(distances["fab"].max()))
    nearest = torch.stack(list(distances.values())).amin(0)
    crown = torch.tensor([one.radius for one in Crown().certificates(model, x) if one is not None])
    print(f"{name}: {len(x)} pictures; CROWN proves {float((crown / nearest).mean()):.3f} of the nearest, on average")  # noqa: T201
    settled(model, x, y, nearest, seconds)
    for key, found in distances.items():
        ratio = found / nearest
        print(f"{key}: {float(ratio.mean()):.4f} times the nearest on average, {float(ratio.max()):.4f} at worst")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
