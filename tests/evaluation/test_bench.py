"""The benchmark measures what it says. Its figures are for people; only counts and shapes are tested."""

import importlib
import time

import pytest
import torch

from explorer.core import Cancelled, Classifier, InvalidValue, UnknownName
from explorer.evaluation.bench import bare_loop, bench, in_turn, random_model


class Counting(Classifier):
    def __init__(self):
        super().__init__([0.5] * 3, [0.25] * 3, (3, 4, 4), 10)
        self.head = torch.nn.Linear(48, 10)
        self.passes = []
        self.freeze()

    def embed(self, normalised):
        self.passes.append((len(normalised), normalised.requires_grad))
        return normalised.flatten(1)


@pytest.fixture
def model(monkeypatch):
    model = Counting()
    module = importlib.import_module("explorer.evaluation.bench")  # `explorer.evaluation.bench` is its function
    monkeypatch.setattr(module, "random_model", lambda device: model)
    return model


def test_the_bare_loop_is_twenty_passes_to_the_input_alone():
    model = Counting()
    model.requires_grad_(True)
    assert len(list(bare_loop(model, torch.rand(4, 3, 4, 4), torch.zeros(4, dtype=torch.int64), 20))) == 20
    assert model.passes == [(4, True)] * 20
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("pieces", [1, 2, 10])
def test_two_loops_take_turns_to_their_ends(pieces):
    order = []

    def loop(name, steps, pause):
        for step in range(steps):
            order.append((name, step))
            time.sleep(pause)
            yield

    short, long = in_turn(lambda: loop("short", 2, 0.001), lambda: loop("long", 5, 0.01), torch.device("cpu"), pieces)
    assert sorted(order) == [("long", k) for k in range(5)] + [("short", k) for k in range(2)]
    assert 0.002 <= short < 0.05 <= long
    if pieces == 1:  # and in who begins
        assert [name for name, _ in order[:4]] == ["short", "long", "long", "short"]


def test_pgd_spends_one_forward_pass_more(model):
    bench(batches=(4,), repeats=1, steps=20)
    beside = [p for p in model.passes if p[0] == 4]
    assert beside.count((4, True)) == 2 * (20 + 20) and beside.count((4, False)) == 2  # twice: once to warm up


def test_rows(model):
    seen = []
    small, large, walk = bench(batches=(1, 8), repeats=3, steps=5, progress=lambda *at: seen.append(at))
    for row, size in ((small, 1), (large, 8)):
        assert row["what"] == "PGD-5 over a bare loop" and row["batch"] == size
        assert row["ratio"] == pytest.approx(row["pgd_seconds"] / row["bare_seconds"])
        assert row["ratio_range"][0] <= row["ratio_range"][1] and row["images_per_second"] > 0
    assert small["target"] == 1.10 and large["target"] is None
    assert 0 < walk["first_step_seconds"] < walk["walk_seconds"]
    assert all(
        r["repeats"] == 3 and r["threads"] == torch.get_num_threads() and len(r["load"]) == 2 for r in (small, walk)
    )
    assert [at for at in seen if at[1] == 3] == [("batch 1", 3, 3), ("batch 8", 3, 3), ("one image", 3, 3)]


def test_it_can_be_stopped(model):
    calls = iter(range(100))
    with pytest.raises(Cancelled):
        bench(batches=(1,), repeats=50, steps=1, should_stop=lambda: next(calls) > 2)
    assert next(calls) < 6


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"batches": (0,)}])
def test_refuses_impossible_sizes(wrong):
    with pytest.raises(InvalidValue, match="repeats and batches must be at least 1"):
        bench(**wrong)


def test_refuses_unknown_models():
    with pytest.raises(UnknownName):
        bench("cifar10/nothing")


def test_the_random_model_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    model = random_model("cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10) and not any(p.requires_grad for p in model.parameters())
