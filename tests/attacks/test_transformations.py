"""Rotation and shift, and common corruptions, as attacks: what a model of one pixel must be shown, and what is allowed."""

import pytest
import torch

import explorer
from explorer.attacks import ATTACKS
from explorer.core import Corruption, Goal, InvalidValue, RotationShift, run, seeded
from explorer.core.corruptions import KINDS
from explorer.evaluation import corrupted_accuracy, robust_accuracy, verify
from explorer.testing import BrokenContract, small_case
from explorer.testing.contract import beats_noise, stays_inside
from tests.attacks.test_contract import Cheat


class OnePixel(torch.nn.Module):
    """Class 1 where the pixel in the middle is bright."""

    def forward(self, x):
        return torch.stack([torch.full((len(x),), 0.5), x[:, 0, 4, 4]], 1)


def dots(*places):
    x = torch.zeros(len(places), 1, 9, 9)
    for k, (row, column) in enumerate(places):
        x[k, 0, row, column] = 1.0
    return x


def test_the_grid_finds_the_shift_that_brings_the_bright_pixel_into_the_middle():
    x, goal = dots((4, 2), (6, 4), (2, 6)), Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    attack = ATTACKS["rotation"](angle=0, shift=2, search="grid", angles=2)
    outcome = run(attack.walk(OnePixel(), x, goal, RotationShift(0, 2), seeded(0)), goal)
    assert outcome.success.all() and outcome.theta[:, 1:].tolist() == [[2, 0], [0, -2], [-2, 2]]
    assert outcome.distance.tolist() == [1, 1, 1] and outcome.forwards.tolist() == [51] * 3
    assert (RotationShift(0, 2).around(x).apply(outcome.theta) == outcome.x).all()


def test_the_attack_stays_within_its_own_limits_and_within_the_threat_model():
    model, x, y = small_case()
    for attack, threat, most in (
        (ATTACKS["rotation"](angle=10, shift=1, tries=30), RotationShift(30, 3), [10, 1, 1]),
        (
            ATTACKS["rotation"](angle=90, shift=9, tries=30, scale=0.2),
            RotationShift(20, 2, 0.5, scale=0.1),
            [10, 1, 1, 0.05],
        ),
    ):
        thetas = torch.cat([s.theta for s in attack.walk(model, x[:4], Goal.untargeted(y[:4]), threat, seeded(0))])
        assert (thetas.abs() <= torch.tensor(most) + 1e-6).all() and (
            thetas.abs().amax(0) > 0.8 * torch.tensor(most)
        ).all()


def test_scale_enlarges_the_picture_and_is_undone_by_its_inverse():
    x = torch.rand(1, 3, 32, 32, generator=seeded(0)).cumsum(3).div(32)
    region = RotationShift(0, 0, scale=0.5).around(x)
    larger = region.apply(torch.tensor([[0.0, 0.0, 0.0, 0.5]]))
    back = RotationShift(0, 0, scale=0.5).around(larger).apply(torch.tensor([[0.0, 0.0, 0.0, 1 / 1.5 - 1]]))
    assert torch.allclose(back[..., 8:24, 8:24], x[..., 8:24, 8:24], atol=0.05) and not torch.equal(larger, x)


def test_the_worst_corruption_is_one_of_all_that_were_tried():
    model, x, y = small_case()
    goal = Goal.untargeted(y)
    outcome = run(ATTACKS["corruptions"]().walk(model, x, goal, Corruption(2), seeded(0)), goal)
    losses = []
    region = Corruption(2).around(x)
    for kind in range(len(KINDS)):
        for severity in (1.0, 2.0):
            seen = model(region.apply(torch.tensor([kind, severity]).expand(len(x), 2)))
            losses.append(goal.loss(seen, "margin"))
    assert torch.allclose(outcome.loss, torch.stack(losses).amax(0).maximum(goal.loss(model(x), "margin")), atol=1e-5)
    assert outcome.forwards.unique().tolist() == [31] and 0 < int(outcome.success.sum()) < len(x)


