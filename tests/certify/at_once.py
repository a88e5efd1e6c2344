"""What each of two processes certifies in `test_sharded.py`, and what one alone must find, too."""

import torch
from torch import nn

from explorer.certify import Smoothed, certify_many
from explorer.core import Classifier, current_rng, ranks, seeded
from explorer.core.ranks import Ranks

N, K = 7, 3


class Small(Classifier):
    """Three classes by fixed random weights; `noise` of that strength on the features, drawn for each image."""

    def __init__(self, noise=0.0):
        super().__init__([0.5], [0.25], (1, 4, 4), K)
        self.stochastic, self.noise = noise > 0, noise
        self.head = nn.Linear(16, K)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(K, 16, generator=seeded(2)) * 0.2)
            self.head.bias.zero_()
        self.freeze()

    def embed(self, normalised):
        flat = normalised.flatten(1)
        if self.noise:
            flat = flat + self.noise * torch.randn(flat.shape, generator=current_rng(flat.device))
        return flat


def certificates(mine: Ranks, seed: int | None = 9) -> dict:
    x = torch.rand(N, 1, 4, 4, generator=seeded(5))
    y = Small()(x).argmax(1)
    y[2] = (y[2] + 1) % K
    found, progress = {}, []
    for name, model in (("plain", Small()), ("stochastic", Small(noise=0.5))):
        asked = {"n0": 20, "n": 300, "alpha": 0.01, "seed": seed, "ranks": mine}
        report = lambda done, total: progress.append((done, total))  # noqa: E731
        found[name] = list(certify_many(Smoothed(model, 0.4, batch=64), x, y, progress=report, **asked))
    return {"certificates": found, "labels": y.tolist(), "progress": progress}


def of_this_rank() -> dict:
    with ranks.start("cpu") as mine:
        return certificates(mine) | {"unseeded": certificates(mine, seed=None)["certificates"]}
