"""What a run would cost: measured on a few updates, sharper as more are timed, and nothing is written."""

from __future__ import annotations

import pytest
import torch

from explorer.core import Cancelled
from explorer.training import estimate
from explorer.training import trainer as the_loop
from tests.training.runs import small


def test_an_estimate_counts_every_epoch_and_its_scoring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(the_loop, "as_needed", None)  # needs no data set
    recipe = small("pgd-linf", epochs=3, batch=16, finish_share=0.34, start="cifar10/nobody")
    assert [recipe.passes(epoch) for epoch in range(3)] == [2, 2, 3]
    before = torch.random.get_rng_state()
    found = list(estimate(recipe, bf16=False, limit=40, updates=2))
    assert [one.timed for one in found] == [1, 2, 2, 3, 4]
    assert [one.scoring_seconds is None for one in found] == [True, True, False, False, False]
    for one in found:
        assert one.epoch_seconds == pytest.approx(
            3 * one.update_seconds + (one.scoring_seconds or 0)
        )  # 16, 16 and 8 images
        assert one.total_seconds == pytest.approx(3 * one.epoch_seconds)
        assert one.images_per_second == pytest.approx(16 / one.update_seconds) and one.update_seconds > 0
    assert not list(tmp_path.iterdir()) and torch.equal(torch.random.get_rng_state(), before)


def test_an_estimate_can_be_stopped_between_two_passes():
    asked = []

    def ask():
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Cancelled, match="The estimate was stopped"):
        list(estimate(small("baseline"), bf16=False, should_stop=ask))
    assert len(asked) == 5
