"""What a loop asks of a GPU: counts, and from then on no masks as indices."""

import torch

from explorer.core.waits import counts, put, surely_none, where_true


def test_masks_are_counted_and_found():
    masks = [torch.rand(9, generator=torch.Generator().manual_seed(seed)) > 0.5 for seed in range(20)]
    masks += [torch.zeros(9, dtype=torch.bool), torch.ones(9, dtype=torch.bool)]
    for mask, count in zip(masks, counts(*masks), strict=True):
        assert torch.equal(where_true(mask, count), mask.nonzero()[:, 0])
        assert surely_none(mask) is (count == 0)


def test_rows_are_put_where_the_mask_says():
    whole = torch.rand(5, 1, 2, 2)
    for rows in (torch.arange(5), torch.tensor([0, 2, 3]), torch.arange(0)):
        values, only = torch.rand(len(rows), 1, 2, 2), torch.arange(len(rows)) % 2 == 0
        right = whole.clone()
        right[rows[only]] = values[only]
        assert torch.equal(put(whole, rows, values, only), right)
        assert torch.equal(put(whole[:, 0, 0, 0], rows, values[:, 0, 0, 0], only), right[:, 0, 0, 0])
