"""Verification (reproduction) of a card: a drawn part of each recorded measurement is measured again and held against the record.

What decides, from strong to weak:

- Images and weights: their hashes, where the card has them.
- Verdicts: where the card keeps one for each image, and seed, images, kind of device and torch are its own, every one must be
  the same, and so must the margins that the attack saw, up to rounding (another precision may change no verdict). Otherwise
  random starts and rounding may flip some, as often to either side: McNemar's exact test.
- Counts: an older card has nothing else. With its own seed and images the drawn part follows the hypergeometric law exactly;
  else the two shares are compared by Fisher's exact test, which is conservative here.

All p-values of one card are adjusted together (Holm), so that an honest card is called "other" in at most one of 100
verifications (LEVEL). "Same" means that nothing speaks against the record; the bound says what could still differ.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.core import Attack, Ball, Classifier, DataUnavailable, InvalidValue, seeded, wilson
from explorer.core.device import computer_name
from explorer.core.statistics import holm, hypergeometric_test, largest_share, mcnemar
from explorer.core.versions import arithmetic, code_hash
from explorer.data import Images, load
from explorer.evaluation.batch_attack import BatchAttack
from explorer.evaluation.measure import rows_hash, unpacked
from explorer.evaluation.robustness import BFLOAT16, accuracy_in_turn, batch_of, counted, right_of_batch
from explorer.evaluation.standard import AVERAGED, IN_TURN
from explorer.evaluation.tables import value, what
from explorer.models import zoo
from explorer.models.zoo import Card

LEVEL = 0.01
REPEATED = ("clean", "noisy", "white-box", "adaptive", "transfer")
ROUNDING = 1e-4  # how far summed margins may be off on the same kind of device with the same torch, as a share
SAME, OTHER, NOT_REPEATED = "same", "other", "not repeated"
TOO_FAR = f"That is too far apart for chance at level {LEVEL:g}, all measures together."
BUNDLED, FULL = "bundled sample", "full"
CHOSEN = re.compile(r"([\d,]+), evenly from all classes, drawn with seed (\d+)")

Measured = Mapping[str, Any]  # one measure, as a card holds it
Load = Callable[[str, "torch.device | str"], Classifier]


@dataclass(frozen=True)
class Finding:
    """What came of one recorded measure."""

    measure: str
    recorded: str
    state: str  # SAME, OTHER or NOT_REPEATED
    reason: str  # one sentence
    n: int = 0  # images measured again
    correct: int = 0  # of these, now
    differing: int | None = None  # verdicts that are not the recorded ones; None: the card keeps none
    p: float | None = None  # of the test, not adjusted; None: nothing was tested
    bound: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Now:
    """What was measured again."""

    each: list[bool]  # verdicts
    places: Tensor  # which of the recorded images they are of
    repeated: bool  # every draw was the recorded one, if the seed is
    margins: dict[int, float]  # by the number of the batch, where whole batches were measured


@dataclass(frozen=True, eq=False)
class _Rows:
    """Images of a measurement that are on this computer."""

    images: Images
    places: Tensor  # (N,) int64: which of the recorded ones each is
    in_order: bool  # they are the recorded ones from the first on, so that its batches are these batches
    whole: bool  # all of them


def conclusion(findings: Sequence[Finding]) -> str:
    """SAME or OTHER of a card as a whole; NOT_REPEATED if nothing could be measured again."""
    if any(one.state == OTHER for one in findings):
        return OTHER
    return SAME if any(one.state == SAME for one in findings) else NOT_REPEATED


def verify_card(
    card: Card,
    load_model: Load = zoo.load,
    *,
    sample: int = 200,
    only: str = "",
    seed: int | None = None,
    draw: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Measure at least `sample` drawn images of each recorded measure again (whole batches, or all if there are fewer).

    `only`: measures whose description holds this text. `seed`: another one than the card's. `draw`: seed of which images are
    drawn. `load_model(name, device)` gives the card's model, and others that images were made on. Raises BadCheckpoint where the
    weights are not the card's, InvalidValue if `only` fits none.
    """
    chosen = [m for m in card.measures if only.lower() in _called(m).lower()]
    if not chosen:
        known = "; ".join(_called(m) for m in card.measures) or "none"
        raise InvalidValue(f"no measure of {card.name} fits {only!r}; it holds: {known}.")
    model, found = load_model(card.name, device), []
    for number, measure in enumerate(sorted(chosen, key=lambda m: m.get("seconds") or 0.0)):
        if progress is not None:
            progress(_called(measure))
        began = time.monotonic()
        try:
            one = _look(card, model, measure, sample, seed, draw + number, load_model)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            one = Finding(_called(measure), "", OTHER, f"The record is damaged ({type(error).__name__}: {error}).")
        found.append(replace(one, seconds=round(time.monotonic() - began, 2)))
    return _adjusted(found)


