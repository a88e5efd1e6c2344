"""What every registered attack must keep, newcomers included; and proof that the contract can be broken."""

import copy
import threading
from dataclasses import dataclass, replace

import pytest
import torch

from explorer.attacks import ATTACKS, GROUPS
from explorer.attacks.pgd import PGD
from explorer.core import NORMS, Attack, Ball, Goal, InvalidValue, RotationShift, Step, run, seeded
from explorer.testing import CLAUSES, BrokenContract, check_attack
from explorer.testing.contract import (
    bears_broken_answers,
    beats_noise,
    counts_its_passes,
    leaves_no_trace,
    refuses_other_threats,
    repeats_under_its_seed,
    reports_truly,
    shares_the_model,
    stays_inside,
    survives_a_break,
)

BALLS = {"linf": Ball("linf", 0.06), "l2": Ball("l2", 0.6)}
SEVERAL = {"linf": [0.006, 0.06, 0.03], "l2": [0.06, 0.6, 0.3], "l1": [0.3, 3.0, 1.5], "l0": [1, 6, 3]}
SEVERAL |= {"rotation": [0.1, 1.0, 0.5], "corruption": [1.0, 3.0, 2.0]}
KEYS = ATTACKS.keys()


@pytest.mark.parametrize(("key", "norm"), [(key, norm) for key in KEYS for norm in ATTACKS[key].threats])
def test_every_attack_keeps_the_contract(key, norm, quick, ball_for):
    attack = quick(key)
    check_attack(attack, ball_for(attack, norm))


@pytest.mark.parametrize(
    ("key", "norm"), [(key, norm) for key in KEYS if ATTACKS[key].budget == "fixed" for norm in ATTACKS[key].threats]
)
def test_every_image_may_have_its_own_eps(key, norm, quick, trained):
    model, x, y = trained
    eps = torch.tensor(SEVERAL[norm], dtype=torch.float64)
    attack, goal = quick(key), Goal.untargeted(y[:3])
    if key == "universal":
        with pytest.raises(InvalidValue, match="eps must be one number for Universal"):
            attack.walk(model, x[:3], goal, Ball(norm, eps), seeded(0))
        return
    walk = attack.walk(model, x[:3], goal, attack.threat_model(norm, eps), seeded(0))
    farthest = torch.stack([step.distance for step in walk]).amax(0)
    assert (farthest <= eps).all() and (farthest > 0.5 * eps).all()


def test_with_an_eps_for_each_image_each_is_attacked_as_alone(ball, trained):
    model, x, y = trained
    eps = ball.eps * torch.tensor([0.1, 1.0, 0.5], dtype=torch.float64)
    for attack in (PGD(random_start=False), ATTACKS["mifgsm"](), ATTACKS["apgd-ce"](steps=20, random_start=False)):
        *_, end = attack.walk(model, x[:3], Goal.untargeted(y[:3]), Ball(ball.norm, eps), seeded(0))
        for i in range(3):
            goal = Goal.untargeted(y[i : i + 1])
            *_, alone = attack.walk(model, x[i : i + 1], goal, Ball(ball.norm, float(eps[i])), seeded(0))
            assert torch.allclose(end.x[i], alone.x[0], atol=1e-5)


