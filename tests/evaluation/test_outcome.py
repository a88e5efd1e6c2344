"""The four words for what came of an attack, image by image."""

import pytest
import torch

from explorer.core import Goal
from explorer.evaluation.outcome import Ending, endings, reached_in_most, wrong_in_most
from explorer.evaluation.verdict import Verdict

Y = torch.tensor([0, 0, 0, 0])


def verdict(predicted, reached, inside=(True,) * 4):
    flags, seen = torch.tensor(reached), torch.tensor(predicted)
    zeros = torch.zeros(4, dtype=torch.float64)
    return Verdict(flags, flags, seen, seen, torch.tensor(inside), zeros, zeros, zeros, 1, flags.double())


def test_wrong_before_comes_first_and_outside_does_not_count():
    judged = verdict([1, 1, 1, 0], [True, True, True, False], (True, True, False, True))
    before = torch.tensor([True, False, False, False])
    assert endings(judged, Y, None, before) == [Ending.WRONG_BEFORE, Ending.FOOLED, Ending.HOLDS, Ending.HOLDS]


def test_a_missed_target_is_not_called_holding():
    judged = verdict([2, 1, 0, 2], [True, False, False, True])
    before = torch.tensor([False, False, False, True])
    words = ["fooled", "target missed", "target missed", "wrong before"]
    assert [str(word) for word in endings(judged, Y, 2, before)] == words


@pytest.mark.parametrize(("wrong", "expected"), [(9, False), (10, False), (11, True)])
def test_most_of_the_looks_decide(wrong, expected):
    looks = torch.eye(3)[[1] * wrong + [0] * (20 - wrong)][:, None]  # (20,1,3)
    assert wrong_in_most(looks, Y[:1]).tolist() == [expected]
    assert reached_in_most(looks, Goal.targeted(torch.tensor([1]))).tolist() == [expected]


def test_outvoted_by_one_class_is_wrong_in_a_tie_that_it_would_win():
    looks = torch.eye(3)[[0] * 10 + [1] * 10][:, None]
    assert wrong_in_most(looks, torch.tensor([1])).tolist() == [True]  # as a verdict's: the lowest of equals is seen