def _called(measure: Measured) -> str:
    """What was measured, in words, also of a record that somebody has spoilt."""
    try:
        return what(measure)
    except (KeyError, TypeError, ValueError, AttributeError):
        return f"damaged record: {str(measure.get('kind'))[:20]}"


def _adjusted(found: list[Finding]) -> list[Finding]:
    """Tests are decided together; what contradicts by itself stays as it is."""
    tested = [place for place, one in enumerate(found) if one.p is not None]
    for place, p in zip(tested, holm([found[place].p or 0.0 for place in tested]), strict=True):
        if p < LEVEL and found[place].state == SAME:
            found[place] = replace(found[place], state=OTHER, reason=f"{found[place].reason} {TOO_FAR}")
    return found


def contradiction(card: Card, measure: Measured) -> str:
    """What in a record cannot be, whatever a measurement says: one sentence, or nothing."""
    n, correct = measure["n"], measure["correct"]
    if not (isinstance(n, int) and isinstance(correct, int) and 0 <= correct <= n and n > 0):
        return f"The record counts {correct!r} right of {n!r}."
    low, high = wilson(correct, n)
    told = [measure["accuracy"], measure["low"], measure["high"]]
    if any(not math.isclose(a, b, abs_tol=1e-9) for a, b in zip(told, (correct / n, low, high), strict=True)):
        return f"The recorded accuracy or interval does not follow from {correct:,} right of {n:,}."
    if measure.get("weights") not in (None, "", card.identity):
        return "The record is of other weights or code than the card's model."
    if measure.get("verdicts"):
        try:
            if sum(unpacked(measure["verdicts"], n)) != correct:
                return f"The recorded verdicts do not sum to {correct:,}."
        except InvalidValue as error:
            return str(error)
    return ""


def _look(
    card: Card, model: Classifier, measure: Measured, sample: int, seed: int | None, draw: int, load_model: Load
) -> Finding:
    found = Finding(_called(measure), value(measure), NOT_REPEATED, "")
    if measure["kind"] not in REPEATED or measure.get("variant"):
        return replace(found, reason="Its kind is not measured again here.")
    if wrong := contradiction(card, measure):
        return replace(found, state=OTHER, reason=wrong)
    try:
        rows = _rows(card.dataset, measure)
        attacks = _attacks(measure)
        for attack in attacks:
            attack.check_threat(_ball(measure))
    except (DataUnavailable, InvalidValue) as error:
        return replace(found, reason=str(error))
    if rows.whole and measure.get("rows") and rows_hash(rows.images) != measure["rows"]:
        return replace(found, state=OTHER, reason="The images are not those of the record: their hash is another one.")
    own = seed is None or seed == measure["seed"]
    asked = dict(measure) | {"seed": measure["seed"] if own else seed}
    now = _again(model, asked, attacks, rows, sample, draw, load_model)
    own = own and now.repeated
    return _held_against(found, measure, now, own and _same_computer(model, measure), own)


