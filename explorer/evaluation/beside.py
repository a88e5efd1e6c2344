"""Our attacks beside other libraries', on the same images at equal settings: success, distances, passes, time.

Every library attacks the images that the model classifies right. What it returns is judged here, in float32: whether the
model is fooled, and whether the image lies in the ball and in [0, 1]. Passes are counted at the model, not believed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.apgd import APGDCE, APGDT
from explorer.attacks.apgd_l1 import APGDL1
from explorer.attacks.autoattack import AutoAttack
from explorer.attacks.cw import CW
from explorer.attacks.deepfool import DeepFool
from explorer.attacks.difgsm import DIFGSM
from explorer.attacks.fab import FAB
from explorer.attacks.fgsm import FGSM
from explorer.attacks.mifgsm import MIFGSM
from explorer.attacks.pgd import PGD
from explorer.attacks.square import Square
from explorer.core import USUAL_EPS, Attack, Ball, Cancelled, Classifier, Goal, InvalidValue, UnknownName, run, seeded
from explorer.core.ball import EPS_LIMIT, Norm
from explorer.core.device import hardware_name
from explorer.data import Images
from explorer.evaluation.bench import load_average, seconds
from explorer.evaluation.peers import adapter, attacked
from explorer.evaluation.peers.library import PEERS, Counted, Peer
from explorer.evaluation.peers.setting import Adapter, Setting
from explorer.evaluation.verdict import verify

OURS = "explorer"
SLACK = 1e-6  # pixel units beyond the ball that are put down to rounding: told, but not held against a library
MODEL = "cifar10/pgd-linf"
MINIMAL: dict[str, tuple[Norm, ...]] = {  # at their defaults, in these norms
    "ddn": ("l2",), "fmn": ("linf", "l2", "l1", "l0"), "superdeepfool": ("l2",), "brendel-bethge": ("l2", "l1"),
    "fab": ("l1",), "ead": ("l1",), "sigma-zero": ("l0",), "hopskipjump": ("l2", "linf"), "boundary": ("l2",),
}  # fmt: skip

Progress = Callable[[str, int, int], None]  # what runs, runs done, of how many


@dataclass(frozen=True)
class Target:
    """What was set out to be reached: `what` ("time" or "passes") of ours over a library's."""

    library: str
    what: str
    at_most: float


@dataclass(frozen=True)
class Comparison:
    """One attack at one setting. `images` of the data at most; `rounds` with seeds of their own, each timed.

    Another library's round that takes more than `minutes` is stopped, which ends that library's part.
    """

    key: str
    attack: Attack
    ball: Ball
    images: int = 32
    rounds: int = 3
    targets: tuple[Target, ...] = ()
    minutes: float = 10

    @property
    def minimal(self) -> bool:
        return self.attack.budget == "minimal"


def _pgd(norm: Norm, steps: int, random_start: bool) -> Comparison:
    made = PGD(steps=steps, rel_step=2.5 / steps, random_start=random_start)
    key = f"pgd-{norm}-{steps}{'-random' if random_start else ''}"
    return Comparison(key, made, Ball(norm, USUAL_EPS[norm]))


def comparisons() -> tuple[Comparison, ...]:
    """All that are made, in their order; what takes long has fewer images and rounds."""
    linf, l2 = (Ball(norm, USUAL_EPS[norm]) for norm in ("linf", "l2"))
    far = Ball("l2", EPS_LIMIT["l2"])
    return (
        Comparison("fgsm", FGSM(), linf),
        *(_pgd(norm, steps, start) for norm in ("linf", "l2") for steps in (10, 50) for start in (False, True)),
        Comparison("mifgsm", MIFGSM(), linf),
        Comparison("difgsm", DIFGSM(), linf),
        Comparison(
            "deepfool",
            DeepFool(),
            far,
            targets=(Target("adv-lib", "time", 1.0), Target("torchattacks", "time", 0.1)),
        ),
        Comparison("cw-5x100", CW(searches=5, steps=100), far, 16, 1, (Target("adv-lib", "passes", 0.5),)),
        Comparison(
            "cw-9x1000",
            CW(searches=9, steps=1000),
            far,
            8,
            1,
            (Target("adv-lib", "passes", 0.5),),
            minutes=30,
        ),
        Comparison(
            "apgd-ce-linf",
            APGDCE(early_stop=True),
            linf,
            targets=(Target("pyautoattack", "time", 1 / 1.5),),
        ),
        Comparison("apgd-ce-l2", APGDCE(early_stop=True), l2),
        Comparison("apgd-t", APGDT(early_stop=True), linf, 32, 1),
        Comparison("fab", FAB(), linf, 16, 1),
        Comparison("square", Square(), linf, 32, 1),
        Comparison("autoattack", AutoAttack(), linf, 200, 1, minutes=120),
        Comparison("apgd-l1", APGDL1(), Ball("l1", USUAL_EPS["l1"]), 32, 1),
        Comparison("square-l1", Square(), Ball("l1", USUAL_EPS["l1"]), 32, 1),
        *(_minimal(key, norm) for key, norms in MINIMAL.items() for norm in norms),
    )


