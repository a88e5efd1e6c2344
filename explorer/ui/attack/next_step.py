"""Next step after a verdict: one question and the experiment that answers it, chosen by rules from what was just seen.

The rules stand in `RULES`, the first that fits is taken. A step is a link: the address that its button leads to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from explorer.attacks import ATTACKS
from explorer.core import ExplorerError
from explorer.defenses import RECIPES
from explorer.engine import AttackRequest
from explorer.models import zoo

DRAWS = 20  # a step, of an adaptive attack on a random model
FURTHER = 2.0  # times the eps that a model has withstood
LARGEST = {
    "linf": 32 / 255,
    "l2": 2.0,
    "l1": 48.0,
    "l0": 40.0,
    "rotation": 1.0,
    "corruption": 5.0,
}  # an eps that still leaves the picture what it is
UNDEFENDED = "no defence"
ATTACK, COMPARE, CERTIFY = "attack", "compare", "certify"


@dataclass(frozen=True)
class Seen:
    """What was just seen: the walk that was asked for, and how it ended."""

    request: AttackRequest
    label: int  # the true class
    fooled: bool  # on fresh looks
    wrong_before: bool  # before anything was changed

    @property
    def holds(self) -> bool:
        return not self.fooled and not self.wrong_before

    @property
    def title(self) -> str:
        return ATTACKS.entry(self.request.attack).title


@dataclass(frozen=True)
class NextStep:
    """A question, the button under it, and where that leads: a page's link. No link: the next picture that it gets right."""

    question: str
    button: str
    page: str = ATTACK
    link: Mapping[str, str] | None = None


def _with(seen: Seen, **changes: Any) -> dict[str, str]:
    return dataclasses.replace(seen.request, **changes).checked().within().to_query()


def _one_it_gets_right(seen: Seen) -> NextStep | None:
    if not seen.wrong_before:
        return None
    return NextStep(
        "An attack had nothing to do here. Does a picture fall that the model gets right?", "Attack one it gets right"
    )


def _any_class(seen: Seen) -> NextStep | None:
    if seen.request.target is None or not seen.holds:
        return None
    question = "One certain class is the harder wish. Does the attack find any wrong class at all?"
    return NextStep(question, "Ask for any wrong class", link=_with(seen, target=None))


def _more_draws(seen: Seen) -> NextStep | None:
    request = seen.request
    takes_draws = any(p.name == "draws" for p in ATTACKS[request.attack].params())
    if not (seen.holds and zoo.card(request.model).stochastic and takes_draws and request.draws == 1):
        return None
    question = (
        f"This model is random, and the attack saw one draw a step. Does it fool the model if it averages {DRAWS}?"
    )
    return NextStep(question, f"Attack with {DRAWS} draws", link=_with(seen, hyper={**request.hyper, "draws": DRAWS}))


def _more_steps(seen: Seen) -> NextStep | None:
    if not seen.holds or ATTACKS.entry(seen.request.attack).group not in ("single step", "baseline"):
        return None
    question = (
        f"{seen.title} did not fool it. Does PGD, which follows the gradient for many steps, at the same distance?"
    )
    return NextStep(question, "Attack with PGD", link=_with(seen, attack="pgd", hyper={}))


def _robust_model(seen: Seen) -> NextStep | None:
    request = seen.request
    robust = f"{request.dataset}/pgd-linf"
    names = {card.name for card in zoo.cards()}
    if seen.holds or _group(request.model) != UNDEFENDED or robust not in names:
        return None
    question = "Does a model withstand this that was trained on attacked pictures?"
    return NextStep(question, "Attack a robust model", link=_with(seen, model=robust))


def _further(seen: Seen) -> NextStep | None:
    request = seen.request
    if not seen.holds or request.is_minimal or _group(request.model) != UNDEFENDED:
        return None
    eps = FURTHER * request.eps
    if eps > LARGEST[request.norm]:
        return None
    return NextStep(
        "This picture lies deep in its class. Is twice the change enough?",
        "Allow twice the change",
        link=_with(seen, eps=eps),
    )


def _certify(seen: Seen) -> NextStep | None:
    request = seen.request
    made = [card for card in zoo.cards() if card.dataset == request.dataset and card.sigma is not None]
    if not seen.holds or request.is_upload or not made:
        return None
    own = zoo.card(request.model)
    model = (
        own if own.sigma is not None else min(made, key=lambda card: (card.sigma or 0, card.recipe != "smoothed-0.25"))
    )
    question = "That no change was found proves nothing. What can be proven about this picture, and what does it cost?"
    link = {"data": request.dataset, "image": str(request.image), "model": model.name}
    return NextStep(question, "Certify it", CERTIFY, link)


def _smallest(seen: Seen) -> NextStep | None:
    request = seen.request
    if (
        not seen.fooled
        or request.is_minimal
        or request.target is not None
        or request.norm not in ATTACKS["deepfool"].norms
    ):
        return None
    question = "How little would have been enough? DeepFool looks for the smallest change that does it."
    return NextStep(question, "Attack with DeepFool", link=_with(seen, attack="deepfool", hyper={}))


def _beside_others(seen: Seen) -> NextStep | None:
    request = seen.request
    others = [f"{request.dataset}/{name}" for name in ("baseline", "pgd-linf", "trades", "fashion-mlp", "deep-defense")]
    known = {card.name for card in zoo.cards()}
    models = [request.model, *(name for name in others if name in known and name != request.model)][:3]
    if request.is_upload or len(models) < 2:
        return None
    link = {name: value for name, value in request.to_query().items() if name != "model"}
    question = "How do other models fare on the same picture?"
    return NextStep(question, "Compare them", COMPARE, {"models": ",".join(models), "craft": "each"} | link)


def _group(model: str) -> str:
    recipe = zoo.card(model).recipe
    return RECIPES.entry(recipe).group if recipe in RECIPES else ""


Rule = Callable[[Seen], NextStep | None]
RULES: tuple[Rule, ...] = (
    _one_it_gets_right,
    _any_class,
    _more_draws,
    _more_steps,
    _robust_model,
    _further,
    _certify,
    _smallest,
    _beside_others,
)


def next_step(seen: Seen) -> NextStep | None:
    """The first step that fits; one that the page would refuse (too many passes, another norm) does not fit."""
    for rule in RULES:
        try:
            step = rule(seen)
        except ExplorerError:
            continue
        if step is not None:
            return step
    return None