def _rows(name: str, measure: Measured) -> _Rows:
    """The recorded images, as far as they are here. Raises DataUnavailable, InvalidValue."""
    text, n = measure["chosen"], measure["n"]
    evenly = CHOSEN.fullmatch(text)
    if evenly is None and not text.startswith("all "):
        raise InvalidValue(f"How its images were chosen cannot be repeated: {text!r}.")
    told = measure["data"].partition(", ")[2]  # where the images came from
    count, seed = (n, int(evenly[2])) if evenly else (None, 0)
    with contextlib.suppress(DataUnavailable):
        images = load(name, n=count, seed=seed, source="sample" if told == BUNDLED else "auto")
        if len(images) == n and (images.source == told or images.source[:4] == told[:4] == FULL):
            return _Rows(images, torch.arange(n), True, True)
    if seed != 0 or told[:4] != FULL:
        raise DataUnavailable(f"The images, of {measure['data']}, drawn with seed {seed}, are not on this computer.")
    part = load(name, source="sample")  # the first ones of the even draw with seed 0, in its order
    if part.source != BUNDLED:
        raise DataUnavailable(f"The images, of {measure['data']}, are not on this computer.")
    if evenly is None:
        return _Rows(part, part.index, False, False)
    fits = slice(0, min(n, len(part)))
    part = replace(part, x=part.x[fits], y=part.y[fits], index=part.index[fits])
    return _Rows(part, torch.arange(len(part)), True, len(part) == n)


def _attacks(measure: Measured) -> list[Attack]:
    """The recorded attacks with their hyper-parameters. Raises UnknownName, InvalidValue."""
    if measure["attack"] is None:
        return []
    for _, stage, _ in (IN_TURN, *AVERAGED):  # two of one name may differ in what a record can name but once
        made = [ATTACKS[key](**hyper) for key, hyper in stage]
        merged = {name: one for attack in made for name, one in attack.to_dict().items()}
        if measure["attack"] == "+".join(key for key, _ in stage) and merged == measure["hyper"]:
            return made
    found = []
    for key in measure["attack"].split("+"):
        known = {p.name for p in ATTACKS[key].params()}
        if "+" not in measure["attack"] and (strange := measure["hyper"].keys() - known):
            raise InvalidValue(f"{key} has no {min(strange)!r} any more: its settings have changed since.")
        found.append(ATTACKS[key].from_dict({k: v for k, v in measure["hyper"].items() if k in known}))
    return found


