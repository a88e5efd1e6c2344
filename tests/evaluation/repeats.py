"""Verification under repetition: how often an honest card is called "other", and how often a planted fault is found.

  python -m tests.evaluation.repeats --count 100

The card is of cifar10/lenet, measured here: PGD with 5 steps on 500 bundled pictures, half of the usual eps. Honest repeats have
another seed each; faults are measured or recorded wrongly, one at a time, and each repeat draws another part.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch

from explorer.attacks import ATTACKS
from explorer.attacks.pgd import PGD
from explorer.core import Ball
from explorer.data import load
from explorer.evaluation import robust_accuracy
from explorer.evaluation.verifying import OTHER, conclusion, verify_card
from explorer.models import zoo
from explorer.models.zoo import Card

NAME, N, BATCH, EPS = "cifar10/lenet", 500, 50, 4 / 255
FAULTS = ("weights", "code", "eps", "rows", "precision")


def card(n: int = N, steps: int = 5, **measured) -> Card:
    """The model's card with one measure made here; `measured` goes to `robust_accuracy`."""
    images = load("cifar10", n=n, source="sample")
    asked = {
        "model": zoo.load(NAME),
        "threat": Ball("linf", EPS),
        "images": images,
        "seed": 3,
        "batch": BATCH,
    } | measured
    attack = ATTACKS["pgd"](steps=steps, rel_step=0.25)
    found = robust_accuracy(attack=attack, chosen=f"{n:,}, evenly from all classes, drawn with seed 0", **asked)
    about = zoo.card(NAME)
    return replace(about, measures=[found.to_dict() | {"weights": about.identity}])


def planted(fault: str, n: int = N) -> tuple[Card, Callable]:
    """A card whose record was made otherwise than it says, and what loads the model that it is verified with."""
    if fault == "weights":  # 1 % of noise on them since, and the card's checksum made to fit
        return card(n), _changed
    if fault == "code":  # the sign of the first step is another one now than when it was measured
        return card(n), zoo.load
    if fault == "precision":
        return _told(card(n, precision="bfloat16"), precision="float32"), zoo.load
    if fault == "eps":
        return _told(card(n, threat=Ball("linf", 0.9 * EPS)), eps=EPS), zoo.load
    other = load("cifar10", n=n, seed=1, source="sample")
    return card(n, images=other), zoo.load


@cache
def _changed(name: str, device: str) -> torch.nn.Module:
    model, rng = zoo.load(name, device), torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data += 0.01 * p.data.std() * torch.randn(p.shape, generator=rng)
    return model


def _told(about: Card, **fields) -> Card:
    return replace(about, measures=[about.measures[0] | fields])


def found(fault: str, made: tuple[Card, Callable], draw: int, sample: int = 200) -> bool:
    """Whether one verification says "other"."""
    about, loads = made
    before = PGD.step_size
    if fault == "code":
        PGD.step_size = lambda self, eps: 0.9 * before(self, eps)
    try:
        return conclusion(verify_card(about, loads, sample=sample, draw=draw)) == OTHER
    finally:
        PGD.step_size = before


def alarms(about: Card, count: int, sample: int = 200, kept: bool = True) -> int:
    """Of so many honest verifications with other seeds, how many say "other"; `kept`: the card has its verdicts."""
    if not kept:
        about = _told(about, verdicts="")
    says = partial(verify_card, about, sample=sample)
    return sum(conclusion(says(seed=1000 + k, draw=k)) == OTHER for k in range(count))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="how many times each (default: %(default)s)")
    count = parser.parse_args().count
    honest = card()
    own = sum(conclusion(verify_card(honest, draw=k)) == OTHER for k in range(count))
    told = {"count": count, "alarms, own seed": own}
    told |= {"alarms, other seeds": alarms(honest, count), "alarms, counts alone": alarms(honest, count, kept=False)}
    for fault in FAULTS:
        made = planted(fault)
        told[f"found: {fault}"] = sum(found(fault, made, draw) for draw in range(count))
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    bad = own or max(told["alarms, other seeds"], told["alarms, counts alone"]) > 0.04 * count
    return int(bool(bad) or min(told[f"found: {fault}"] for fault in FAULTS) < 0.95 * count)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
