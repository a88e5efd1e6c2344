"""Attack images from a script: `explorer.attack(model, x, y, "pgd", eps=8/255)`, with the verdict of fresh float32 passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explorer.api import inputs
from explorer.api.inputs import Labels
from explorer.api.recording import BatchRecorder
from explorer.attacks import ATTACKS
from explorer.certify.noise import BATCHES
from explorer.core import Attack, Best, Classifier, Goal, InvalidValue, Outcome, ThreatModel, Trace, seeded
from explorer.core.precision import climbing_precision, rounded
from explorer.core.rng import derived_seed
from explorer.core.threat import Eps
from explorer.data import dataset
from explorer.engine import eps_text
from explorer.evaluation import verify
from explorer.models import zoo


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult(Outcome):
    """An Outcome whose `success` is the verdict of fresh passes; its tensors are on x's device.

    `trace` holds each image's walk, if it was asked for.
    """

    trace: tuple[Trace, ...] | None = None
    precision: str = "float32"  # of the attack's passes; the verdict's are in float32
    summary: str = ""  # what was asked, in words

    def __repr__(self) -> str:
        n, reached = len(self.success), int(self.success.sum())
        median = f", median distance {float(self.distance[self.success].median()):.4g}" if reached else ""
        return f"{self.summary}: the goal is reached on {reached} of {n} image{'' if n == 1 else 's'}{median}"


def attack(
    model: nn.Module | str,
    x: Tensor,
    y: Labels,
    method: str | Attack = "pgd",
    *,
    norm: str | None = None,
    eps: Eps | str | None = None,
    target: int | Labels | None = None,
    seed: int = 0,
    batch: int | None = None,
    precision: str = "auto",
    trace: bool = False,
    **settings: Any,
) -> AttackResult:
    """Attack the images x (N,C,H,W), pixels in [0,1], of classes y (N,), and keep the best point found for each.

    >>> import explorer
    >>> from explorer.data import load
    >>> images = load("fashion_mnist", n=10)
    >>> result = explorer.attack("fashion_mnist/fashion-mlp", images.x, images.y, "pgd", eps=8 / 255, steps=10)
    >>> tuple(result.x.shape), bool((result.distance <= 8 / 255).all())
    ((10, 1, 28, 28), True)
    >>> nearest = explorer.attack("fashion_mnist/fashion-mlp", images.x, images.y, "deepfool", norm="l2")
    >>> nearest.distance.shape  # no eps: the attack looks for the smallest change
    torch.Size([10])

    model: any `nn.Module` in evaluation mode that maps such pixels to logits (N,K), normalising by itself (see
        `as_classifier`), or the name of a model of the zoo, such as "cifar10/pgd-linf", which is loaded on x's device.
    method: an attack's key (`explorer.attacks.ATTACKS.keys()`), or an Attack of your own; `settings` are its fields.
    norm: of the allowed change, or the name of another threat model ("rotation"); None: the attack's first.
    eps: its size in pixel units (8/255, not 8), a number or a tensor (N,); None: 8/255 in linf, 0.5 in l2. Attacks that look
        for the smallest change take none. Under "rotation" a share of the attack's own limits, under "corruption" a severity.
    target: the class to reach, for all images or one for each; None: any but y.
    seed: of every draw. With `batch`, each further batch draws from a seed that follows from it.
    batch: images at once; None: all, and half as many each time memory runs out (a result then depends on the memory there
        is where the attack draws).
    precision: of the attack's passes, "float32" or "bfloat16"; the verdict is always in float32. "auto" takes bfloat16 from
        16 images on, where the device multiplies in it by itself and the attack climbs as well in it (`Attack.bfloat16`,
        shown by `explorer bench precision`), unless there is a `trace`. The result's `precision` says which it was.
    trace: record every step; memory for steps * N images.

    `success`: the goal is reached, inside the ball, at a fresh pass over the image kept; for a random model in most of 20
    fresh draws. An image that the model has wrong from the start counts as reached. Raises InvalidValue and UnknownName.
    """
    x = inputs.checked_images(x)
    net = inputs.checked_model(model, x)
    y = inputs.checked_labels("y", y, len(x), net.num_classes)
    goal = inputs.checked_goal(y, target, net.num_classes)
    asked = inputs.checked_attack(method, settings)
    threat = inputs.checked_threat(asked, norm, eps, len(x))
    precision = climbing_precision("float32" if trace and precision == "auto" else precision, asked, len(x), net)
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InvalidValue(f"seed must be a whole number in [0, 2^63); got {seed!r}.")
    conditions = _conditions(model, asked, threat, seed, precision)
    job = _Job(
        net,
        asked,
        x,
        y,
        goal,
        threat,
        seed,
        precision,
        conditions if trace else None,
        _classes(model, net),
    )
    parts = inputs.halving(len(x), batch, lambda size: list(job.parts(size)))
    return _joined(parts, precision, _summary(conditions))


@dataclass(frozen=True)
class _Job:
    """One attack on all images, batch by batch."""

    net: Classifier
    attack: Attack
    x: Tensor
    y: Tensor
    goal: Goal
    threat: ThreatModel
    seed: int
    precision: str
    conditions: dict[str, Any] | None  # of the traces; None: none are asked for
    classes: tuple[str, ...]

    def parts(self, size: int) -> Iterator[AttackResult]:
        for index, start in enumerate(range(0, len(self.x), size)):
            rows = torch.arange(start, min(start + size, len(self.x)))
            rng = seeded(self.seed if index == 0 else derived_seed(self.seed, BATCHES, index))
            yield self._one_batch(rows, rng)

    def _one_batch(self, rows: Tensor, rng: torch.Generator) -> AttackResult:
        x0, device = self.x[rows.to(self.x.device)].to(self.net.device), self.x.device
        goal = Goal(self.goal.labels[rows].to(x0.device), self.goal.is_targeted)
        threat, best = self.threat.rows(rows), Best(by_loss=self.net.stochastic)
        recorder = None
        if self.conditions is not None:
            recorder = BatchRecorder(self.net, x0, self.y[rows], goal, self.attack, threat, self.seed)
        for step in self.attack.walk(rounded(self.net, self.precision), x0, goal, threat, rng):
            best.add(step)
            if recorder is not None:
                recorder.add(step)
        found = best.outcome()
        verdict = verify(self.net, found.x, x0, goal, threat, rng, theta=found.theta)
        values: dict[str, Any] = {
            name: value.to(device) if isinstance(value, Tensor) else value for name, value in vars(found).items()
        }
        values["success"] = (verdict.reached & verdict.inside).to(device)
        return AttackResult(
            **values, trace=None if recorder is None else recorder.traces(self.classes, self.conditions or {})
        )


def _joined(parts: list[AttackResult], precision: str, summary: str) -> AttackResult:
    """One result of all batches. A change that images share is known if they were one batch."""
    each = ("x", "success", "distance", "loss", "forwards", "backwards", "theta")
    found = {name: [getattr(part, name) for part in parts] for name in each}
    values: dict[str, Any] = {name: None if some[0] is None else torch.cat(some) for name, some in found.items()}
    weights = torch.tensor([float(part.backwards.sum()) for part in parts])
    shares = torch.tensor([part.degenerate_share for part in parts])
    return AttackResult(
        **values,
        degenerate_share=float((weights * shares).sum() / weights.sum().clamp(min=1)),
        shared=parts[0].shared if len(parts) == 1 else None,
        trace=None if parts[0].trace is None else tuple(trace for part in parts for trace in part.trace or ()),
        precision=precision,
        summary=summary,
    )


def _conditions(
    model: nn.Module | str, attack: Attack, threat: ThreatModel, seed: int, precision: str
) -> dict[str, Any]:
    """What was asked, as plain values."""
    minimal = attack.budget == "minimal"
    eps = threat.eps.tolist() if isinstance(threat.eps, Tensor) else threat.eps
    return {
        "model": model if isinstance(model, str) else type(model).__name__,
        "attack": ATTACKS.name_of(attack),
        "hyper": attack.to_dict(),
        "norm": threat.name,
        "eps": None if minimal else eps,
        "budget": attack.budget,
        "seed": seed,
        "precision": precision,
    }


def _classes(model: nn.Module | str, net: Classifier) -> tuple[str, ...]:
    if isinstance(model, str):
        return dataset(zoo.card(model).dataset).classes
    return tuple(str(number) for number in range(net.num_classes))


def _summary(conditions: dict[str, Any]) -> str:
    eps = conditions["eps"]
    size = "" if eps is None else " of each its own eps" if isinstance(eps, list) else f" {eps_text(eps)}"
    gradients = "" if conditions["precision"] == "float32" else ", gradients in bfloat16"
    return f"{conditions['attack']}, {conditions['norm']}{size}{gradients}"