def _again(
    model: Classifier, measure: Measured, attacks: list[Attack], rows: _Rows, sample: int, draw: int, load_model: Load
) -> _Now:
    images, rng = rows.images, seeded(draw)
    each: list[bool] = []
    margins: dict[int, float] = {}
    if len(attacks) < 2 and rows.in_order and (attacks or model.stochastic or measure["kind"] == "noisy"):
        size = max(1, measure["batch"] // attacks[0].draws) if attacks else measure["batch"]
        count = len(images) // size if not rows.whole else math.ceil(len(images) / size)
        if count > 0:
            batches = torch.randperm(count, generator=rng)[: math.ceil(sample / size)].sort().values.tolist()
            for index in batches:
                held, margins[index] = _batch(model, measure, attacks, images, size, index, load_model)
                each += held
            spans = [rows.places[index * size : (index + 1) * size] for index in batches]
            return _Now(each, torch.cat(spans), True, margins)
    some = torch.randperm(len(images), generator=rng)[:sample].sort().values
    part = replace(images, x=images.x[some], y=images.y[some], index=images.index[some])
    if len(attacks) > 1:
        asked = _settings(model, measure, load_model)
        accuracy = accuracy_in_turn(
            model, part, attacks, _ball(measure), seed=measure["seed"], batch=measure["batch"], **asked
        )
        each = unpacked(accuracy.verdicts, len(part))
    else:
        for index in range(math.ceil(len(part) / measure["batch"])):
            each += _batch(model, measure, attacks, part, measure["batch"], index, load_model)[0]
    alone = not attacks and not model.stochastic and measure["kind"] == "clean"  # a picture's answer is its own
    return _Now(each, rows.places[some], alone, {})


def _batch(
    model: Classifier, measure: Measured, attacks: list[Attack], images: Images, size: int, index: int, load_model: Load
) -> tuple[list[bool], float]:
    """Verdicts of one batch, drawn from as the record's batch of this number is, and its margins."""
    x, y, rng = batch_of(images, model, size, measure["seed"], index)
    y = counted(model, x, y, images.top)
    if attacks:
        asked = _settings(model, measure, load_model)
        source = asked.get("craft_on", model)
        tally = BatchAttack(model, source, attacks[0], _ball(measure), asked["precision"], None, rng).one_batch(x, y)
        return tally.each, tally.margin
    if measure["kind"] == "noisy":
        x = x + measure["sigma"] * torch.randn(x.shape, generator=rng, device=rng.device).to(x.device)
    return right_of_batch(model, x, y, rng, measure["verdict_draws"]), 0.0


def _settings(model: Classifier, measure: Measured, load_model: Load) -> dict[str, Any]:
    asked: dict[str, Any] = {"precision": "bfloat16" if measure["precision"] == BFLOAT16 else "float32"}
    if measure["source_model"] is not None:
        made = {"craft_on": load_model(measure["source_model"], model.device), "source_model": measure["source_model"]}
        return asked | made
    return asked


def _ball(measure: Measured) -> Ball:
    return Ball(measure["norm"], measure["eps"])


def _same_computer(model: Classifier, measure: Measured) -> bool:
    """Whether rounding is the record's: kind of device, torch's version, and the processor's instructions."""
    kind = re.sub(r", (\d+ of )?\d+ cores?$", "", measure["device"])
    return computer_name(model.device).startswith(kind) and f"{arithmetic()}," in measure.get("code", "")


def _held_against(found: Finding, measure: Measured, again: _Now, same_place: bool, own: bool) -> Finding:
    """`same_place`: every verdict has to be the same; `own`: images and seed are the record's."""
    each = again.each
    n, total, m, now = measure["n"], measure["correct"], len(each), sum(each)
    found = replace(found, n=m, correct=now)
    if not measure.get("verdicts"):
        law = (now, m, total, n) if own else (now, m, now + total, m + n)
        p = hypergeometric_test(*law)
        told = f"{now:,} of {m:,} drawn images are right now; recorded are {total:,} of {n:,} (p = {p:.2g})."
        return replace(found, state=SAME, reason=told, p=p, bound=_accepted(m, total, n, own))
    then = [unpacked(measure["verdicts"], n)[place] for place in again.places.tolist()]
    lost = sum(a and not b for a, b in zip(then, each, strict=True))
    won = sum(b and not a for a, b in zip(then, each, strict=True))
    changed = " The code has changed since." if code_hash() not in measure.get("code", "") else ""
    differing, bound = lost + won, largest_share(lost + won, m, LEVEL)
    told = f"{m - differing:,} of {m:,} verdicts are the recorded ones."
    found = replace(
        found, differing=differing, bound=f"at most {bound:.1%} of all {n:,} verdicts differ, with 99 % confidence"
    )
    if same_place:
        off = _margins_off(measure.get("margins") or [], again.margins)
        if off > ROUNDING:
            told += (
                f" What the attack saw (its highest margins) is {off:.2g} of its size off, more than rounding explains."
            )
        wrong = differing > 0 or off > ROUNDING
        return replace(found, state=OTHER if wrong else SAME, reason=told + changed * wrong)
    p = mcnemar(lost, won)
    told += f" {lost} were lost and {won} won (p = {p:.2g})."
    return replace(found, state=SAME, p=p, reason=told + changed * (differing > 0))


def _margins_off(then: Sequence[float], now: Mapping[int, float]) -> float:
    """How far the margins of a batch are from the recorded ones at most, as a share; 0 where the record has none."""
    if not then:
        return 0.0
    return max((abs(value - then[index]) / max(abs(then[index]), 1.0) for index, value in now.items()), default=0.0)


def _accepted(m: int, total: int, n: int, own: bool) -> str:
    """Which counts would have passed, by themselves."""

    def passes(k: int) -> bool:
        return hypergeometric_test(*((k, m, total, n) if own else (k, m, k + total, m + n))) >= LEVEL

    counts = [k for k in range(m + 1) if passes(k)]
    return f"{counts[0]:,} to {counts[-1]:,} right would have passed at level {LEVEL:g}" if counts else ""
