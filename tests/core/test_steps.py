"""`run` keeps the best point of a walk, per image."""

from dataclasses import replace

import pytest
import torch

from explorer.core import Goal, Step, run

GOAL = Goal.untargeted(torch.tensor([0, 0]))
NAN = float("nan")


def step(index, value, reached, loss, distance, degenerate=(False, False), backwards=None):
    """A step of two one-pixel images."""
    return Step(
        index=index,
        total=9,
        x=torch.full((2, 1, 1, 1), value),
        logits=torch.zeros(2, 2),
        loss=torch.tensor(loss),
        distance=torch.tensor(distance, dtype=torch.float64),
        reached=torch.tensor(reached),
        degenerate=torch.tensor(degenerate),
        forwards=torch.full((2,), index + 1),
        backwards=torch.full((2,), index + 1 if backwards is None else backwards),
    )


def test_reached_beats_loss_and_among_equals_the_higher_loss_wins():
    outcome = run([
        step(0, 0.0, (False, False), (5.0, 1.0), (0.1, 0.1)),
        step(1, 0.1, (True, False), (1.0, 2.0), (0.2, 0.2)),
        step(2, 0.2, (True, False), (2.0, 1.5), (0.3, 0.3)),
        step(3, 0.3, (False, False), (9.0, 0.0), (0.4, 0.4)),
    ], GOAL)  # fmt: skip
    assert outcome.x.flatten().tolist() == pytest.approx([0.2, 0.1])
    assert outcome.success.tolist() == [True, False] and outcome.loss.tolist() == [2.0, 2.0]
    assert outcome.distance.tolist() == pytest.approx([0.3, 0.2])
    assert outcome.forwards.tolist() == outcome.backwards.tolist() == [4, 4]


def test_a_minimal_attack_keeps_the_nearest_success():
    outcome = run([
        step(0, 0.0, (True, False), (1.0, 1.0), (0.5, 0.1)),
        step(1, 0.1, (True, True), (0.5, 1.0), (0.3, 0.9)),
        step(2, 0.2, (True, True), (9.0, 9.0), (0.4, 0.8)),
    ], GOAL, minimal=True)  # fmt: skip
    assert outcome.distance.tolist() == pytest.approx([0.3, 0.8])
    assert outcome.x.flatten().tolist() == pytest.approx([0.1, 0.2])


def test_of_equal_losses_the_later_wins():
    """A confident network's cross-entropy is exactly 0 for many steps; the last of them is the farthest."""
    outcome = run([step(i, i / 10, (False, False), (0.0, 0.0), (i / 10, i / 10)) for i in range(3)], GOAL)
    assert outcome.x.flatten().tolist() == pytest.approx([0.2, 0.2])


def test_a_loss_that_is_not_a_number_never_wins():
    outcome = run([
        step(0, 0.0, (False, False), (NAN, 1.0), (0.1, 0.1)),
        step(1, 0.1, (False, False), (1.0, NAN), (0.2, 0.2)),
    ], GOAL)  # fmt: skip
    assert outcome.x.flatten().tolist() == pytest.approx([0.1, 0.0]) and outcome.loss.tolist() == [1.0, 1.0]


def test_stalled_share_counts_gradients_not_points():
    outcome = run([
        step(0, 0.0, (False, False), (0.0, 0.0), (0.0, 0.0), degenerate=(True, True), backwards=1),
        step(1, 0.1, (False, False), (0.0, 0.0), (0.0, 0.0), degenerate=(True, False), backwards=2),
        step(2, 0.2, (False, False), (0.0, 0.0), (0.0, 0.0), backwards=2),
    ], GOAL)  # fmt: skip
    assert outcome.degenerate_share == 3 / 4
    assert run([step(0, 0.0, (False, False), (0.0, 0.0), (0.0, 0.0), backwards=0)], GOAL).degenerate_share == 0


def test_the_outcome_shares_no_memory_with_the_steps():
    first = step(0, 0.0, (False, False), (0.0, 0.0), (0.0, 0.0))
    run([first, step(1, 0.1, (True, True), (1.0, 1.0), (0.0, 0.0))], GOAL)
    assert not first.x.any() and not first.reached.any()


def test_an_empty_walk_and_broken_pixels_are_errors():
    with pytest.raises(ValueError, match="yielded no step"):
        run([], GOAL)
    with pytest.raises(FloatingPointError, match="not finite"):
        run([step(0, NAN, (True, True), (1.0, 1.0), (0.0, 0.0))], GOAL)


def test_images_that_share_one_change_are_kept_together():
    """The second step reaches more images though the first image's loss was higher before; the last ties and is later."""
    shared = [torch.full((1, 1, 1, 1), float(i)) for i in range(4)]
    walk = [
        step(0, 0.0, (True, False), (9.0, 0.0), (0.1, 0.1)),
        step(1, 0.1, (True, True), (1.0, 1.0), (0.2, 0.2)),
        step(2, 0.2, (False, True), (9.0, 9.0), (0.3, 0.3)),
        step(3, 0.3, (True, True), (0.5, 1.5), (0.4, 0.4)),
    ]
    outcome = run([replace(s, shared=d) for s, d in zip(walk, shared, strict=True)], GOAL)
    assert outcome.x.flatten().tolist() == pytest.approx([0.3, 0.3]) and float(outcome.shared) == 3
    assert outcome.success.all() and run(walk, GOAL).shared is None
