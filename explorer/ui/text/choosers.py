"""Labels of models and attacks in choosers: a title, then the number, the tags and the description that one would search for."""

from __future__ import annotations

from explorer.attacks import ATTACKS, BLACK_BOX, GROUPS
from explorer.defenses import RECIPES
from explorer.evaluation.standing import CHANCE, RADIUS, Share, standing
from explorer.models.zoo import Card

BASICS = ("fgsm", "pgd", "cw", "deepfool")  # what a first lesson is about; they stand first


def attack_order() -> list[str]:
    """Keys of all attacks: the basics, then group by group."""
    rest = sorted((e for e in ATTACKS if e.key not in BASICS), key=lambda e: (GROUPS.index(e.group), e.key))
    return [*BASICS, *(e.key for e in rest)]


def attack_label(key: str) -> str:
    """ "PGD · iterated, white-box · Many small steps up the loss ..."; an unknown key as it is."""
    if key not in ATTACKS:
        return key
    entry = ATTACKS.entry(key)
    view = "" if entry.group == "black-box" else ", black-box" if entry.group in BLACK_BOX else ", white-box"
    group = "smallest change" if entry.group == "minimal" else entry.group
    return f"{entry.title} · {group}{view} · {entry.summary}"


def model_label(card: Card) -> str:
    """ "Adversarial training, Linf · robust to 8/255: 38 % · adversarial training · Trained on images ..."."""
    group = RECIPES.entry(card.recipe).group if card.recipe in RECIPES else ""
    tags = [
        group,
        "random" if card.stochastic and "random" not in group else "",
        "baseline" if group == "no defence" else "",
    ]
    return " · ".join(filter(None, [card.title, number(card), *tags, card.summary]))


def number(card: Card) -> str:
    """The number that matters about a model: what is certified, else what it withstands."""
    now = standing(card)
    if now.certified is not None:
        return f"certified at {RADIUS:g}: {percent(now.certified)}"
    if now.linf is not None and now.linf.accuracy > CHANCE:
        return f"robust to 8/255: {percent(now.linf)}"
    if now.l2 is not None and now.l2.accuracy > CHANCE and now.kind == "robust":
        return f"robust to L2 0.5: {percent(now.l2)}"
    if now.linf is not None:
        return f"falls at 8/255: {percent(now.linf)} left"
    return "nothing measured"


def percent(share: Share) -> str:
    """ "42 %"; one half is rounded up."""
    return f"{int(100 * share.accuracy + 0.5)} %"