def test_the_known_attacks_are_among_them():
    assert {"fgsm", "pgd"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_hyper_parameter_is_described_and_refuses_what_is_out_of_range(key):
    cls = ATTACKS[key]
    entry = ATTACKS.entry(key)
    assert entry.title and entry.paper and entry.summary and cls.__doc__ and cls.budget in ("fixed", "minimal")
    assert cls.formula and cls.explanation and entry.group in GROUPS
    assert cls.norms == tuple(name for name in cls.threats if name in NORMS) and cls.threats
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


def test_threads_do_not_disturb_each_other(masked):
    model = masked(torch.randn(4, 48, generator=seeded(0)), p=0.6)
    x, goal, found = torch.full((2, 3, 4, 4), 0.5), Goal.untargeted(torch.tensor([0, 1])), {}

    def work(seed):
        found[seed] = [s.x for s in PGD().walk(model, x, goal, BALLS["linf"], seeded(seed))]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        expected = [s.x for s in PGD().walk(model, x, goal, BALLS["linf"], seeded(seed))]
        assert all(torch.equal(a, b) for a, b in zip(found[seed], expected, strict=True))


# The contract can be broken


@dataclass(frozen=True)
class Cheat(PGD, steps=5, rel_step=0.5):
    """PGD whose steps are altered by a subclass."""

    def walk(self, model, x0, goal, threat, rng):
        for step in super().walk(model, x0, goal, threat, rng):
            yield self.alter(step, model, x0, threat)

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
        with torch.enable_grad():
            model(step.x).sum().backward()
        model.requires_grad_(False)
        return step


class LeavesTrainingOn(Cheat):
    def alter(self, step, model, x0, ball):
        model.drop.train()
        return step


class PutsEverythingInEvalMode(Cheat):
    """And back to training afterwards, whatever it was before."""

    def walk(self, model, x0, goal, threat, rng):
        yield from super().walk(model.eval(), x0, goal, threat, rng)
        if model.conv.weight.requires_grad:
            model.train()


class NeedsGradMode(Cheat):
    """Does without gradients where its caller has none."""

    def alter(self, step, model, x0, ball):
        return step if torch.is_grad_enabled() else replace(step, x=x0.detach())


class UsesTheGlobalGenerator(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, x=ball.project(step.x + 1e-3 * torch.randn_like(step.x), x0))


class ChangesTheImage(Cheat):
    def alter(self, step, model, x0, ball):
        with torch.no_grad():
            x0.add_(1e-3)
        return step


class SwitchesGradientsOff(Cheat):
    def walk(self, model, x0, goal, threat, rng):
        with torch.no_grad():
            yield from super().walk(model, x0, goal, threat, rng)


class LeavesItsMark(Cheat):
    """On the weights, where the caller stops early."""

    def walk(self, model, x0, goal, threat, rng):
        model.hidden.bias += 1e-3
        yield from super().walk(model, x0, goal, threat, rng)
        model.hidden.bias -= 1e-3


class RemembersTheLastWalk(Cheat):
    """Its random numbers are those of all walks together."""

    rng = seeded(0)

    def walk(self, model, x0, goal, threat, rng):
        return super().walk(model, x0, goal, threat, self.rng)


class ClaimsSuccess(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, reached=torch.ones_like(step.reached))


class ReportsTheLastLogits(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, x=x0)


class SaysItIsMinimal(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, minimal=True)


class CountsTooLittle(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, forwards=step.forwards - 1)


class KeepsTheGraph(Cheat):
    def alter(self, step, model, x0, ball):
        return replace(step, x=step.x.clone().requires_grad_(True))


class GoesDownhill(Cheat):
    def walk(self, model, x0, goal, threat, rng):
        return super().walk(model, x0, Goal(goal.labels, not goal.is_targeted), threat, rng)


class StopsAtANumberThatIsNone(Cheat):
    """One image's loss that is not finite ends all."""

    def walk(self, model, x0, goal, threat, rng):
        for step in super().walk(model, x0, goal, threat, rng):
            if not bool(torch.isfinite(step.loss).all()):
                raise RuntimeError("the loss is not finite")
            yield step


class HoldsTheOthers(Cheat):
    """One image's loss that is not finite leaves all where they are."""

    def alter(self, step, model, x0, ball):
        sound = bool(torch.isfinite(step.logits).all())
        return step if sound else replace(step, x=x0, reached=torch.zeros_like(step.reached))


class Sums(Cheat):
    """Pixels of all images hang on one image's gradient."""

    def alter(self, step, model, x0, ball):
        return replace(step, x=step.x + 0 * step.loss.sum())


class TakesAnything(Cheat):
    def check_threat(self, threat):
        return None


@dataclass(frozen=True)
class Identity(Attack):
    """Returns the image as it is."""

    def walk(self, model, x0, goal, threat, rng):
        with torch.no_grad():
            logits = model(x0)
        no, n, distance = (
            torch.zeros(len(x0), dtype=torch.bool),
            torch.ones(len(x0), dtype=torch.int64),
            threat.distance(x0, x0),
        )
        minimal = self.budget == "minimal"
        yield Step(0, 0, x0, logits, goal.loss(logits), distance, goal.reached(logits), no, n, 0 * n, minimal=minimal)


@dataclass(frozen=True)
class Noise(Identity):
    """Returns one random point of the ball."""

    def walk(self, model, x0, goal, threat, rng):
        x = threat.sample(x0, rng)
        for step in super().walk(model, x, goal, threat, rng):
            yield replace(step, distance=threat.distance(x, x0))


@dataclass(frozen=True)
class TooFar(Cheat):
    """Looks for the smallest change, and goes as far as it may."""

    budget = "minimal"

    def walk(self, model, x0, goal, threat, rng):
        return super().walk(model, x0, goal, Ball(threat.norm, 0.5 if threat.norm == "linf" else 8.0), rng)


@dataclass(frozen=True)
class FindsNothing(Identity):
    budget = "minimal"


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
    (PutsEverythingInEvalMode, leaves_no_trace),
    (NeedsGradMode, leaves_no_trace),
    (LeavesItsMark, survives_a_break),
    (RemembersTheLastWalk, survives_a_break),
    (RemembersTheLastWalk, shares_the_model),
    (UsesTheGlobalGenerator, leaves_no_trace),
    (UsesTheGlobalGenerator, repeats_under_its_seed),
    (ChangesTheImage, leaves_no_trace),
    (SwitchesGradientsOff, leaves_no_trace),
    (ClaimsSuccess, reports_truly),
    (ClaimsSuccess, bears_broken_answers),
    (HoldsTheOthers, bears_broken_answers),
    (Sums, bears_broken_answers),
    (ReportsTheLastLogits, reports_truly),
    (SaysItIsMinimal, reports_truly),
    (KeepsTheGraph, reports_truly),
    (CountsTooLittle, counts_its_passes),
]


