"""What every registered attack must keep, newcomers included; and proof that the contract can be broken.

Each clause is a plain function of an attack, so that attacks made to break it can be shown to fail.
"""

from dataclasses import dataclass, replace

import pytest
import torch

from explorer.attacks import ATTACKS, GROUPS
from explorer.attacks.pgd import PGD
from explorer.core import LOSSES, NORMS, Ball, Goal, Hyper, InvalidValue, Step, current_rng, param, run, seeded

BALLS = {"linf": Ball("linf", 0.06), "l2": Ball("l2", 0.6)}
KEYS = ATTACKS.keys()
DIRECTIONS = 20


@pytest.fixture(params=BALLS)
def ball(request):
    return BALLS[request.param]


def goals(y):
    return [Goal.untargeted(y), Goal.targeted((y + 1) % 4)]


def norms(ball, x, x0):
    """(N,) float64, by another formula than the one under test."""
    delta = (x.double() - x0.double()).flatten(1)
    return delta.abs().amax(1) if ball.norm == "linf" else delta.pow(2).sum(1).sqrt()


# The clauses


def stays_inside(attack, case, ball):
    """Every yielded image lies in [0,1] and (with a budget) in the ball, without tolerance, black and white ones too."""
    model, x, _ = case
    edges = torch.cat([x[:4], x[:4].round(), torch.zeros_like(x[:1]), torch.ones_like(x[:1])])
    goal = Goal.untargeted(model(edges).argmax(1))
    for step in attack.walk(model, edges, goal, ball, seeded(0)):
        if attack.budget == "fixed":
            assert bool((norms(ball, step.x, edges) <= ball.eps).all()), "left the ball"
        assert float(step.x.min()) >= 0 and float(step.x.max()) <= 1, "left [0, 1]"


def repeats_under_its_seed(attack, case, ball):
    model, x, y = case
    for goal in goals(y[:6]):
        first, again = (list(attack.walk(model, x[:6], goal, ball, seeded(3))) for _ in range(2))
        assert len(first) == len(again)
        for a, b in zip(first, again, strict=True):
            for name in ("x", "logits", "loss", "distance", "reached", "stalled"):
                assert torch.equal(getattr(a, name), getattr(b, name)), f"{name} differs from run to run"


def leaves_no_trace(attack, case, ball):
    """Weights, buffers, modes, .grad, requires_grad, the image, the global generator and the grad mode are as before."""
    model, x, y = case
    before = state(model)
    image, numbers = x[:6].clone(), torch.random.get_rng_state()
    for _ in attack.walk(model, image, Goal.untargeted(y[:6]), ball, seeded(0)):
        assert torch.is_grad_enabled(), "gradients are off for the caller between two steps"
        assert current_rng(torch.device("cpu")) is None, "the pass's generator leaks into the caller"
    assert_same(before, state(model))
    assert torch.equal(image, x[:6]), "the original image was changed"
    assert torch.equal(torch.random.get_rng_state(), numbers), "the global generator was used"


def survives_a_break(attack, case, ball):
    model, x, y = case
    before = state(model)
    for _ in attack.walk(model, x[:6], Goal.untargeted(y[:6]), ball, seeded(0)):
        break
    assert torch.is_grad_enabled() and current_rng(torch.device("cpu")) is None
    assert_same(before, state(model))
    outcome = run(attack.walk(model, x[:6], Goal.untargeted(y[:6]), ball, seeded(0)), Goal.untargeted(y[:6]))
    assert outcome.x.shape == x[:6].shape


def beats_noise(attack, case, ball):
    """Misclassifies more images than the best of 20 random points of the ball.

    An attack that looks for the smallest change: reaches every image, nearer than 20 random directions do, and in the
    middle as near as PGD with the best eps.
    """
    model, x, y = case
    goal = Goal.untargeted(y)
    if attack.budget == "minimal":
        outcome = run(attack.walk(model, x, goal, ball, seeded(0)), goal, minimal=True)
        assert torch.equal(outcome.success, goal.reached(model(outcome.x))), "says what is not so"
        assert bool(outcome.success.all()), f"{int((~outcome.success).sum())} images not reached"
        nearer = outcome.distance < distance_of_noise(model, x, goal, ball)
        assert float(nearer.double().mean()) > 0.9, f"{int((~nearer).sum())} images no nearer than noise"
        middle, usual = outcome.distance.median(), distance_of_pgd(model, x, goal, ball).median()
        assert middle <= 1.1 * usual, f"median {middle:.3f}, PGD's {usual:.3f}"
        return
    outcome = run(attack.walk(model, x, goal, ball, seeded(0)), goal)
    rng, noisy = seeded(1), torch.zeros(len(x), dtype=torch.bool)
    for _ in range(20):
        noisy |= goal.reached(model(ball.sample(x, rng)))
    fooled = goal.reached(model(outcome.x))
    assert int(fooled.sum()) >= int(noisy.sum()) + 10, f"{int(fooled.sum())} fooled, noise fools {int(noisy.sum())}"


