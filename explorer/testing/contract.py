"""The contract of attacks, for everybody's own: `check_attack(MyAttack())` raises with the step at which it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.core import (
    LOSSES,
    NORMS,
    Attack,
    Ball,
    Classifier,
    Corruption,
    Goal,
    InvalidValue,
    RotationShift,
    Step,
    ThreatModel,
    current_rng,
    eval_mode,
    run,
    seeded,
)
from explorer.core.ball import THREAT_LIMIT
from explorer.testing.networks import Broken, Case, WithNoise, classes_of, in_training, small_case
from explorer.testing.yardsticks import TRIES, distances, fools, yardsticks

EPS = {
    "linf": 0.06,
    "l2": 0.6,
    "l1": 3.0,
    "l0": 6.0,
    "rotation": 0.3,
    "corruption": 1.0,
}  # where the small network's images are fooled by an attack, not by noise
TURNS = 12  # steps of two walks in turns
WATCHED = 6  # images of a walk whose steps are looked at
AHEAD = 10  # by so many images, of 48


class BrokenContract(AssertionError):
    """An attack does what no attack may."""


def check_attack(attack: Attack, threat: ThreatModel | None = None, case: Case | None = None) -> None:
    """Raises BrokenContract, which names the clause and the step, unless the attack keeps all of `CLAUSES`.

    Under `threat`, or else under each of the attack's `threats`, with sizes that fit the `case`; a registered baseline
    need not beat noise. `case` None: a small network, trained in a second. An attack that takes more than a
    few hundred passes takes long: give one with fewer steps.
    """
    case = small_case() if case is None else case
    refuses_other_threats(attack, case)
    for one in [threat] if threat is not None else [threat_for(attack, name) for name in attack.threats]:
        for clause in CLAUSES:
            if clause is not beats_noise or _group(attack) != "baseline":
                clause(attack, case, one)


def threat_for(attack: Attack, name: str) -> ThreatModel:
    """What an attack is tested under: the whole range for one that looks for the smallest change."""
    return attack.threat_model(name, THREAT_LIMIT.get(name, 1.0) if attack.budget == "minimal" else EPS.get(name, 1.0))


def _group(attack: Attack) -> str:
    """Of a registered attack, else empty."""
    return next((entry.group for entry in ATTACKS if entry.cls is type(attack)), "")


def _require(holds: Any, what: str, step: Step | None = None) -> None:
    if not bool(holds):
        raise BrokenContract(what if step is None else f"step {step.index} of {step.total}: {what}")


# The clauses: of an attack, a network with images, and a threat model


def stays_inside(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """Every yielded image is allowed and (with a budget) within eps, without tolerance, black and white ones too."""
    model, x, _ = case
    edges = torch.cat([x[:4], x[:4].round(), torch.zeros_like(x[:1]), torch.ones_like(x[:1])])
    region = threat.around(edges)
    for step in attack.walk(model, edges, Goal.untargeted(classes_of(model, edges)), threat, seeded(0)):
        _require(step.x.min() >= 0 and step.x.max() <= 1, "an image leaves [0, 1]", step)
        if step.theta is not None:
            _require(torch.equal(region.apply(step.theta), step.x), "theta does not make the image", step)
            _require(region.contains(step.theta).all(), "theta is not allowed", step)
        elif attack.budget == "fixed":
            _require((distances(threat, step.x, edges) <= threat.eps).all(), "an image leaves the ball", step)


def repeats_under_its_seed(attack: Attack, case: Case, threat: ThreatModel) -> None:
    model, x, y = case
    goal = Goal.targeted((y[:WATCHED] + 1) % model.num_classes)
    walks = [attack.walk(model, x[:WATCHED], goal, threat, seeded(3)) for _ in range(2)]
    for first, again in zip_longest(*walks):
        _require(first is not None and again is not None, "one walk is longer than another under the same seed")
        for name in ("x", "logits", "loss", "distance", "reached", "degenerate"):
            _require(torch.equal(getattr(first, name), getattr(again, name)), f"{name} differs from run to run", first)


def leaves_no_trace(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """Weights, buffers, modes, .grad, requires_grad, hooks, image, global generator and grad mode are as before.

    Asked of a frozen network, and of one in the middle of its training whose caller wants no gradients at all, where
    the image asks for them: both give the same steps.
    """
    model, x, y = case
    frozen = _watched_walk(attack, model, x[:WATCHED].clone(), y[:WATCHED], threat)
    busy, leaf = in_training(model, x[:WATCHED], y[:WATCHED]), x[:WATCHED].clone().requires_grad_(True)
    with torch.no_grad():
        again = _watched_walk(attack, busy, leaf, y[:WATCHED], threat)
    _require(leaf.grad is None, "the image's .grad was made")
    _require(len(frozen) == len(again) and all(map(torch.equal, frozen, again)), "the network's state changes the walk")


def _watched_walk(attack: Attack, model: Classifier, x: Tensor, y: Tensor, threat: ThreatModel) -> list[Tensor]:
    before, image, numbers, grad = (
        _state(model),
        x.detach().clone(),
        torch.random.get_rng_state(),
        torch.is_grad_enabled(),
    )
    points = []
    with eval_mode(model):
        for step in attack.walk(model, x, Goal.untargeted(y), threat, seeded(0)):
            _require(torch.is_grad_enabled() == grad, "gradients are switched for the caller between two steps", step)
            _require(current_rng(torch.device("cpu")) is None, "the pass's generator leaks into the caller", step)
            points.append(step.x)
    _require_same(before, _state(model))
    _require(torch.equal(image, x), "the original image was changed")
    _require(torch.equal(torch.random.get_rng_state(), numbers), "the global generator was used")
    return points


def survives_a_break(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """Whoever stops after the first step finds everything as before, and may begin anew."""
    model, x, y = case
    before, firsts = _state(model), []
    for _ in range(2):
        for step in attack.walk(model, x[:WATCHED], Goal.untargeted(y[:WATCHED]), threat, seeded(0)):
            firsts.append(step)
            break
        _require(
            torch.is_grad_enabled() and current_rng(torch.device("cpu")) is None, "a broken walk leaves its mode behind"
        )
        _require_same(before, _state(model))
    _require(torch.equal(firsts[0].x, firsts[1].x), "a broken walk changes the next", firsts[1])


def shares_the_model(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """Two walks in turns on one stochastic network: the one is what it would be alone."""
    _, x, y = case
    model, goal = WithNoise(case[0]), Goal.untargeted(y[:2])

    def walk(seed: int) -> Iterator[Step]:
        return islice(attack.walk(model, x[:2], goal, threat, seeded(seed)), TURNS)

    alone, other = list(walk(1)), walk(2)
    for expected, step in zip_longest(alone, walk(1)):
        next(other, None)
        _require(expected is not None and step is not None, "a walk's length depends on another walk")
        _require(torch.equal(expected.x, step.x), "two walks on one network disturb each other", step)


def bears_broken_answers(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """Of a batch the first image's logits are NaN, the second's infinite, one of the third's is -inf: no pixel is lost,
    the first is not called fooled, and all others are attacked as ever. Under a transformation, which takes a picture to
    where others are, all logits are NaN."""
    model, x, _ = case
    x = x[:WATCHED]
    goal = Goal.untargeted(classes_of(model, x))
    if threat.name not in NORMS:
        _reached_in_the_end(attack, Broken(model, x[:1]), x, goal, threat, never=len(x))
        return
    most = _reached_in_the_end(attack, model, x, goal, threat)[3:].sum()
    reached = _reached_in_the_end(attack, Broken(model, x), x, goal, threat, never=1)
    _require(2 * reached[3:].sum() >= most, "logits of some images that are not finite hold the others")


def _reached_in_the_end(
    attack: Attack, model: nn.Module, x: Tensor, goal: Goal, threat: ThreatModel, never: int = 0
) -> Tensor:
    reached = torch.zeros(len(x), dtype=torch.bool)
    for step in attack.walk(model, x, goal, threat, seeded(0)):
        _require(torch.isfinite(step.x).all(), "pixels are not finite", step)
        _require(not step.reached[:never].any(), "an image whose logits are NaN is called fooled", step)
        reached = reached | step.reached
    return reached


def beats_noise(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """Misclassifies more images than the best of 20 random points; under a transformation, which has few parameters, no fewer.

    An attack that looks for the smallest change: reaches every image, nearer than 20 random directions do, and (unless it
    is registered as one that sees answers only) in the middle as near as PGD with the best eps.
    """
    model, x, y = case
    goal = Goal.untargeted(y)
    outcome = run(attack.walk(model, x, goal, threat, seeded(0)), goal)
    fooled = fools(model, outcome.x, goal)
    if attack.budget == "minimal":
        _require(torch.equal(outcome.success, fooled), "says of an image that it is fooled, or not, and it is not so")
        _require(fooled.all(), f"{int((~fooled).sum())} images not reached")
        noise, usual = yardsticks(case, threat)
        nearer = (outcome.distance < noise) | ((outcome.distance == 1) & (threat.name == "l0"))  # not less than a pixel
        _require(nearer.double().mean() > 0.9, f"{int((~nearer).sum())} images no nearer than noise")
        middle, theirs = float(outcome.distance.median()), float(usual.median())
        _require(
            _group(attack) in BLACK_BOX or middle <= 1.1 * theirs, f"in the middle {middle:.3f} away, PGD {theirs:.3f}"
        )
        return
    rng, noisy, region = seeded(1), torch.zeros(len(x), dtype=torch.bool), threat.around(x)
    for _ in range(TRIES):
        noisy |= fools(model, region.apply(region.sample(rng)), goal)
    ahead = int(fooled.sum()) - int(noisy.sum())
    least = AHEAD if threat.name in NORMS else 0
    _require(fooled.any() and ahead >= least, f"{int(fooled.sum())} images fooled, noise fools {int(noisy.sum())}")


def reports_truly(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """A step's fields have the stated shapes and types and are what the model says at its x."""
    model, x, y = case
    x, y, k = x[:WATCHED], y[:WATCHED], model.num_classes
    with torch.no_grad():
        clean = model(x)
    for goal in (Goal.untargeted(y), Goal.targeted((y + 1) % k)):
        steps = list(attack.walk(model, x, goal, threat, seeded(0)))
        totals = [s.total for s in steps]  # a walk that may end early announces the most that may come
        _require([s.index for s in steps] == list(range(len(steps))), "steps are not numbered 0, 1, 2, ...")
        _require(
            totals == sorted(totals, reverse=True) and totals[-1] == len(steps) - 1, "the announced length is not kept"
        )
        for step in steps:
            _has_its_types(step, len(x), k, x)
            _require(step.minimal == (attack.budget == "minimal"), "`minimal` is not what the attack's budget is", step)
            with torch.no_grad():
                logits = model(step.x)
            _require(torch.allclose(step.logits, logits, atol=1e-4), "the logits are not those at its image", step)
            own = step.loss if step.domains is None else step.domains.losses[:, 0]
            beside = goal.beside(clean)
            known = any(torch.allclose(own, beside.loss(logits, kind), atol=1e-4) for kind in LOSSES)
            _require(known, "the loss is none of the losses at its image", step)
            if step.domains is not None:
                _says_where_it_stands(step)
            _require(torch.equal(step.reached, goal.reached(step.logits)), "`reached` is not what the logits say", step)
            far = threat.around(x).distance(step.theta) if step.theta is not None else distances(threat, step.x, x)
            _require(torch.allclose(step.distance, far, rtol=1e-9, atol=0), "the distance is another", step)


