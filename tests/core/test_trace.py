"""A recorded walk: what follows from its arrays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.core import Goal, Step, Trace, run


def trace(frames, logits, loss=None, reached=None, label=0, **more):
    t = len(frames)
    zeros, no = np.zeros(t), np.zeros(t, dtype=bool)
    loss = zeros if loss is None else np.asarray(loss, dtype=np.float32)
    reached = no if reached is None else np.asarray(reached)
    frames, logits = np.asarray(frames, dtype=np.float32).reshape(t, 1, 1, -1), np.asarray(logits, dtype=np.float32)
    return Trace(frames, logits, logits, loss, zeros, zeros, reached, no, label, None, ("a", "b", "c"), t, **more)


def test_what_follows_from_the_arrays():
    t = trace([[0.5, 0.5], [0.6, 0.4]], [[3.0, 1.0, 0.0], [1.0, 2.0, 0.0]], reached=[False, True])
    assert t.perturbation.reshape(2, 2).tolist() == pytest.approx(np.array([[0, 0], [0.1, -0.1]]))
    assert t.predicted.tolist() == [0, 1] and t.margin.tolist() == [2, -1]
    assert t.probabilities.sum(1) == pytest.approx(np.ones(2))
    assert t.probabilities[0] == pytest.approx(np.exp([3, 1, 0]) / np.exp([3, 1, 0]).sum())
    assert len(t) == 2 and t.best == t.first_reached == 1


def test_distances_in_each_norm():
    frames = np.array(
        [[[0.5, 0.5], [0.1, 0.1]], [[0.5, 0.75], [0.1, 0.2]], [[0.5, 0.5], [0.1, 0.3]]]
    )  # 2 channels, 2 pixels
    both = replace(trace(np.zeros((3, 4)), np.zeros((3, 3))), frames=frames[:, :, None].astype(np.float32))
    assert replace(both, conditions={"norm": "l1"}).distance == pytest.approx([0, 0.35, 0.2])
    assert replace(both, conditions={"norm": "l0"}).distance.tolist() == [0, 1, 1]


def test_huge_logits_give_finite_probabilities():
    assert trace([[0.5]], [[1e5, 0.0, -1e5]]).probabilities[0].tolist() == [1, 0, 0]


def test_a_walk_that_never_reaches_has_no_first_frame():
    assert trace([[0.5]], [[1.0, 0, 0]]).first_reached is None and trace([[0.5]], [[1.0, 0, 0]]).best == 0


def test_the_frame_that_counts_is_the_one_that_run_keeps():
    """Over many walks full of ties."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        steps = int(rng.integers(1, 7))
        loss, reached = rng.integers(0, 3, steps).astype(np.float32), rng.integers(0, 2, steps).astype(bool)
        recorded = trace(
            [[0.9], *([i / 10] for i in range(steps))], np.zeros((steps + 1, 3)), [9, *loss], [False, *reached]
        )
        one, goal = torch.ones(1, dtype=torch.int64), Goal.untargeted(torch.tensor([0]))
        outcome = run([
            Step(i, steps - 1, torch.full((1, 1, 1, 1), i / 10), torch.zeros(1, 3), torch.tensor([loss[i]]),
                 torch.zeros(1, dtype=torch.float64), torch.tensor([reached[i]]), torch.zeros(1, dtype=torch.bool), one, one)
            for i in range(steps)
        ], goal)  # fmt: skip
        assert recorded.frames[recorded.best].item() == outcome.x.item()


def test_of_a_search_for_the_smallest_change_the_nearest_counts():
    """As `run` keeps it, over many walks full of ties."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        steps = int(rng.integers(1, 7))
        distance, reached = rng.integers(0, 3, steps).astype(np.float64), rng.integers(0, 2, steps).astype(bool)
        norm = str(rng.choice(["linf", "l2"]))
        recorded = trace(
            [[0.9], *([i / 10] for i in range(steps))],
            np.zeros((steps + 1, 3)),
            reached=[False, *reached],
            minimal=True,
            conditions={"norm": norm},
        )
        recorded = replace(recorded, **{norm: np.array([0, *distance])})
        one, goal = torch.ones(1, dtype=torch.int64), Goal.untargeted(torch.tensor([0]))
        outcome = run([
            Step(i, steps - 1, torch.full((1, 1, 1, 1), i / 10), torch.zeros(1, 3), torch.zeros(1),
                 torch.tensor([distance[i]]), torch.tensor([reached[i]]), torch.zeros(1, dtype=torch.bool), one, one)
            for i in range(steps)
        ], goal, minimal=True)  # fmt: skip
        assert recorded.frames[recorded.best].item() == outcome.x.item()
