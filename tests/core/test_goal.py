"""What is ascended, when it counts as reached, and its gradient, against autograd."""

import pytest
import torch

from explorer.core import LOSSES, Goal, InvalidValue, seeded

LABELS = torch.tensor([0, 1, 2, 3])


def goals():
    return [Goal.untargeted(LABELS), Goal.targeted(LABELS)]


TWO = Goal.untargeted(LABELS, also=torch.tensor([1, 3, 2, 4]))  # the third has no second class


def ids(goal):
    if goal.also is not None:
        return "two classes"
    return "targeted" if goal.is_targeted else "untargeted"


@pytest.mark.parametrize("goal", [*goals(), TWO], ids=ids)
@pytest.mark.parametrize("kind", (*LOSSES, "kl"))
def test_the_pull_is_the_gradient_of_the_loss_up_to_a_positive_factor_per_image(goal, kind):
    logits = torch.randn(4, 5, generator=seeded(0)).requires_grad_(True)
    goal = goal.beside(torch.randn(4, 5, generator=seeded(1)))
    loss = goal.loss(logits, kind)
    assert loss.shape == (4,)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    grad = goal.logit_grad(logits.detach(), kind)
    steep = gradient.any(1)  # DLR may be flat
    scaled = gradient / gradient.abs().amax(1, keepdim=True)
    assert torch.allclose(grad[steep], scaled[steep], atol=1e-6) and int(steep.sum()) >= 3
    whole = grad * goal.log_grad_norm(logits.detach(), kind).exp()[:, None]
    assert torch.allclose(whole, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("goal", goals(), ids=ids)
def test_the_pull_of_a_very_confident_network_does_not_vanish(goal):
    """At a gap of 1e4 autograd's softmax - onehot is exactly zero in float32; the pull is not."""
    ordered = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    logits = (1e4 * torch.stack([ordered.roll(k) for k in range(4)])).requires_grad_(True)  # label k has the largest
    own = Goal(LABELS, goal.is_targeted)
    (gradient,) = torch.autograd.grad(own.loss(logits, "ce").sum(), logits)
    assert not gradient.any()
    grad = own.logit_grad(logits.detach(), "ce")
    assert (grad.gather(1, LABELS[:, None])[:, 0] == (1 if goal.is_targeted else -1)).all()
    assert torch.equal(grad.abs().amax(1), torch.ones(4)) and torch.allclose(grad.sum(1), torch.zeros(4))


@pytest.mark.parametrize("goal", [*goals(), TWO], ids=ids)
@pytest.mark.parametrize("shift", [-1000.0, -20.0, 20.0, 1000.0])
def test_a_shift_of_all_logits_changes_nothing(goal, shift):
    """All-negative logits must not lose to a masked-out zero."""
    logits = torch.randn(4, 5, generator=seeded(1)).round(decimals=2)
    for kind in LOSSES:
        assert torch.allclose(goal.logit_grad(logits + shift, kind), goal.logit_grad(logits, kind), atol=1e-3)
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
@pytest.mark.parametrize("kind", ["ce", "margin"])
def test_two_classes_leave_no_choice(goal, kind):
    goal = goal.rows(torch.tensor([0, 1]))
    grad = goal.logit_grad(torch.tensor([[50.0, -50.0], [1.0, 2.0]]), kind)
    sign = -1 if goal.is_targeted else 1
    assert grad.tolist() == [[-sign, sign], [sign, -sign]]


def test_a_second_class_that_is_right_is_left_too():
    logits = torch.tensor([[3.0, 4.0, 2.0], [1.0, 0.0, 2.5], [2.0, 3.0, 0.0]])
    goal = Goal.untargeted(torch.tensor([0, 0, 0]), also=torch.tensor([1, 1, 0]))
    assert goal.margin(logits).tolist() == [-2.0, 1.5, 1.0] and goal.reached(logits).tolist() == [False, True, True]
    p = logits.softmax(1)
    assert torch.allclose(goal.loss(logits)[:2], -(p[:2, 0] + p[:2, 1]).log())
    assert goal.rivals(logits, 5)[:2].tolist() == [[2], [2]]
    alone = Goal.untargeted(torch.tensor([0]))
    assert torch.allclose(goal.loss(logits)[2:], alone.loss(logits[2:]))
    assert torch.equal(goal.logit_grad(logits)[2:], alone.logit_grad(logits[2:]))


def test_rows_and_repetition():
    assert TWO.rows(torch.tensor([1, 3])).also.tolist() == [3, 4] and TWO.repeated(2).also.tolist()[:4] == [1, 1, 3, 3]
    goal = Goal.targeted(LABELS)
    assert goal.rows(torch.tensor([True, False, False, True])).labels.tolist() == [0, 3]
    assert goal.repeated(2).labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and goal.repeated(2).is_targeted


@pytest.mark.parametrize("labels", [torch.tensor(3), torch.tensor([[1]]), torch.tensor([1.0]), torch.tensor([1]).int()])
def test_refuses_labels_of_another_kind(labels):
    with pytest.raises(InvalidValue, match=r"goal labels must be \(N,\) int64; got"):
        Goal.untargeted(labels)


# The difference of logits ratio (Croce & Hein, arXiv:2003.01690)


def test_dlr_by_hand():
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0], [3.0, 5.0, 1.0, 0.0], [1.0, 5.0, 3.0, 0.0], [0.0, 5.0, 3.0, 1.0]])
    first = torch.zeros(4, dtype=torch.int64)
    assert Goal.untargeted(first).loss(logits, "dlr").tolist() == [-2 / 4, 2 / 4, 4 / 4, 5 / 4]
    spread = 5 - (1 + 0) / 2
    assert (Goal.targeted(first[:3]).loss(logits[:3], "dlr") * spread).tolist() == pytest.approx([2, -2, -4])