def distance_of_noise(model, x, goal, ball):
    """(N,) float64 where the first of 20 random directions crosses the boundary, on a grid; inf where none does."""
    rng, nearest = seeded(1), torch.full((len(x),), float("inf"), dtype=torch.float64)
    for _ in range(DIRECTIONS):
        way = ball.steepest(torch.randn(x.shape, generator=rng))
        for eps in torch.linspace(0, 1 if ball.norm == "linf" else 8, 41)[1:].tolist():
            there = (x + eps * way).clamp(0, 1)
            distance = norms(ball, there, x)
            nearest = torch.where(goal.reached(model(there)) & (distance < nearest), distance, nearest)
    return nearest


def distance_of_pgd(model, x, goal, ball):
    """(N,) float64 the nearest that PGD-20 comes with any eps of a fine grid; inf where it never succeeds."""
    nearest = torch.full((len(x),), float("inf"), dtype=torch.float64)
    for k in range(30):
        eps = (0.01 if ball.norm == "linf" else 0.08) * 1.15**k
        found = run(PGD(steps=20).walk(model, x, goal, Ball(ball.norm, eps), seeded(0)), goal)
        nearest = torch.where(found.success & (found.distance < nearest), found.distance, nearest)
    return nearest


def reports_truly(attack, case, ball):
    """A step's fields have the stated shapes and types and are what the model says at its x."""
    model, x, y = case
    n = 6
    for goal in goals(y[:n]):
        steps = list(attack.walk(model, x[:n], goal, ball, seeded(0)))
        assert [s.index for s in steps] == list(range(len(steps)))
        totals = [s.total for s in steps]  # a walk that may end early announces the most that may come
        assert totals == sorted(totals, reverse=True) and totals[-1] == len(steps) - 1
        for step in steps:
            assert step.x.shape == x[:n].shape and step.x.dtype == torch.float32
            assert step.logits.shape == (n, 4) and step.logits.dtype == torch.float32
            assert step.loss.shape == (n,) and step.loss.dtype == torch.float32
            assert step.distance.shape == (n,) and step.distance.dtype == torch.float64
            for flags in (step.reached, step.degenerate):
                assert flags.shape == (n,) and flags.dtype == torch.bool
            for count in (step.forwards, step.backwards):
                assert count.shape == (n,) and count.dtype == torch.int64
            tensors = [v for v in vars(step).values() if isinstance(v, torch.Tensor)]
            assert not any(t.requires_grad for t in tensors), "a step holds on to the graph"
            logits = model(step.x)
            assert torch.allclose(step.logits, logits, atol=1e-4)
            own = step.loss if step.domains is None else step.domains.losses[:, 0]
            assert any(torch.allclose(own, goal.loss(logits, kind), atol=1e-4) for kind in LOSSES)
            if step.domains is not None:
                says_where_it_stands(step, n)
            assert torch.equal(step.reached, goal.reached(step.logits))
            assert torch.allclose(step.distance, norms(ball, step.x, x[:n]), rtol=1e-9, atol=0)


def says_where_it_stands(step, n):
    """Several risks at once: weights on the simplex, the worst loss on show, the first risk the one that counts."""
    domains, shape = step.domains, (n, len(step.domains.names))
    assert domains.weights.shape == domains.losses.shape == domains.reached.shape == shape
    assert bool((domains.weights >= 0).all()) and torch.allclose(domains.weights.sum(1), torch.ones(n))
    assert torch.equal(step.loss, domains.losses.amin(1)) and torch.equal(step.reached, domains.reached[:, 0])


def counts_its_passes(attack, case, ball):
    """`forwards` and `backwards` are what really happened, at every step."""
    model, x, y = case
    done = {"forwards": 0, "backwards": 0}

    def forward(module, inputs, output):
        done["forwards"] += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: done.__setitem__("backwards", done["backwards"] + len(gradient)))

    handle = model.register_forward_hook(forward)
    try:
        for step in attack.walk(model, x[:6], Goal.untargeted(y[:6]), ball, seeded(0)):
            assert int(step.forwards.sum()) == done["forwards"]
            assert int(step.backwards.sum()) == done["backwards"]
    finally:
        handle.remove()
    assert done["forwards"] > 0


