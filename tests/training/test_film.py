"""The film of a run: its plane, its price, what a kill leaves of it; the tape of the held-out images."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from explorer.core import Classifier, seeded
from explorer.defenses import RECIPES
from explorer.training import METRICS, read_metrics, train
from explorer.training.film import SHARE, Film
from explorer.training.watched import ALONG, SIDE, BoundarySlice, TapeColumn
from explorer.ui.run_record import Record
from tests.training.runs import OPTIONS, small


class Half(Classifier):
    """Class 1 where the mean of the pixels is above a half."""

    def __init__(self):
        super().__init__((0.5,), (1.0,), (1, 4, 4), 2)
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.0], [20.0]]))
            self.head.bias.zero_()

    def embed(self, normalised):
        return normalised.flatten(1).mean(1, keepdim=True)


def test_the_boundary_is_where_the_model_has_it():
    """FGSM lowers each pixel by eps: the class turns at a = lead / eps, whatever b is."""
    x, lead, eps = torch.full((1, 1, 4, 4), 0.52), 0.02, 8 / 255
    film = Film(RECIPES["nfgsm"](eps=eps), x, torch.tensor([1]), 100)
    found = film.slice(Half().freeze(), 7)
    turn = ALONG[0] + (ALONG[1] - ALONG[0]) * np.arange(SIDE) / (SIDE - 1)
    expected = (turn < lead / eps - 1e-4).astype(int)
    assert (found.classes[SIDE // 2] == expected).all() and found.update == 7 and found.label == 1
    assert (found.classes == expected).all()  # what goes sideways shares nothing with the step
    assert found.sure[SIDE // 2, 0] > 127 and found.eps == eps


def test_slices_cost_their_share_of_the_passes_at_most():
    for key, more in (("baseline", {}), ("nfgsm", {}), ("pgd-linf-scratch", {"batch": 64})):
        recipe = RECIPES[key](**more)
        film = Film(recipe, torch.zeros(1, 3, 32, 32), torch.tensor([0]), 3000)
        update = 3 * recipe.batch * recipe.passes(0)
        assert (SIDE**2 + 3) / (film.every(0) * update) <= SHARE and 3000 / film.every(0) <= 240


def test_records_come_back_as_they_were():
    rng = np.random.default_rng(0)
    one = BoundarySlice(5, 0.1, 3, rng.integers(0, 900, (SIDE, SIDE)), rng.integers(0, 256, (SIDE, SIDE)))
    again = BoundarySlice.of_record(json.loads(json.dumps(one.record())))
    assert (again.classes == one.classes).all() and (again.sure == one.sure).all() and again.label == 3
    for robust in (None, rng.random(7) > 0.5):
        mask = rng.random(13) > 0.5
        back = TapeColumn.of_record(json.loads(json.dumps(TapeColumn(2, mask, robust).record(9))))
        assert (back.right == mask).all() and back.epoch == 2
        assert back.robust is None if robust is None else (back.robust == robust).all()


@pytest.mark.parametrize("key", ["pgd-linf", "lipschitz"])
def test_the_tape_holds_the_images_that_the_scores_count(key, tmp_path):
    result = train(small(key), tmp_path, **OPTIONS)
    rows, _ = read_metrics(tmp_path / METRICS)
    tape = [TapeColumn.of_record(row) for row in rows if row["kind"] == "tape"]
    assert [one.epoch for one in tape] == [1, 2]
    for one, scores in zip(tape, result.history, strict=True):
        assert one.right.mean() == pytest.approx(scores["clean"]) and len(one.right) == 5
        assert (one.robust is None) == ("robust" not in scores)
        assert one.robust is None or one.robust.mean() == pytest.approx(scores["robust"])


def test_every_recipe_tells_which_images_are_right():
    x, y = torch.rand(12, 3, 32, 32, generator=seeded(0)), torch.arange(12) % 10
    from explorer.training.state import build

    for key in ("rat", "mat-max", "column", "fgsm"):
        recipe = RECIPES[key](**RECIPES[key].smoke)
        each: dict[str, torch.Tensor] = {}
        scores = recipe.score(build(recipe, torch.device("cpu")).eval(), x, y, seeded(3), each)
        for name, mask in each.items():
            assert mask.dtype == torch.bool and float(mask.float().mean()) == pytest.approx(scores[name])
        assert "clean" in each and ("robust" in each) == ("robust" in scores)


class Written:
    def __init__(self, rows):
        self.rows = rows

    def metrics(self, offset=0):
        return self.rows[offset:], len(self.rows)


def test_what_was_recorded_beyond_the_checkpoint_is_not_in_the_film():
    square = np.zeros((SIDE, SIDE), int)

    def slice_(update):
        return BoundarySlice(update, 0.1, 0, square, square).record()

    def epoch(n):
        return TapeColumn(n, np.ones(3, bool), None).record(10 * n)

    rows = [{"kind": "start", "update": 0, "epoch": 0}, slice_(0), slice_(8), epoch(1), slice_(16), epoch(2)]
    record = Record()
    record.look(Written(rows))
    assert [one.update for one in record.slices()] == [0, 8, 16] and len(record.tape()) == 2
    rows += [{"kind": "start", "update": 10, "epoch": 1}, {"kind": "slice", "update": 12, "classes": "!"}]
    record.look(Written(rows))
    assert [one.update for one in record.slices()] == [0, 8] and [one.epoch for one in record.tape()] == [1]
