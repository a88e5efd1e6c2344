"""The noise is Gaussian, and depends on the seed, the stream and the draw only."""

import pytest
import torch
from scipy.stats import kstest

from explorer.certify.noise import ESTIMATION, PREDICTION, SELECTION, noise
from explorer.core.rng import derived_seed

SHAPE = (3, 4, 4)


def all_draws(n=1000, batch=64, seed=7, stream=ESTIMATION):
    return torch.cat(list(noise(SHAPE, n, batch, seed, stream)))


@pytest.mark.parametrize("batch", [1, 7, 63, 65, 100, 128, 1000, 5000])
def test_batch_size_changes_no_bit(batch):
    assert torch.equal(all_draws(batch=batch), all_draws())
    assert all(len(part) <= batch for part in noise(SHAPE, 1000, batch, 7, ESTIMATION))


def test_more_draws_begin_with_the_same_ones():
    assert torch.equal(all_draws(n=300)[:101], all_draws(n=101))


def test_no_draw_repeats_within_a_seed():
    draws = torch.cat([all_draws(stream=s) for s in (SELECTION, ESTIMATION, PREDICTION)]).flatten(1)
    assert len(torch.unique(draws[:, 0].double() * 1e3 + draws[:, 1].double(), dim=0)) == 3000


def test_all_bits_of_the_seed_count():
    """torch's own CPU generator would give the same noise for these two."""
    assert not torch.equal(all_draws(seed=7), all_draws(seed=7 + 2**32))
    assert derived_seed(7, SELECTION) != derived_seed(7 + 2**32, SELECTION)
    assert len({derived_seed(7, 3, i) for i in range(1000)}) == 1000


def test_is_standard_normal_and_uncorrelated():
    draws = all_draws(n=4000).double().flatten(1)  # (4000, 48)
    assert kstest(draws.flatten().numpy(), "norm").pvalue > 1e-3
    correlation = torch.corrcoef(draws.T) - torch.eye(48)
    assert correlation.abs().max() < 5 / 4000**0.5
    neighbours = torch.corrcoef(torch.stack([draws[:-64].flatten(), draws[64:].flatten()]))  # between blocks
    assert abs(neighbours[0, 1]) < 5 / draws[64:].numel() ** 0.5


def test_overwriting_a_batch_spoils_no_other():
    kept = []
    for part in noise(SHAPE, 200, 50, 7, ESTIMATION):
        kept.append(part.clone())
        part.zero_()
    assert torch.equal(torch.cat(kept), all_draws(n=200))


def test_stopping_early_leaves_nothing_running():
    draws = noise(SHAPE, 10**6, 64, 7, ESTIMATION)
    next(draws)
    draws.close()
    with pytest.raises(StopIteration):
        next(draws)