def test_a_verdict_makes_the_picture_again_from_its_parameters():
    model, x, y = small_case()
    goal, threat = Goal.untargeted(y), RotationShift(20, 2)
    theta = threat.around(x).sample(seeded(0))
    made = threat.around(x).apply(theta)
    assert verify(model, made, x, goal, threat, seeded(0), theta=theta).inside.all()
    other = made.clone()
    other[0, 0, 0, 0] += 0.01
    far = theta.clone()
    far[1] *= 9
    assert not verify(model, other, x, goal, threat, seeded(0), theta=theta).inside[0]
    assert not verify(model, made, x, goal, threat, seeded(0), theta=far).inside[1]
    with pytest.raises(InvalidValue, match="theta, the parameters that made the images, must be given under rotation"):
        verify(model, made, x, goal, threat, seeded(0))


def test_scripts_say_rotation_as_they_say_pgd():
    model, x, y = small_case()
    found = explorer.attack(model, x, y, "rotation", angle=45, shift=1, tries=20, trace=True)
    assert found.success.any() and found.theta.shape == (48, 3) and float(found.distance.max()) <= 1
    (trace, *_), theta = found.trace, found.theta[0]
    assert trace.theta.shape == (22, 3) and trace.distance[trace.best] == pytest.approx(float(found.distance[0]))
    assert torch.from_numpy(trace.theta[trace.best]).equal(theta) and repr(found).startswith("rotation, rotation 1:")
    share = explorer.robustness(model, x, y, attacks="corruptions", norm="corruption", eps=1)
    assert share.norm == "corruption" and 0 < share.robust < share.clean == 1
    with pytest.raises(InvalidValue, match=r"norm must be rotation for Rotation; got 'linf'"):
        explorer.attack(model, x, y, "rotation", norm="linf")
    with pytest.raises(InvalidValue, match="angle or shift must be above 0"):
        explorer.attack(model, x, y, "rotation", angle=0, shift=0)


def test_measures_are_made_as_of_any_attack(images_of_small_case):
    model, images = images_of_small_case
    attack = ATTACKS["rotation"](angle=8, shift=1, tries=20)
    found = robust_accuracy(model, images, attack, attack.threat_model("rotation", 1.0), batch=16)
    assert found.norm == "rotation" and found.eps == 1 and 0 < found.correct < found.n


def test_the_table_of_corruptions(images_of_small_case):
    model, images = images_of_small_case
    found = corrupted_accuracy(model, images, batch=20)
    table = found.outcomes
    assert list(table) == [*KINDS, "mean"] and all(list(row) == list("12345") for row in table.values())
    assert found.accuracy <= min(min(row.values()) for row in table.values()) and found.kind == "corrupted"
    assert table["Gaussian noise"]["1"] > table["contrast"]["5"]
    worst = run(
        ATTACKS["corruptions"]().walk(model, images.x, Goal.untargeted(images.y), Corruption(5), seeded(0)),
        Goal.untargeted(images.y),
    )
    assert found.correct == int((~worst.success).sum())


@pytest.fixture
def images_of_small_case():
    from explorer.data import Images

    model, x, y = small_case()
    return model, Images(x, y, ("a", "b", "c", "d"), "blobs", "test", torch.arange(len(x)), "made")


class Turns(Cheat):
    """A rotation attack whose steps are altered by a subclass."""

    threats = ("rotation",)

    def walk(self, model, x0, goal, threat, rng):
        attack = ATTACKS["rotation"](tries=3)
        for step in attack.walk(model, x0, goal, threat, rng):
            yield self.alter(step, model, x0, threat)

    def threat_model(self, name, eps):
        return RotationShift(eps=eps)


class Paints(Turns):
    """Changes a pixel beside the rotation."""

    def alter(self, step, model, x0, threat):
        x = step.x.clone()
        x[0, 0, 0, 0] = 1 - x[0, 0, 0, 0]
        return type(step)(**(vars(step) | {"x": x}))


class TurnsTooFar(Turns):
    def alter(self, step, model, x0, threat):
        theta = step.theta + 100
        return type(step)(**(vars(step) | {"theta": theta, "x": threat.around(x0).apply(theta)}))


class DoesNotTurn(Turns):
    def walk(self, model, x0, goal, threat, rng):
        yield next(iter(super().walk(model, x0, goal, threat, rng)))


@pytest.mark.parametrize(
    ("cheat", "clause"), [(Paints, stays_inside), (TurnsTooFar, stays_inside), (DoesNotTurn, beats_noise)]
)
def test_the_contract_of_transformations_can_be_broken(cheat, clause):
    with pytest.raises(BrokenContract):
        clause(cheat(), small_case(), RotationShift(eps=0.3))