@pytest.fixture(params=BALLS)
def ball(request):
    return BALLS[request.param]


@pytest.fixture
def own(trained):
    """The network and its images, to be spoilt."""
    model, x, y = trained
    return copy.deepcopy(model), x.clone(), y


@pytest.mark.parametrize(("broken", "clause"), BROKEN, ids=lambda v: v.__name__)
def test_a_broken_attack_fails(broken, clause, ball, own):
    with pytest.raises(BrokenContract):
        clause(broken(), own, ball)


def test_every_clause_has_an_attack_that_fails_it():
    assert {clause for _, clause in BROKEN} == set(CLAUSES)


def test_what_an_attack_breaks_by_an_error_is_the_error(own):
    with pytest.raises(RuntimeError, match="not finite"):
        bears_broken_answers(StopsAtANumberThatIsNone(), own, BALLS["linf"])


def test_the_failing_step_is_named(own):
    with pytest.raises(BrokenContract, match="^step 0 of 5: an image leaves the ball$"):
        check_attack(LeavesTheBall(), BALLS["linf"], own)


def test_the_unaltered_attack_passes(ball, trained):
    check_attack(Cheat(), ball, trained)


def test_a_threat_model_of_another_kind_is_refused(trained):
    refuses_other_threats(Cheat(), trained)
    with pytest.raises((BrokenContract, NotImplementedError, AttributeError)):
        refuses_other_threats(TakesAnything(), trained)
    with pytest.raises(InvalidValue, match=r"^norm must be linf or l2 for Cheat; got 'l1'\.$"):
        Cheat().check_threat(Ball("l1", 1.0))
    with pytest.raises(InvalidValue, match=r"^threat model must be linf or l2 for Cheat; got 'rotation'\.$"):
        Cheat().check_threat(RotationShift())


def test_norms_follow_from_the_threat_models():
    class Turns(Cheat):
        threats = ("rotation", "l1")

    assert Turns.norms == ("l1",) and Cheat.norms == ("linf", "l2")
    with pytest.raises(TypeError, match="must say `threats`"):

        class Old(Cheat):
            norms = ("l2",)


def test_what_an_attack_does_not_say_has_a_default():
    plain = Identity()
    assert (plain.restarts, plain.draws, plain.aside, plain.partners, plain.expected_frames, plain.expected_passes) == (
        1, 1, "", (), 2, 3,
    )  # fmt: skip
    assert Cheat(steps=4, restarts=3, draws=2).expected_frames == 15
    assert Cheat(steps=4, restarts=3, draws=2).expected_passes == 3 * 9 * 2
    with pytest.raises(TypeError, match="abstract"):
        Attack()


def test_a_minimal_attack_s_nearest_success_counts_without_being_told(linear):
    """Where the boundary is, is known: a far point of higher loss does not win. (DeepFool goes 2 % beyond by intention.)"""
    model, x = linear(torch.randn(2, 48, generator=seeded(0))), torch.full((3, 3, 4, 4), 0.5)
    goal, slope = Goal.untargeted(model(x).argmax(1)), (model.weight[1] - model.weight[0]).norm()
    nearest = goal.margin(model(x)).abs() / slope
    for key in ("cw", "fab", "deepfool"):
        found = run(ATTACKS[key]().walk(model, x, goal, Ball("l2", 100.0), seeded(0)), goal)
        assert found.success.all() and (found.distance <= (1.021 if key == "deepfool" else 1.01) * nearest).all(), key