def state(model):
    tensors = {name: t.clone() for name, t in (*model.named_parameters(), *model.named_buffers())}
    asks = {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()}
    hooks = {name: len(m._forward_hooks) + len(m._backward_hooks) for name, m in model.named_modules()}
    return tensors, asks, {name: module.training for name, module in model.named_modules()}, hooks


def assert_same(before, after):
    for name, tensor in before[0].items():
        assert torch.equal(tensor, after[0][name]), f"{name} changed"
    assert before[1] == after[1], "requires_grad or .grad changed"
    assert before[2] == after[2], "a module's mode changed"
    assert before[3] == after[3], "a hook was left behind"


CLAUSES = [
    stays_inside,
    repeats_under_its_seed,
    leaves_no_trace,
    survives_a_break,
    beats_noise,
    reports_truly,
    counts_its_passes,
]


# Every registered attack keeps every clause


def owed():
    """Clause, attack and norm, in the norms the attack is defined for; a baseline is noise and need not beat it."""
    for key in KEYS:
        for clause in CLAUSES:
            if clause is beats_noise and ATTACKS.entry(key).group == "baseline":
                continue
            for norm in ATTACKS[key].norms:
                yield pytest.param(clause, key, norm, id=f"{clause.__name__}-{key}-{norm}")


@pytest.mark.parametrize(("clause", "key", "norm"), list(owed()))
def test_every_attack(clause, key, norm, trained, quick, ball_for):
    attack = quick(key)
    clause(attack, trained, ball_for(attack, norm))


@pytest.mark.parametrize("key", KEYS)
def test_every_attack_names_its_norms_and_refuses_others(key, trained, quick):
    model, x, y = trained
    assert ATTACKS[key].norms and set(ATTACKS[key].norms) <= set(NORMS)
    for norm in set(NORMS) - set(ATTACKS[key].norms):
        refuses(quick(key), model, x[:2], y[:2], BALLS[norm])


def refuses(attack, model, x, y, ball):
    with pytest.raises(InvalidValue, match=rf"norm must be .*; got '{ball.norm}'") as refusal:
        list(attack.walk(model, x, Goal.untargeted(y), ball, seeded(0)))
    assert "\n" not in str(refusal.value)