def _has_its_types(step: Step, n: int, k: int, x: Tensor) -> None:
    stated = {
        "x": (tuple(x.shape), torch.float32),
        "logits": ((n, k), torch.float32),
        "loss": ((n,), torch.float32),
        "distance": ((n,), torch.float64),
        "reached": ((n,), torch.bool),
        "degenerate": ((n,), torch.bool),
        "forwards": ((n,), torch.int64),
        "backwards": ((n,), torch.int64),
    }
    for name, (shape, dtype) in stated.items():
        value = getattr(step, name)
        found = tuple(value.shape), value.dtype
        _require(found == (shape, dtype), f"{name} must be {shape} {dtype}; got {found[0]} {found[1]}", step)
    tensors = [v for v in vars(step).values() if isinstance(v, Tensor)]
    _require(not any(t.requires_grad for t in tensors), "it holds on to the graph", step)


def _says_where_it_stands(step: Step) -> None:
    """Several risks at once: weights on the simplex, the worst loss on show, the first risk the one that counts."""
    domains = step.domains
    assert domains is not None
    shape = (len(step.x), len(domains.names))
    shapes = {tuple(t.shape) for t in (domains.weights, domains.losses, domains.reached)}
    _require(shapes == {shape}, f"weights, losses and reached of domains must be {shape}", step)
    on_simplex = bool((domains.weights >= 0).all()) and torch.allclose(domains.weights.sum(1), torch.ones(shape[0]))
    _require(on_simplex, "the weights of its domains do not lie on the simplex", step)
    _require(torch.equal(step.loss, domains.losses.amin(1)), "the loss is not that of the worst domain", step)
    _require(torch.equal(step.reached, domains.reached[:, 0]), "`reached` is not the first domain's", step)


