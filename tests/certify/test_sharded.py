"""Two processes share the images out and prove what one proves."""

import pytest
import torch.distributed as dist

from explorer.core.ranks import ALONE
from tests.certify.at_once import N, certificates, of_this_rank
from tests.processes import together


@pytest.fixture(scope="module")
def alone():
    found = certificates(ALONE)
    assert not dist.is_initialized()
    return found


@pytest.fixture(scope="module")
def both():
    ended = together(of_this_rank)
    assert [one.code for one in ended] == [0, 0]
    return [one.answer for one in ended]


def test_every_certificate_is_that_of_one_process(alone, both):
    for name, certificates_ in alone["certificates"].items():
        assert len(certificates_) == N and len({c.estimation for c in certificates_}) > 3, (
            f"{name}: nothing to tell apart"
        )
        for answer in both:
            assert answer["certificates"][name] == certificates_  # votes, bounds, radii, seeds
    assert alone["certificates"]["plain"] != alone["certificates"]["stochastic"]


def test_a_seed_that_is_drawn_is_the_same_for_all(both):
    first, second = (answer["unseeded"] for answer in both)
    assert first == second
    assert len({c.seed for c in first["plain"]} | {c.seed for c in first["stochastic"]}) == 2 * N


def test_progress_counts_the_draws_of_all(both):
    total = N * 320
    for answer in both:
        done = [at for at, of in answer["progress"] if of == total]
        assert done and max(done) == total and all(0 <= at <= total for at in done)
