"""What is ascended, when it counts as reached, and its gradient, against autograd."""

import pytest
import torch

from explorer.core import LOSSES, Goal, InvalidValue, seeded

LABELS = torch.tensor([0, 1, 2, 3])


def goals():
    return [Goal.untargeted(LABELS), Goal.targeted(LABELS)]


def ids(goal):
    return "targeted" if goal.is_targeted else "untargeted"


@pytest.mark.parametrize("goal", goals(), ids=ids)
@pytest.mark.parametrize("kind", LOSSES)
def test_the_pull_is_the_gradient_of_the_loss_up_to_a_positive_factor_per_image(goal, kind):
    logits = torch.randn(4, 5, generator=seeded(0)).requires_grad_(True)
    loss = goal.loss(logits, kind)
    assert loss.shape == (4,)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    pull = goal.pull(logits.detach(), kind)
    scaled = gradient / gradient.abs().amax(1, keepdim=True)
    assert torch.allclose(pull, scaled, atol=1e-6)


@pytest.mark.parametrize("goal", goals(), ids=ids)
def test_the_pull_of_a_very_confident_network_does_not_vanish(goal):
    """At a gap of 1e4 autograd's softmax - onehot is exactly zero in float32; the pull is not."""
    ordered = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    logits = (1e4 * torch.stack([ordered.roll(k) for k in range(4)])).requires_grad_(True)  # label k has the largest
    own = Goal(LABELS, goal.is_targeted)
    (gradient,) = torch.autograd.grad(own.loss(logits, "ce").sum(), logits)
    assert not gradient.any()
    pull = own.pull(logits.detach(), "ce")
    assert (pull.gather(1, LABELS[:, None])[:, 0] == (1 if goal.is_targeted else -1)).all()
    assert torch.equal(pull.abs().amax(1), torch.ones(4)) and torch.allclose(pull.sum(1), torch.zeros(4))


@pytest.mark.parametrize("goal", goals(), ids=ids)
@pytest.mark.parametrize("shift", [-1000.0, -20.0, 20.0, 1000.0])
def test_a_shift_of_all_logits_changes_nothing(goal, shift):
    """All-negative logits must not lose to a masked-out zero."""
    logits = torch.randn(4, 5, generator=seeded(1)).round(decimals=2)
    for kind in LOSSES:
        assert torch.allclose(goal.pull(logits + shift, kind), goal.pull(logits, kind), atol=1e-3)
        assert torch.allclose(goal.loss(logits + shift, kind), goal.loss(logits, kind), atol=1e-3)
    assert torch.equal(goal.reached(logits + shift), goal.reached(logits))


def test_margin_and_reached():
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [2.0, 2.0, 1.0]])
    labels = torch.tensor([0, 0, 0])
    assert Goal.untargeted(labels).margin(logits).tolist() == [-1, 2, 0]
    assert Goal.targeted(labels).margin(logits).tolist() == [1, -2, 0]
    assert Goal.untargeted(labels).reached(logits).tolist() == [False, True, False]  # a tie is not reached
    assert Goal.targeted(labels).reached(logits).tolist() == [True, False, False]


@pytest.mark.parametrize("goal", goals(), ids=ids)
def test_nan_is_not_reached(goal):
    assert not goal.reached(torch.full((4, 5), float("nan"))).any()


@pytest.mark.parametrize("goal", goals(), ids=ids)
@pytest.mark.parametrize("kind", LOSSES)
def test_two_classes_leave_no_choice(goal, kind):
    goal = goal.rows(torch.tensor([0, 1]))
    pull = goal.pull(torch.tensor([[50.0, -50.0], [1.0, 2.0]]), kind)
    sign = -1 if goal.is_targeted else 1
    assert pull.tolist() == [[-sign, sign], [sign, -sign]]


def test_rows_and_repetition():
    goal = Goal.targeted(LABELS)
    assert goal.rows(torch.tensor([True, False, False, True])).labels.tolist() == [0, 3]
    assert goal.repeated(2).labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and goal.repeated(2).is_targeted


@pytest.mark.parametrize("labels", [torch.tensor(3), torch.tensor([[1]]), torch.tensor([1.0]), torch.tensor([1]).int()])
def test_refuses_labels_of_another_kind(labels):
    with pytest.raises(InvalidValue, match=r"goal labels must be \(N,\) int64; got"):
        Goal.untargeted(labels)