def counts_its_passes(attack: Attack, case: Case, threat: ThreatModel) -> None:
    """`forwards` and `backwards` are what really happened, at every step."""
    model, x, y = case
    with _counted(model) as done:
        for step in attack.walk(model, x[:WATCHED], Goal.untargeted(y[:WATCHED]), threat, seeded(0)):
            for name, counts in (("forwards", step.forwards), ("backwards", step.backwards)):
                said = int(counts.sum())
                _require(said == done[name], f"says {said} {name}, took {done[name]}", step)
    _require(done["forwards"] > 0, "the model was never asked")


@contextmanager
def _counted(model: nn.Module) -> Iterator[dict[str, int]]:
    done = {"forwards": 0, "backwards": 0}

    def forward(module: nn.Module, inputs: Any, output: Tensor) -> None:
        done["forwards"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: done.__setitem__("backwards", done["backwards"] + len(gradient)))

    handle = model.register_forward_hook(forward)
    try:
        yield done
    finally:
        handle.remove()


def refuses_other_threats(attack: Attack, case: Case) -> None:
    """A threat model that the attack is not defined under is refused, in one sentence."""
    model, x, y = case
    for threat in (*(Ball(norm, EPS[norm]) for norm in NORMS), RotationShift(), Corruption()):
        if threat.name not in attack.threats:
            try:
                list(attack.walk(model, x[:2], Goal.untargeted(y[:2]), threat, seeded(0)))
            except InvalidValue as refusal:
                said = str(refusal)
                _require(
                    f"got {threat.name!r}" in said and "\n" not in said, f"refuses {threat.name} without saying so"
                )
            else:
                raise BrokenContract(f"takes {threat.name}, which is not among its threats")


CLAUSES: Sequence[Callable[[Attack, Case, ThreatModel], None]] = (
    stays_inside,
    repeats_under_its_seed,
    leaves_no_trace,
    survives_a_break,
    shares_the_model,
    bears_broken_answers,
    beats_noise,
    reports_truly,
    counts_its_passes,
)


def _state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, bool], dict[str, int]]:
    tensors = {name: t.detach().clone() for name, t in (*model.named_parameters(), *model.named_buffers())}
    tensors |= {f"{name}.grad": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    asks = {name: p.requires_grad for name, p in model.named_parameters()}
    hooks = {name: len(m._forward_hooks) + len(m._backward_hooks) for name, m in model.named_modules()}
    return tensors, asks, {name: module.training for name, module in model.named_modules()}, hooks


def _require_same(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    _require(before[0].keys() == after[0].keys(), "a .grad was made")
    for name, tensor in before[0].items():
        _require(torch.equal(tensor, after[0][name]), f"{name} of the model changed")
    for was, now, what in zip(
        before[1:], after[1:], ("requires_grad", "a module's mode", "the model's hooks"), strict=True
    ):
        _require(was == now, f"{what} changed")
