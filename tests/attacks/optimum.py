"""What the tests of minimal-distance attacks share: linear networks' images, weights, and their least changes."""

import math

import torch
from scipy.optimize import brentq
from torch import nn

from explorer.attacks.boundary import length
from explorer.core import Ball, Classifier, run, seeded
from explorer.core.ball import EPS_LIMIT

BALLS = {norm: Ball(norm, eps) for norm, eps in EPS_LIMIT.items()}
SHAPE = (3, 4, 4)


class Sphere(Classifier):
    """Class 0 inside the sphere of radius r around grey, class 1 outside: the logits differ by |x - c|^2 - r^2."""

    def __init__(self, radius):
        super().__init__([0.5], [0.25], (1, 4, 4), 2)
        self.radius, self.head = radius, nn.Identity()

    def embed(self, normalised):
        away = ((normalised * 0.25).flatten(1) ** 2).sum(1) - self.radius**2
        return torch.stack([-away / 2, away / 2], 1)


def images(n, seed=0, width=0.2):
    """So far from 0 and 1 that nothing is clipped; with a width of 2 half of the pixels are black or white."""
    return (0.5 + width * (torch.rand(n, *SHAPE, generator=seeded(seed)) - 0.5)).clamp(0, 1)


def weights(classes, seed=0):
    return torch.randn(classes, 48, generator=seeded(seed))


def smallest(attack, model, x, goal, norm="l2", seed=0):
    return run(attack.walk(model, x, goal, BALLS[norm], seeded(seed)), goal, minimal=True)


def clipped(way, need, x, norm):
    """The least change d with way . d = need and x + d in [0, 1], by root finding; all float64 (D,)."""

    def change(scale):
        far = scale * (way.sign() if norm == "linf" else way)
        return torch.maximum(torch.minimum(far, 1 - x), -x) * (way != 0)

    if float(change(1e6) @ way) < need:
        return None
    return change(brentq(lambda scale: float(change(scale) @ way) - need, 0, 1e6, xtol=1e-14, rtol=1e-14))


def sparsest(way, need, x, norm):
    """The least L1 size, or number of pixels over 3 channels, of a change with way . change > need in [0, 1]: by sorting."""
    gain = way.abs() * torch.where(way > 0, 1 - x, x)
    if norm == "l0":
        gains = gain.view(SHAPE[0], -1).sum(0).sort(descending=True).values.cumsum(0)
        return float((gains <= need).sum()) + 1 if float(gains[-1]) > need else math.inf
    spent, room = 0.0, torch.where(way > 0, 1 - x, x)
    for i in way.abs().argsort(descending=True).tolist():
        part = min(float(room[i]), need / float(way[i].abs()))
        spent, need = spent + part, need - part * float(way[i].abs())
        if need <= 1e-12:
            return spent
    return math.inf


def optimum(model, x, y, norm="l2", kappa=0.0):
    """(N,) float64 the least distance inside [0, 1] at which any class leads by kappa."""
    z, found = x.double().flatten(1) @ model.weight.T + model.head.bias.double(), []
    for i, label in enumerate(y.tolist()):
        every = []
        for k in set(range(len(model.weight))) - {label}:
            lead, image = float(z[i, label] - z[i, k]) + kappa, x[i].double().flatten()
            if norm in ("l1", "l0"):
                every.append(sparsest(model.weight[k] - model.weight[label], lead, image, norm))
                continue
            change = clipped(model.weight[k] - model.weight[label], lead, image, norm)
            every.append(math.inf if change is None else float(length(change[None], norm)))
        found.append(min(every))
    return torch.tensor(found, dtype=torch.float64)
