"""The loop beside a bare one: the same passes and steps, in turn; numbers with their conditions."""

import json

import pytest
import torch

from explorer.core import Cancelled, InvalidValue
from explorer.defenses import RECIPES
from explorer.evaluation import throughput as module
from explorer.evaluation.throughput import Bare, throughput

SMALL = {
    "clean": ("baseline", {"width": 4}, 2),
    "pgd": ("pgd-linf", {"width": 4, "inner_steps": 3, "finish_share": 0.0, "start": ""}, 1),
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "KINDS", SMALL)


def test_both_loops_are_timed_in_turn_and_the_ratio_is_that_of_the_medians(small):
    seen = []
    rows = throughput(batch=8, repeats=2, kinds=("clean", "pgd"), progress=lambda *now: seen.append(now))
    assert [row["what"] for row in rows] == ["clean", "pgd"] and [row["updates"] for row in rows] == [2, 1]
    assert seen == [("clean", 1, 2), ("clean", 2, 2), ("pgd", 1, 2), ("pgd", 2, 2)]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["images_per_second"] / row["bare_images_per_second"])
        low, high = row["ratio_range"]
        assert 0 < low <= high and row["target"] == 0.9
        assert row["checkpoint_bytes"] > 100_000 and 0 < row["checkpoint_share"] < 1
        assert row["threads"] == torch.get_num_threads() and len(row["load"]) == 2
    assert json.loads(json.dumps(rows)) == rows


def test_the_bare_loop_makes_the_recipe_s_passes_and_learns(small):
    recipe = RECIPES["pgd-linf"](**SMALL["pgd"][1], batch=8)
    bare, passes = Bare(recipe, torch.device("cpu"), False), []
    bare.model.register_forward_hook(lambda model, given, out: passes.append(model.norm.training))
    before = bare.model.head.weight.detach().clone()
    bare.update()
    assert passes == [False, False, False, True] and len(passes) == recipe.passes(0)
    assert not torch.equal(before, bare.model.head.weight)
    assert all(p.grad is not None for p in bare.model.parameters()) and bare.model.norm.num_batches_tracked == 1


def test_it_can_be_stopped_and_refuses_nonsense(small):
    with pytest.raises(Cancelled):
        throughput(batch=8, repeats=2, kinds=("clean",), should_stop=lambda: True)
    for wrong in ({"repeats": 0}, {"updates": 0}, {"batch": 0}, {"kinds": ("dirty",)}):
        with pytest.raises(InvalidValue, match=next(iter(wrong))):
            throughput(**wrong)
