"""`evaluate --masking`: the report card for gradient masking, check by check, in the terminal or as a run in the background."""

from __future__ import annotations

import argparse
from typing import Any

from explorer.cli._background import refuse_together, submit
from explorer.cli._console import Console, eps_of, images_of, whole
from explorer.core import Ball, InvalidValue
from explorer.core.ball import as_norm
from explorer.core.device import choose
from explorer.engine import eps_text
from explorer.evaluation.masking import CHECKS, Bench, Raised, ask, summary
from explorer.jobs.masking import NORMS, usual_twin
from explorer.models import zoo

PICTURES, MOST = 100, 1000
STATES = {True: "FLAG", False: "no flag", None: "not asked"}
TITLES = {check.key: check.title for check in CHECKS}


def run(options: argparse.Namespace, console: Console) -> Any:
    """All checks, each said as it is made."""
    if options.name is None:
        raise InvalidValue("--masking needs a model's name.")
    refuse_together(options, "write", "set", "craft_on", use="--masking")
    norm, eps = options.norm or NORMS[0], eps_of(options.norm or NORMS[0], options.eps)
    if norm not in NORMS:
        raise InvalidValue(f"norm must be one of {', '.join(NORMS)} with --masking; got {norm!r}.")
    n, seed = whole("n", options.n or str(PICTURES), 1, MOST), whole("seed", options.seed, 0, 2**53 - 1)
    if len(options.twin) > 1:
        raise InvalidValue(f"--masking takes one --twin; got {len(options.twin)}.")
    card = zoo.card(options.name)
    twin = options.twin[0] if options.twin else usual_twin(card)
    if options.background:
        asked = {"model": card.name, "norm": norm, "eps": eps, "images": n, "seed": seed, "twin": twin, "shuffle": -1}
        return submit("masking", asked, options, console)
    device = choose(options.device)
    images, chosen = images_of(card.dataset, n)
    ball = Ball(as_norm(norm), eps)
    bench = Bench(zoo.load(card.name, device), images, ball, seed=seed, twin=zoo.load(twin, device) if twin else None)
    console.say(f"{card.name}: {card.title}; {norm} {eps_text(eps)}, seed {seed}; right on {len(bench)} of {chosen}")
    console.say(f"Transferred pictures are made on {twin}." if twin else "There is no other model to make pictures on.")
    found: dict[str, Raised] = {}
    for check in CHECKS:
        found[check.key] = ask(bench, check)
        console.say(line(check.title, found[check.key]))
    console.say(summary(found))
    facts = {"model": card.name, "weights": card.identity, "norm": norm, "eps": eps, "n": n, "right": len(bench)}
    checks = {key: one.to_dict() for key, one in found.items()}
    return facts | {"seed": seed, "twin": twin, "chosen": chosen, "said": summary(found), "checks": checks}


def line(title: str, one: Raised) -> str:
    """One check with its state, and for a flag the picture that shows it."""
    shown = f" Picture {one.picture} shows it." if one.raised and one.picture is not None else ""
    return f"{STATES[one.raised]:<9}  {title}: {one.said}{shown}"
