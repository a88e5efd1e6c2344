"""The generator of a pass is handed in, per thread, and gone afterwards."""

import threading

import pytest
import torch

from explorer.core import current_rng, seeded, use_generator

CPU = torch.device("cpu")


def test_the_innermost_generator_counts_and_the_outer_one_returns():
    outer, inner = seeded(1), seeded(2)
    assert current_rng(CPU) is None
    with use_generator(outer):
        assert current_rng(CPU) is outer
        with use_generator(inner):
            assert current_rng(CPU) is inner
        assert current_rng(CPU) is outer
    assert current_rng(CPU) is None


def test_an_error_inside_does_not_leave_it_behind():
    with pytest.raises(RuntimeError), use_generator(seeded(1)):
        raise RuntimeError
    assert current_rng(CPU) is None


def test_threads_do_not_see_each_other():
    seen = []
    with use_generator(seeded(1)):
        thread = threading.Thread(target=lambda: seen.append(current_rng(CPU)))
        thread.start()
        thread.join()
    assert seen == [None]


def test_the_same_seed_gives_the_same_numbers():
    assert torch.equal(torch.rand(5, generator=seeded(3)), torch.rand(5, generator=seeded(3)))
    assert not torch.equal(torch.rand(5, generator=seeded(3)), torch.rand(5, generator=seeded(4)))
