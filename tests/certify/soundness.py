"""Prints how many attacked pictures lay inside a deterministic certificate: `python -m tests.certify.soundness [pictures]`.

Small random networks of each kind. A picture of theirs is certified, then attacked as far as the proof reaches (minus 1e-6): by
gradient (PGD, 20 steps; one step to the edge), at random corners of the ball, and for patches at random places with any
content. None may change its class.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.certifiers.interval import BoundedNetwork
from explorer.core import Ball, Classifier, Goal, run, seeded
from explorer.models.column_resnet import ColumnResNet
from explorer.models.lenet import LeNet
from explorer.models.lipschitz_net import LipschitzNet
from explorer.models.mlp import MLP
from explorer.models.plain_conv import PlainConv

GREY = ((0.4,), (0.25,))
MARGIN = 1e-6
HALVINGS = 7  # a smaller radius, sooner
CORNERS = 4  # random ones of each picture
KINDS: dict[str, Callable[[], Classifier]] = {
    "interval": lambda: PlainConv(*GREY, (1, 6, 6), 3, convolutions=((2, 3, 1), (3, 3, 2)), hidden=(6,)),
    "crown": lambda: MLP(*GREY, (1, 3, 3), 3, hidden=(6, 5)),
    "crown, pooling": lambda: LeNet(*GREY, (1, 16, 16), 3),
    "lipschitz": lambda: LipschitzNet(*GREY, (1, 8, 8), 3, width=16, depths=(2, 1)),
    "column": lambda: ColumnResNet(*GREY, (1, 8, 16), 3, width=4, columns=2),
}


def network(kind: str, seed: int) -> Classifier:
    """A small random network whose biases are as large as what they are added to."""
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        model = KINDS[kind]().freeze()
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0, 0.3)
        if isinstance(model, ColumnResNet):  # untrained, its looks all say the same
            model.base[-1].weight.mul_(300)
            looks = model.looks(torch.rand(40, *model.input_shape)).flatten(0, 1)
            model.base[-1].bias.sub_(looks.mean(0))
    return model


def attacked(
    model: Classifier, x: Tensor, y: Tensor, norm: str, radius: Tensor, rng: torch.Generator
) -> Iterator[Tensor]:
    """Pictures (N,C,H,W) within `radius` (N,) of x: what PGD finds, and the ball's edge (in Linf its corners) in the gradient's
    and in random directions."""
    ball, goal, edge = Ball(norm, radius), Goal.untargeted(y), radius.view(-1, 1, 1, 1)
    yield run(ATTACKS["pgd"](steps=20).walk(model, x, goal, ball, rng=rng), goal).x
    yield run(ATTACKS["fgsm"]().walk(model, x, goal, ball, rng=rng), goal).x
    for _ in range(CORNERS):
        noise = torch.randn(x.shape, generator=rng)
        step = noise.sign() * edge if norm == "linf" else noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1) * edge
        yield (x + step).clamp(0, 1)


def patched(x: Tensor, side: Tensor, rng: torch.Generator) -> Iterator[Tensor]:
    """x with a square patch of `side` (N,) pixels of any content at a random place, the edges not excepted."""
    height, width = x.shape[2:]
    for _ in range(2 + CORNERS):
        out = x.clone()
        for at, m in enumerate(side.long().tolist()):
            top = int(torch.randint(0, height - m + 1, (), generator=rng)) if m <= height else 0
            left = int(torch.randint(0, width - m + 1, (), generator=rng))
            out[at, :, top : top + m, left : left + m] = torch.rand(x.shape[1], m, m, generator=rng).round()
        yield out


def inside(kind: str, seed: int, count: int) -> tuple[int, int, int]:
    """Attacked pictures whose certificate was broken, all that were made, and the certificates."""
    model, rng = network(kind, seed), seeded(seed)
    cls = CERTIFIERS[kind.partition(",")[0]]
    certifier = cls(halvings=HALVINGS) if issubclass(cls, BoundedNetwork) else cls()
    x = torch.rand(count, *model.input_shape, generator=rng)
    found = [one for one in certifier.certificates(model, x) if one is not None]
    labels = torch.tensor([one.label for one in found])
    radius = torch.tensor([min(one.radius, 10.0) for one in found])
    keep = radius > MARGIN
    x, labels, radius = x[keep], labels[keep], radius[keep]
    if not len(x):
        return 0, 0, 0
    if certifier.norm == "patch":
        made = patched(x, radius, rng)
    else:
        made = attacked(model, x, labels, certifier.norm, radius - MARGIN, rng)
    broken = total = 0
    for images in made:
        if certifier.norm == "patch":  # decided by votes
            answers = torch.tensor([one.label for one in certifier.certificates(model, images) if one is not None])
        else:
            answers = model(images).argmax(1)
        broken, total = broken + int((answers != labels).sum()), total + len(images)
    return broken, total, len(x)


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    each = wanted // len(KINDS)
    for kind in KINDS:
        broken = total = certified = seed = 0
        while total < each:
            more = inside(kind, seed, 100)
            broken, total, certified, seed = broken + more[0], total + more[1], certified + more[2], seed + 1
        print(f"{kind}: {broken} of {total:,} inside {certified:,} certificates of {seed} networks", flush=True)  # noqa: T201
        if broken:
            sys.exit(1)


if __name__ == "__main__":
    main()
