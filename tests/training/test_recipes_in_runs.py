"""What recipes do to a whole run: buffers from update to update, an early end, a warning, divergence."""

import pytest
import torch

from explorer.core import Cancelled, seeded
from explorer.defenses import RECIPES
from explorer.models import zoo
from explorer.training import METRICS, Diverged, newest, read_metrics, train
from explorer.training.data import split
from explorer.training.ddp import share_rows
from explorer.training.export import export
from explorer.training.optim import EMA
from explorer.training.trainer import Trainer
from tests.training.runs import OPTIONS

SMALL = {"epochs": 2, "width": 4, "batch": 8, "lr": 0.05, "start": "", "selection_steps": 1}
FREE = RECIPES["free"](**SMALL | {"replays": 3})


def trainer_of(recipe, n=20):
    pixels = torch.randint(0, 256, (1100, 3, 32, 32), generator=seeded(0), dtype=torch.uint8)
    return Trainer(recipe, split(pixels, torch.arange(1100) % 10, n, torch.device("cpu")), torch.device("cpu"), False)


def test_free_replays_each_batch_and_carries_the_perturbation_to_the_next(monkeypatch):
    seen, original = [], type(FREE).loss

    def watched(self, model, x, y, rng, epoch=0, buffers=None):
        seen.append((x.clone(), buffers["delta"].clone()))
        return original(self, model, x, y, rng, epoch, buffers)

    monkeypatch.setattr(type(FREE), "loss", watched)
    work = trainer_of(FREE)
    assert work.per_epoch == 9  # 20 images in batches of 8: 3 batches, each 3 times
    work.state.model.train()
    for _ in range(9):
        work.update(work.next_rows(), 0.01)
        work.state.index += 1
    pictures = [x for x, _ in seen]
    assert all(torch.equal(pictures[3 * b], pictures[3 * b + r]) for b in range(3) for r in (1, 2))
    assert not torch.equal(pictures[0], pictures[3]) and len(pictures[8]) == 4
    deltas = [delta for _, delta in seen]
    assert not deltas[0].any() and float(deltas[3].abs().max()) == pytest.approx(FREE.eps)
    for before, after in zip(deltas, deltas[1:], strict=False):
        moved = (after - before[: len(after)])[: len(before)].abs()
        assert float(moved.max()) <= FREE.eps + 1e-7  # one step: what went before lives on


class Two:
    """The first of two processes; the second's rows of a batch of 8 are all 5."""

    world, is_first = 2, True

    def all_reduce_mean(self, mine):
        other = torch.zeros_like(mine)
        other[4:] = 5.0
        return (mine + other) / 2


def test_processes_that_share_a_batch_share_what_they_carry_on():
    delta = torch.empty(9, 3)
    delta[:4], delta[4:] = 3.0, 7.0  # here the first half has been changed, there the second
    share_rows(delta, 0, 4, 8, Two())
    assert (delta[:4] == 3).all() and (delta[4:8] == 5).all() and (delta[8] == 7).all()


def test_a_free_run_goes_on_bit_for_bit_from_the_middle_of_a_replay(tmp_path):
    whole = train(FREE, tmp_path / "whole", **OPTIONS)
    seen = []

    def stop():
        seen.append(1)
        return len(seen) > 5  # one pass an update: the second replay of the second batch

    with pytest.raises(Cancelled, match="after update 5 of 18"):
        train(FREE, tmp_path / "parts", should_stop=stop, **OPTIONS)
    parts = train(FREE, tmp_path / "parts", **OPTIONS)
    a, b = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)
    same = [[{k: v for k, v in entry.items() if k != "seconds"} for entry in run.history] for run in (whole, parts)]
    assert same[0] == same[1]


def test_early_stopping_ends_the_run_and_keeps_the_best(tmp_path, monkeypatch):
    recipe = RECIPES["early-stopping"](**SMALL | {"epochs": 6, "patience": 2})
    scores = iter([0.30, 0.40, 0.35, 0.38, 0.90])
    monkeypatch.setattr(type(recipe), "score", lambda *_: {"clean": 0.5, "robust": (s := next(scores)), "score": s})
    said = []
    result = train(recipe, tmp_path, say=said.append, **OPTIONS)
    assert len(result.history) == 4 and result.best_epoch == 2
    sentence = "Stopped early, after epoch 4 of 6: held-out robust accuracy has not risen since epoch 2."
    assert result.warning == sentence and sentence in said
    again = train(recipe, tmp_path, **OPTIONS)  # taken up once more, it has nothing left to do
    assert len(again.history) == 4 and next(scores) == 0.90


def test_a_collapse_is_told_in_log_history_result_and_card(tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.training.export.CAST_IMAGES", 10)
    recipe = RECIPES["nfgsm"](**SMALL | {"epochs": 3})
    scores = iter([(0.4, 0.45), (0.1, 0.8), (0.02, 0.9)])

    def score(*_):
        robust, fgsm = next(scores)
        return {"clean": 0.9, "robust": robust, "fgsm": fgsm, "score": robust}

    monkeypatch.setattr(type(recipe), "score", score)
    said = []
    result = train(recipe, tmp_path / "run", say=said.append, **OPTIONS)
    assert sum("Catastrophic overfitting since epoch 2" in sentence for sentence in said) == 1
    assert ["remark" in entry for entry in result.history] == [False, True, True]
    assert "since epoch 2: after epoch 3, 90.0%" in result.warning and "is none of these" in result.warning
    recorded = [r for r in newest(read_metrics(tmp_path / "run" / METRICS)[0]) if r["kind"] == "epoch"]
    assert [r.get("remark") for r in recorded] == [entry.get("remark") for entry in result.history]
    card = export(result, recipe, "nfgsm", "cifar10/collapsed", tmp_path / "cifar10")
    assert card.training["remark"] == result.warning
    assert zoo.load_file(tmp_path / "cifar10" / "collapsed.json").num_classes == 10


KINDS = (
    "baseline-dropout",
    "nfgsm",
    "pgd-l2",
    "fgsm",
    "free",
    "trades",
    "half-cw",
    "localized",
    "early-stopping",
    "pgd-linf-scratch",
)


@pytest.mark.parametrize("key", KINDS)
def test_a_run_that_diverges_stops_with_the_epoch_and_the_reason(key, tmp_path):
    few = {"selection_steps": 1, "inner_steps": 1, "finish_steps": 1, "cw_steps": 1, "width": 4}
    known = {p.name for p in RECIPES[key].params()}
    recipe = RECIPES[key](
        **{name: value for name, value in few.items() if name in known}, epochs=2, batch=8, lr=10.0, start="", momentum=0.999,
        weight_decay=1.0, warmup=0.0,
    )  # fmt: skip
    work = trainer_of(recipe)
    with torch.no_grad():
        work.state.model.head.weight.fill_(float("nan"))  # what too large a step leaves
    assert not torch.isfinite(torch.tensor(work.update(work.next_rows(), 0.1)))


def test_weights_that_the_last_update_of_an_epoch_has_spoilt_end_the_run(tmp_path, monkeypatch):
    recipe, updates = RECIPES["nfgsm"](**SMALL), []
    original = EMA.update

    def update(self):
        original(self)
        updates.append(1)
        if len(updates) == 3:
            with torch.no_grad():
                self.model.head.bias.fill_(float("inf"))

    monkeypatch.setattr(EMA, "update", update)
    with pytest.raises(Diverged, match="not finite any more after epoch 1 of 2: lower the learning rate"):
        train(recipe, tmp_path, **OPTIONS)
