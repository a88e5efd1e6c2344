"""Two processes share the batches out and find what one finds, image by image."""

import pytest
import torch.distributed as dist

from explorer.core.ranks import ALONE, Ranks
from explorer.evaluation.robustness import batches
from tests.evaluation.at_once import BATCH, N, Small, images, numbers, of_this_rank, one_fails
from tests.processes import together


@pytest.fixture(scope="module")
def alone():
    found = numbers(ALONE)
    assert not dist.is_initialized()
    return found


@pytest.fixture(scope="module")
def both():
    ended = together(of_this_rank)
    assert [one.code for one in ended] == [0, 0]
    return [one.answer for one in ended]


def test_every_measure_is_that_of_one_process(alone, both):
    for answer in both:
        assert answer["met"] is True
        assert answer["measures"] == alone["measures"]
        assert answer["flips"] == alone["flips"]


def test_every_image_meets_the_same_fate(alone, both):
    for name, fates in alone["each"].items():
        assert len(fates) == N and len(set(fates)) == 2, f"{name}: nothing to tell apart"
        for answer in both:
            assert answer["each"][name] == fates


def test_the_number_of_processes_stands_beside_the_seconds(alone, both):
    (one,), (two,) = alone["devices"], both[0]["devices"]
    assert two == f"2 processes, each on {one}"


def test_a_network_that_breaks_on_one_ends_both():
    waiting, broken = (one.answer for one in together(one_fails, "broken"))
    assert broken == "FloatingPointError: the model's logits are not finite"
    assert waiting == "PeerFailed: Process 2 of 2 failed: the model's logits are not finite"


def test_a_stop_on_one_ends_both():
    waiting, stopped = (one.answer for one in together(one_fails, "stopped"))
    assert stopped.startswith("Cancelled: The evaluation was stopped")
    assert waiting.startswith("PeerFailed: Process 2 of 2 failed: The evaluation was stopped")


def test_batches_are_shared_out_whole_and_each_has_its_own_draws():
    given, model = images(), Small()
    whole = [(x, float(rng.initial_seed()), done) for x, _, rng, done in batches(given, model, BATCH, 7)]
    assert [done for *_, done in whole] == [4, 8, 12, 16, 20, 22]
    assert whole[0][1] == 7 and len({seed for _, seed, _ in whole}) == 6
    for rank in range(4):
        mine = list(batches(given, model, BATCH, 7, Ranks(rank, 4, rank)))
        assert len(mine) == len(range(rank, 6, 4)) and mine[-1][3] == (22 if len(mine) == 2 or rank > 1 else 20)
        for (x, _, rng, _), (same, seed, _) in zip(mine, whole[rank::4], strict=True):
            assert x.equal(same) and rng.initial_seed() == seed


def test_the_numbers_depend_on_the_draws(alone):
    """Else no way of drawing could be told from another by them."""
    other = numbers(ALONE, seed=4)
    for name in ("noisy", "clean, stochastic"):
        assert other["measures"][name]["correct"] != alone["measures"][name]["correct"]
    assert other["each"]["stochastic"] != alone["each"]["stochastic"] and other["flips"] != alone["flips"]