def _minimal(key: str, norm: Norm) -> Comparison:
    return Comparison(f"{key}-{norm}", ATTACKS[key](), Ball(norm, EPS_LIMIT[norm]), 32, 1)


def chosen(only: Iterable[str] | None) -> list[Comparison]:
    """The comparisons of these keys, or of the attacks of these keys; None: all. Raises UnknownName."""
    every = comparisons()
    if only is None:
        return list(every)
    names = {c.key for c in every} | {ATTACKS.key_of(c.attack) for c in every}
    asked = list(only)
    for name in asked:
        if name not in names:
            raise UnknownName("comparison", name, names)
    return [c for c in every if c.key in asked or ATTACKS.key_of(c.attack) in asked]


def ours(model: nn.Module, x: Tensor, y: Tensor, setting: Setting[Attack]) -> Tensor:
    """(N,C,H,W) our attack's best image for each of x."""
    attack, goal = setting.attack, Goal.untargeted(y)
    walk = attack.walk(model, x, goal, setting.ball, seeded(setting.seed))
    return run(walk, goal, minimal=attack.budget == "minimal").x


def beside(
    model: Classifier,
    images: Images,
    selection: Sequence[Comparison],
    *,
    peers: Sequence[Peer] = PEERS,
    seed: int = 0,
    progress: Progress | None = None,
    told: Callable[[dict[str, Any]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Plain values: the conditions, the libraries with version or what is missing of them, and every comparison.

    Each comparison is `told` as soon as it is done.
    Raises InvalidValue without any image that is classified right, Cancelled when `should_stop` says so.
    """
    missing = {peer.name: peer.missing() for peer in peers}
    here = [peer for peer in peers if missing[peer.name] is None]
    plan = [(c, _adapters(here, c)) for c in selection]
    total, done = sum(c.rounds * (len(theirs) + 1) for c, theirs in plan), 0

    def after_each(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(what, done, total)
        if should_stop is not None and should_stop():
            raise Cancelled("The comparison was stopped before its end.")

    comparisons = []
    for comparison, theirs in plan:
        comparisons.append(_compared(model, images, comparison, theirs, seed, after_each))
        if told is not None:
            told(comparisons[-1])
    return {
        "device": hardware_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "data": f"{images.name} {images.split}, {images.source}",
        "seed": seed,
        "libraries": {peer.name: peer.version for peer in here},
        "missing": {name: reason for name, reason in missing.items() if reason is not None},
        "comparisons": comparisons,
    }


def _adapters(peers: Sequence[Peer], comparison: Comparison) -> list[tuple[Peer, Adapter]]:
    """The libraries that have the attack, each with its adapter."""
    key = ATTACKS.key_of(comparison.attack)
    found = [(peer, adapter(peer.name, key, comparison.ball)) for peer in peers]
    return [(peer, how) for peer, how in found if how is not None]


@dataclass
class _Run:
    """One library's part in a comparison; every list has one entry a round."""

    library: str
    version: str
    how: Adapter
    is_ours: bool = False
    seconds: list[float] = field(default_factory=list)
    reached: list[Tensor] = field(default_factory=list)  # (N,) bool: fooled, and inside but for rounding
    outside: int = 0  # images beyond the ball or [0, 1], in the first round
    excess: float = 0.0  # how far at most, pixel units
    distance: Tensor | None = None  # (N,) of the first round, inf where not reached
    forwards: float = 0.0  # an image, in the first round
    backwards: float = 0.0
    failed: str | None = None

    def once(self, model: Classifier, x: Tensor, y: Tensor, setting: Setting[Attack], minutes: float) -> None:
        """Attack, and judge what comes back."""
        counted, made = Counted(model, None if self.is_ours else minutes), []

        def work() -> None:
            made.append(
                self.how(counted, x, y, setting) if self.is_ours else attacked(self.how, counted, x, y, setting)
            )
            if not bool(torch.isfinite(made[0]).all()):
                raise FloatingPointError("it returned pixels that are no numbers")

        try:
            self.seconds.append(seconds(work, model.device))
        except Exception as error:  # another library's fault ends its part, and is told
            if self.is_ours:
                raise
            self.failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            return
        first, (x_adv,) = not self.reached, made
        verdict = verify(model, x_adv.to(x), x, Goal.untargeted(y), setting.ball, seeded(setting.seed))
        distance = verdict.distance
        excess = torch.maximum(distance - setting.ball.eps, _beyond(x_adv)).clamp(min=0)
        reached = verdict.reached & (excess <= SLACK)
        self.reached.append(reached)
        if first:
            self.outside, self.excess = int((~verdict.inside).sum()), float(excess.max())
            self.distance = torch.where(reached, distance, math.inf)
            self.forwards, self.backwards = counted.forwards / len(x), counted.backwards / len(x)


def _beyond(x: Tensor) -> Tensor:
    """(N,) float64: how far the pixel that is farthest from [0, 1] lies beyond it; inf where one is no number."""
    return torch.maximum(-x, x - 1).flatten(1).amax(1).cpu().double().nan_to_num(nan=math.inf)


def _compared(
    model: Classifier,
    images: Images,
    comparison: Comparison,
    theirs: Sequence[tuple[Peer, Adapter]],
    seed: int,
    after_each: Callable[[str], None],
) -> dict[str, Any]:
    n, attack, ball = min(comparison.images, len(images)), comparison.attack, comparison.ball
    x, y = images.x[:n].to(model.device), images.y[:n].to(model.device)
    right = ~verify(model, x, x, Goal.untargeted(y), Ball("linf", 1.0), seeded(seed)).reached.to(x.device)
    if not bool(right.any()):
        raise InvalidValue(f"a comparison needs an image that the model classifies right; none of {n} is.")
    x, y = x[right], y[right]
    key = ATTACKS.key_of(attack)
    runs = [_Run(OURS, "", ours, is_ours=True)]
    runs += [_Run(peer.name, peer.version, how) for peer, how in theirs]
    before = load_average()
    for number in range(comparison.rounds):
        setting = Setting(attack, ball, model.num_classes, seed + number)
        for one in runs if number % 2 == 0 else reversed(runs):
            if one.failed is None:
                one.once(model, x, y, setting, comparison.minutes)
            after_each(f"{comparison.key}: {one.library}")
    rows = [_row(one, runs[0], n, comparison.minimal) for one in runs]
    return {
        "key": comparison.key,
        "attack": key,
        "title": ATTACKS.entry(key).title,
        "hyper": attack.to_dict(),
        "norm": ball.norm,
        "minimal": comparison.minimal,
        "eps": None if ball.eps == EPS_LIMIT[ball.norm] else ball.eps,
        "images": n,
        "right": len(x),
        "rounds": comparison.rounds,
        "load": [before, load_average()],
        "rows": rows,
        "wanted": _wanted(rows, comparison),
    }


def _row(one: _Run, first: _Run, images: int, minimal: bool) -> dict[str, Any]:
    if one.failed is not None:
        return {"library": one.library, "version": one.version, "failed": one.failed}
    n, successes = len(one.reached[0]), [int(r.sum()) for r in one.reached]
    row = {
        "library": one.library,
        "version": one.version,
        "successes": successes,
        "success": mean(successes) / n,
        "robust_accuracy": (n - mean(successes)) / images,  # of all images, those that were wrong anyway included
        "changes": int((torch.stack(one.reached).float().var(0, unbiased=False) > 0).sum()),  # between the rounds
        "same_verdicts": [int((a == b).sum()) for a, b in zip(one.reached, first.reached, strict=True)],
        "outside": one.outside,
        "excess": one.excess,
        "forwards": one.forwards,
        "backwards": one.backwards,
        "seconds": median(one.seconds),
        "seconds_each": one.seconds,
        "time_ratio": median(first.seconds) / median(one.seconds),  # ours over theirs
        "passes_ratio": (first.forwards + first.backwards) / max(one.forwards + one.backwards, 1e-9),
    }
    if minimal and one.distance is not None and first.distance is not None:
        both = one.distance.isfinite() & first.distance.isfinite()
        row |= {f"{name}_distance": value for name, value in _middle(one.distance).items()}
        row |= {"common": int(both.sum()), "on_common": _middle(one.distance[both])}
        row |= {"ours_on_common": _middle(first.distance[both])}
    return row


def _middle(distance: Tensor) -> dict[str, float | None]:
    """Mean over the images reached, and the median of all, where an image not reached counts as endlessly far."""
    reached, values = distance[distance.isfinite()], sorted(distance.tolist())
    middle = median(values) if values else math.inf
    return {
        "mean": float(reached.mean()) if len(reached) else None,
        "median": middle if math.isfinite(middle) else None,
    }


def _wanted(rows: Sequence[dict[str, Any]], comparison: Comparison) -> list[dict[str, Any]]:
    """What ours should reach beside each library, and whether it does."""
    mine, found = rows[0], []
    for row in rows[1:]:
        if "failed" in row:
            continue

        def add(what: str, value: float, at_most: float, library: str = row["library"]) -> None:
            found.append(
                {"library": library, "what": what, "value": value, "at_most": at_most, "reached": value <= at_most}
            )

        add("images not fooled", 1 - mine["success"], 1 - row["success"])
        if comparison.minimal and row["common"]:
            for middle in ("mean", "median"):
                add(f"{middle} distance", row["ours_on_common"][middle], row["on_common"][middle])
        for target in comparison.targets:
            if target.library == row["library"]:
                add(f"{target.what} over theirs", row[f"{target.what}_ratio"], target.at_most)
    return found
