"""What each of two processes measures in `test_sharded.py`, and what one alone must find, too."""

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Classifier, current_rng, ranks, seeded
from explorer.core.ranks import Ranks
from explorer.data import Images
from explorer.evaluation.adaptive import flip_rate
from explorer.evaluation.robustness import clean_accuracy, noisy_accuracy, robust_accuracy

N, BATCH = 22, 4  # six batches, the last of two images: three for each process
LINF = Ball("linf", 0.03)


class Small(Classifier):
    """Three classes by fixed random weights; `noise` of that strength on the features, drawn for each image."""

    def __init__(self, noise=0.0):
        super().__init__([0.5], [0.25], (1, 4, 4), 3)
        self.stochastic, self.noise = noise > 0, noise
        self.hidden, self.head = nn.Linear(16, 8), nn.Linear(8, 3)
        with torch.no_grad():
            for index, p in enumerate(self.parameters()):
                p.copy_(torch.randn(p.shape, generator=seeded(index)) * 0.5)
        self.freeze()

    def embed(self, normalised):
        hidden = self.hidden(normalised.flatten(1)).tanh()
        if self.noise:
            hidden = hidden + self.noise * torch.randn(hidden.shape, generator=current_rng(hidden.device))
        return hidden


def images() -> Images:
    x = torch.rand(N, 1, 4, 4, generator=seeded(5))
    y = Small()(x).argmax(1)
    y[::7] = (y[::7] + 1) % 3  # some are wrong
    return Images(x, y, ("a", "b", "c"), "made", "test", torch.arange(N), "made")


def numbers(mine: Ranks, seed: int = 3) -> dict:
    """Every kind of measure, as plain values without times; `each` image's fate where an attack was made."""
    model, several, given = Small(), Small(noise=1.0), images()
    shared = {"batch": BATCH, "ranks": mine, "seed": seed}
    found = {
        "clean": clean_accuracy(model, given, **shared),
        "clean, stochastic": clean_accuracy(several, given, draws=1, **shared),
        "noisy": noisy_accuracy(model, given, 0.3, **shared),
    }
    attacks = {
        "random starts": (model, ATTACKS["pgd"](steps=3, restarts=2), {}),
        "stochastic": (several, ATTACKS["pgd"](steps=3, draws=2), {}),
        "smallest change": (model, ATTACKS["deepfool"](steps=10), {}),
        "transfer": (model, ATTACKS["pgd"](steps=3), {"craft_on": several, "source_model": "several"}),
    }
    fates = {}
    for name, (judge, attack, options) in attacks.items():
        fates[name] = []
        found[name] = robust_accuracy(judge, given, attack, LINF, each=fates[name], **options, **shared)
    plain = {name: replace(measure, seconds=0.0, device="").to_dict() for name, measure in found.items()}
    devices = sorted({measure.device for measure in found.values()})
    return {"measures": plain, "each": fates, "flips": flip_rate(several, given, seed, BATCH, mine), "devices": devices}


def of_this_rank() -> dict:
    with ranks.start("cpu") as mine:
        return numbers(mine) | {"met": dist.is_initialized()}


def one_fails(how: str) -> str:
    """The sentence that this process ends with; rank 1 has a broken network or is asked to stop."""
    try:
        with ranks.start("cpu") as mine:
            model = Small()
            if how == "broken" and not mine.is_first:
                model.head.bias.data.fill_(float("nan"))
            stop = (lambda: not mine.is_first) if how == "stopped" else None
            robust_accuracy(model, images(), ATTACKS["pgd"](steps=2), LINF, batch=BATCH, ranks=mine, should_stop=stop)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"