@pytest.mark.parametrize("goal", goals(), ids=ids)
def test_no_scale_of_the_logits_changes_dlr(goal):
    logits = torch.randn(4, 5, generator=seeded(1))
    for scale in (1e-6, 1e-3, 1e3, 1e6):
        assert torch.allclose(goal.loss(scale * logits, "dlr"), goal.loss(logits, "dlr"), rtol=1e-4)
        assert torch.allclose(goal.logit_grad(scale * logits, "dlr"), goal.logit_grad(logits, "dlr"), atol=1e-4)


@pytest.mark.parametrize("goal", goals(), ids=ids)
@pytest.mark.parametrize("seed", range(5))
def test_the_pull_of_dlr_is_its_derivative_wherever_the_class_stands(goal, seed):
    """First, second, third, or last among the logits, which the derivative of the denominator depends on."""
    logits = torch.randn(64, 6, generator=seeded(seed), dtype=torch.float64).requires_grad_(True)
    labels = torch.arange(64) % 6
    own = Goal(labels, goal.is_targeted)
    (gradient,) = torch.autograd.grad(own.loss(logits, "dlr").sum(), logits)
    whole = own.logit_grad(logits.detach(), "dlr") * own.log_grad_norm(logits.detach(), "dlr").exp()[:, None]
    assert torch.allclose(whole, gradient, rtol=1e-9, atol=1e-12)


def test_untargeted_dlr_is_flat_where_the_true_class_comes_third_yet_the_pull_says_where_to_go():
    goal, logits = Goal.untargeted(torch.tensor([2])), torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    assert goal.loss(logits, "dlr").tolist() == [1.0]
    assert goal.log_grad_norm(logits, "dlr").tolist() == [float("-inf")]
    assert torch.equal(goal.logit_grad(logits, "dlr"), goal.logit_grad(logits, "margin"))


@pytest.mark.parametrize("goal", goals(), ids=ids)
def test_equal_logits_still_have_a_way_out(goal):
    logits = torch.ones(4, 5)
    loss, grad = goal.loss(logits, "dlr"), goal.logit_grad(logits, "dlr")
    assert torch.equal(loss, torch.zeros(4)) and torch.isfinite(grad).all()
    assert torch.equal(grad.gather(1, LABELS[:, None])[:, 0], torch.full((4,), 1.0 if goal.is_targeted else -1.0))


@pytest.mark.parametrize(("goal", "least"), list(zip(goals(), (3, 4), strict=True)), ids=["untargeted", "targeted"])
def test_dlr_refuses_too_few_classes_in_one_sentence(goal, least):
    goal = goal.rows(torch.tensor([0, 1]))
    enough, few = torch.randn(2, least, generator=seeded(0)), torch.randn(2, least - 1, generator=seeded(0))
    assert torch.isfinite(goal.loss(enough, "dlr")).all()
    for ask in (goal.loss, goal.logit_grad, goal.log_grad_norm):
        with pytest.raises(InvalidValue, match=rf"must have at least {least} classes to compare; got {least - 1}\."):
            ask(few, "dlr")


def test_rivals_are_the_largest_logits_of_all_other_classes_and_never_the_label():
    logits = torch.tensor([[3.0, 1.0, 5.0, 4.0, 2.0]]).expand(3, -1)
    goal = Goal.untargeted(torch.tensor([2, 0, 4]))
    assert goal.rivals(logits, 3).tolist() == [[3, 0, 4], [2, 3, 4], [2, 3, 0]]
    gone = torch.full((3, 5), -float("inf"))
    for count in (1, 4, 9):
        found = goal.rivals(gone, count)
        assert found.shape == (3, min(count, 4)) and not (found == goal.labels[:, None]).any()


def test_losses_of_the_probabilities_by_hand():
    logits, half = torch.tensor([[1.0, 1.0, -1e4]]), torch.tensor([0])
    assert Goal.untargeted(half).loss(torch.tensor([[2.0, 0.0]]).log_softmax(1), "probability").item() == pytest.approx(
        0.1192 - 0.8808, abs=1e-4
    )
    assert Goal.untargeted(half).loss(torch.tensor([[5.0, -5.0]]), "jitter").item() == pytest.approx(0, abs=1e-4)
    assert Goal.untargeted(half).loss(torch.tensor([[-5.0, 5.0]]), "jitter").item() == pytest.approx(2**0.5, abs=1e-4)
    goal = Goal.untargeted(half).beside(torch.tensor([[0.0, 0.0, -1e4]]))
    assert goal.loss(logits, "kl").item() == pytest.approx(0) and Goal.untargeted(half).loss(logits, "kl").item() == 0
    sure = torch.tensor([[9.0, 0.0, -1e4]])
    expected = -(0.5 * sure.log_softmax(1)[0, 0] + 0.5 * sure.log_softmax(1)[0, 1]) - torch.tensor(2.0).log()
    assert goal.loss(sure, "kl").item() == pytest.approx(expected.item(), rel=1e-5)
    toward = Goal.targeted(half).beside(sure)
    assert toward.loss(logits, "kl") == toward.loss(logits, "ce") and goal.rows(half).clean.shape == (1, 3)
    assert goal.repeated(2).clean.shape == (2, 3)


def test_the_pull_of_the_probability_margin_survives_a_confident_network():
    logits = torch.tensor([[200.0, 0.0, -50.0]])
    grad = Goal.untargeted(torch.tensor([0])).logit_grad(logits, "probability")
    assert grad.abs().max() == 1 and grad[0, 0] < 0 < grad[0, 1]