def test_the_known_attacks_are_among_them():
    assert {"fgsm", "pgd"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_hyper_parameter_is_described_and_refuses_what_is_out_of_range(key):
    cls = ATTACKS[key]
    entry = ATTACKS.entry(key)
    assert entry.title and entry.paper and entry.summary and cls.__doc__ and cls.budget in ("fixed", "minimal")
    assert cls.formula and cls.explanation and entry.group in GROUPS
    assert cls() == cls.from_dict(cls().to_dict())
    for p in cls.params():
        assert p.label and p.help
        assert p.check(p.default) == p.default and type(p.default) is p.kind
        if p.kind in (int, float):
            assert p.lo is not None and p.hi is not None and p.lo <= p.default <= p.hi
            bad = [p.lo - 1, p.hi + 1, float("nan"), float("inf"), "much", None]
            cls(**{p.name: p.lo}), cls(**{p.name: p.hi})
        else:
            bad = ["neither"]
        for value in bad:
            with pytest.raises(InvalidValue, match=rf"^{p.name} must be .*; got ") as refusal:
                cls(**{p.name: value})
            assert repr(value) in str(refusal.value)


@pytest.mark.parametrize("key", KEYS)
def test_presets_are_valid(key):
    cls = ATTACKS[key]
    assert {"weak", "standard", "strong"} <= set(cls.presets)
    for values in cls.presets.values():
        cls.from_dict(values)
    assert cls.from_dict(cls.presets["standard"]) == cls(), "the standard preset is the default"


# The contract can be broken


@dataclass(frozen=True)
class Cheat(PGD):
    """PGD whose steps are altered by a subclass."""

    steps: int = param(5, "steps", lo=1, hi=1000)
    rel_step: float = param(0.5, "step size", lo=0.001, hi=2.0)

    def walk(self, model, x0, goal, ball, rng):
        for step in super().walk(model, x0, goal, ball, rng):
            yield self.alter(step, model, x0, ball)

    def alter(self, step, model, x0, ball):
        return step


class LeavesTheBall(Cheat):
    """By one millionth, at one pixel of one image."""

    def alter(self, step, model, x0, ball):
        x = x0.clone()
        x[0, 0, 0, 0] += (ball.eps + 1e-6) * (1 if x[0, 0, 0, 0] < 0.5 else -1)
        return replace(step, x=x)


class LeavesThePixelRange(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, x=x0 - 1e-6)


class CallsBackward(Cheat):
    def alter(self, step, model, x0, ball):
        model.requires_grad_(True)
        model(step.x).sum().backward()
        model.requires_grad_(False)
        return step


class LeavesTrainingOn(Cheat):
    def alter(self, step, model, x0, ball):
        model.drop.train()
        return step


class UsesTheGlobalGenerator(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, x=ball.project(step.x + 1e-3 * torch.randn_like(step.x), x0))


class ChangesTheImage(Cheat):
    def alter(self, step, model, x0, ball):
        x0.add_(1e-3)
        return step


class SwitchesGradientsOff(Cheat):
    def walk(self, model, x0, goal, ball, rng):
        with torch.no_grad():
            yield from super().walk(model, x0, goal, ball, rng)


class ClaimsSuccess(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, reached=torch.ones_like(step.reached))


class ReportsTheLastLogits(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, x=x0)


class CountsTooLittle(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, forwards=step.forwards - 1)


class KeepsTheGraph(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, x=step.x.clone().requires_grad_(True))


class GoesDownhill(Cheat):
    def walk(self, model, x0, goal, ball, rng):
        return super().walk(model, x0, Goal(goal.labels, not goal.is_targeted), ball, rng)


@dataclass(frozen=True)
class Identity(Hyper):
    """Returns the image as it is."""

    budget = "fixed"

    def walk(self, model, x0, goal, ball, rng):
        with torch.no_grad():
            logits = model(x0)
        no, n = torch.zeros(len(x0), dtype=torch.bool), torch.ones(len(x0), dtype=torch.int64)
        yield Step(0, 0, x0, logits, goal.loss(logits), ball.distance(x0, x0), goal.reached(logits), no, n, 0 * n)


@dataclass(frozen=True)
class Noise(Identity):
    """Returns one random point of the ball."""

    def walk(self, model, x0, goal, ball, rng):
        x = ball.sample(x0, rng)
        for step in super().walk(model, x, goal, ball, rng):
            yield replace(step, distance=ball.distance(x, x0))


@dataclass(frozen=True)
class TooFar(Cheat):
    """Looks for the smallest change, and goes as far as it may."""

    budget = "minimal"

    def walk(self, model, x0, goal, ball, rng):
        return super().walk(model, x0, goal, Ball(ball.norm, 0.5 if ball.norm == "linf" else 8.0), rng)


@dataclass(frozen=True)
class FindsNothing(Identity):
    budget = "minimal"


@dataclass(frozen=True)
class OnlyL2(Cheat):
    norms = ("l2",)


def test_an_attack_of_one_norm_refuses_the_other(trained):
    model, x, y = trained
    refuses(OnlyL2(), model, x[:2], y[:2], BALLS["linf"])
    with pytest.raises(pytest.fail.Exception):
        refuses(OnlyL2(), model, x[:2], y[:2], BALLS["l2"])


BROKEN = [
    (TooFar, beats_noise),
    (FindsNothing, beats_noise),
    (Identity, beats_noise),
    (Noise, beats_noise),
    (GoesDownhill, beats_noise),
    (LeavesTheBall, stays_inside),
    (LeavesThePixelRange, stays_inside),
    (CallsBackward, leaves_no_trace),
    (CallsBackward, survives_a_break),
    (LeavesTrainingOn, leaves_no_trace),
    (UsesTheGlobalGenerator, leaves_no_trace),
    (UsesTheGlobalGenerator, repeats_under_its_seed),
    (ChangesTheImage, leaves_no_trace),
    (SwitchesGradientsOff, leaves_no_trace),
    (ClaimsSuccess, reports_truly),
    (ReportsTheLastLogits, reports_truly),
    (KeepsTheGraph, reports_truly),
    (CountsTooLittle, counts_its_passes),
]


@pytest.mark.parametrize(("broken", "clause"), BROKEN, ids=lambda v: v.__name__)
def test_a_broken_attack_fails(broken, clause, ball, trained, small_net):
    model, x, y = trained
    copy = small_net()
    copy.load_state_dict(model.state_dict())
    with pytest.raises(AssertionError):
        clause(broken(), (copy.freeze(), x.clone(), y), ball)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
def test_the_unaltered_attack_passes(clause, ball, trained):
    clause(Cheat(), trained, ball)
