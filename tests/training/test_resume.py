"""A run that was stopped, killed or damaged goes on to the very numbers of one that was not."""

from __future__ import annotations

import math
import re
import shutil

import numpy as np
import pytest
import torch

from explorer.core import BadCheckpoint, Cancelled, ExplorerError
from explorer.training import METRICS, Diverged, preview_epochs, read_metrics, read_preview, train
from explorer.training.preview import PreviewImages
from tests.training.runs import OPTIONS, SMALL, numbers, small, weights

UPDATES = 6


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one) and one.keys() == other.keys()


@pytest.mark.parametrize("key", SMALL)
def test_a_run_stopped_again_and_again_is_bit_for_bit_the_run_that_was_not(key, tmp_path):
    passes, before = [], torch.random.get_rng_state()
    whole = train(small(key), tmp_path / "whole", should_stop=lambda: bool(passes.append(1)), **OPTIONS)
    stops, parts = set(), None
    for patience in range(5, 100, 2):  # passes of the model until the next stop: each time somewhere else
        left = iter(range(patience))
        try:
            parts = train(
                small(key), tmp_path / "parts", should_stop=lambda left=left: next(left, None) is None, **OPTIONS
            )
            break
        except Cancelled as stop:
            stops.add(int(re.search(r"after update (\d+) of 6", str(stop)).group(1)))
    assert stops and parts is not None
    assert (
        numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
        and len(numbers(tmp_path / "whole")) == 1 + UPDATES + 2 + 2  # a slice; each epoch's scores and tape
    )
    assert same(weights(parts), weights(whole)) and parts.best_epoch == whole.best_epoch
    assert torch.equal(torch.random.get_rng_state(), before)  # else going on would not repeat it
    for epoch in range(3):
        one, other = (read_preview(tmp_path / name, epoch) for name in ("whole", "parts"))
        assert np.array_equal(one.p_trained_on, other.p_trained_on)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder and its weights."""
    with pytest.MonkeyPatch.context() as patch:
        from tests.training.runs import sample

        patch.setattr("explorer.training.trainer.as_needed", sample)
        folder = tmp_path_factory.mktemp("whole")
        return folder, weights(train(small("baseline"), folder, **OPTIONS))


class Killed(BaseException):
    """What no handler of the loop sees coming."""


def killed_after(update, folder, **options):
    """A run that ends in the middle of things once it has done so many updates; nothing is saved any more."""

    def end(now):
        if now.update == update and now.held_out is None:
            raise Killed

    with pytest.raises(Killed):
        train(small("baseline"), folder, progress=end, **OPTIONS | options)


def test_stopping_while_the_epoch_is_scored_loses_no_update(tmp_path, whole):
    asked = []

    def in_the_first_scoring():
        asked.append(1)
        return len(asked) == 4  # one pass an update, then those of the scoring

    with pytest.raises(Cancelled, match="in epoch 1, after update 3 of 6"):
        train(small("baseline"), tmp_path, should_stop=in_the_first_scoring, **OPTIONS)
    asked.clear()
    done = []
    result = train(small("baseline"), tmp_path, progress=lambda now: done.append(now.update), **OPTIONS)
    assert done[0] == 3 and done.count(4) == 1  # scored, then the next update
    assert same(weights(result), whole[1]) and numbers(tmp_path) == numbers(whole[0])


@pytest.mark.parametrize(("every", "kept"), [(math.inf, 3), (0.0, 4)])  # with 0, killed before the checkpoint of 5
def test_after_a_kill_updates_since_the_checkpoint_are_done_and_recorded_again(every, kept, tmp_path, whole):
    killed_after(5, tmp_path, every=every)
    with open(tmp_path / METRICS, "ab") as file:
        file.write(b'{"kind": "update", "upd')  # the line it was writing
    (tmp_path / "checkpoints" / ".0001-0000005.safetensors.ab12.tmp").write_bytes(b"half")
    done = []
    result = train(small("baseline"), tmp_path, progress=lambda now: done.append(now.update), **OPTIONS)
    assert done[0] == kept + 1
    assert same(weights(result), whole[1]) and numbers(tmp_path) == numbers(whole[0])
    every_record, _ = read_metrics(tmp_path / METRICS)
    updates = [one["update"] for one in every_record if one["kind"] == "update"]
    assert updates == [1, 2, 3, 4, 5, *range(kept + 1, UPDATES + 1)]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"0001-{kept:07d}.safetensors", "0002-0000006.safetensors"]  # the last two, no leftovers


def test_a_damaged_checkpoint_is_passed_over_and_the_one_before_taken(tmp_path, whole):
    killed_after(5, tmp_path, every=0.0)
    older, newer = sorted((tmp_path / "checkpoints").iterdir())
    assert (older.name, newer.name) == ("0001-0000003.safetensors", "0001-0000004.safetensors")
    data = bytearray(newer.read_bytes())
    data[len(data) // 2] ^= 1  # one bit of a weight
    newer.write_bytes(data)
    said, done = [], []
    result = train(
        small("baseline"),
        tmp_path,
        say=said.append,
        progress=lambda now: done.append(now.update),
        every=math.inf,
        **OPTIONS,
    )
    assert done[0] == 4
    assert said == [
        "The checkpoint 0001-0000004.safetensors is damaged; looking for the one before it.",
        "Going on from 0001-0000003.safetensors.",
    ]
    assert same(weights(result), whole[1]) and numbers(tmp_path) == numbers(whole[0])
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        older.name,
        "0002-0000006.safetensors",
    ]


def copied(whole, tmp_path):
    return shutil.copytree(whole[0], tmp_path / "run")


def test_with_both_damaged_one_sentence_says_so(tmp_path, whole):
    folder = copied(whole, tmp_path)
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(
        BadCheckpoint, match="No checkpoint in .* are damaged; delete the folder to start over"
    ) as refusal:
        train(small("baseline"), folder, **OPTIONS)
    assert "\n" not in str(refusal.value)


def test_a_run_of_other_values_is_refused_by_name(tmp_path, whole):
    folder = copied(whole, tmp_path)
    with pytest.raises(BadCheckpoint, match=r"another recipe or other values \(lr 0.05 there, 0.1 here\)"):
        train(small("baseline", lr=0.1), folder, **OPTIONS)
    with pytest.raises(BadCheckpoint, match=r"recipe 'Baseline' there, 'PgdLinf' here"):
        train(small("pgd-linf"), folder, **OPTIONS)
    with pytest.raises(BadCheckpoint, match="precision 'float32' there, 'bfloat16' here"):
        train(small("baseline"), folder, **OPTIONS | {"bf16": True})


def test_a_finished_run_is_taken_as_it_is(tmp_path, whole):
    folder = copied(whole, tmp_path)
    done = []
    result = train(small("baseline"), folder, progress=done.append, **OPTIONS)
    assert done == [] and same(weights(result), whole[1])


def test_the_watched_images_are_seen_before_and_after_every_epoch_and_disturb_nothing(tmp_path, whole, monkeypatch):
    assert preview_epochs(whole[0]) == [0, 1, 2]
    preview = read_preview(whole[0], 2)
    assert preview.clean.shape == preview.trained_on.shape == (5, 3, 32, 32) and preview.clean.dtype == np.uint8
    assert preview.labels.shape == (5,) and preview.p_clean.shape == (5, 10) and preview.p_clean.dtype == np.float32
    assert np.allclose(preview.p_clean.sum(1), 1, atol=1e-5) and np.array_equal(preview.clean, preview.trained_on)
    known = preview
    monkeypatch.setattr(PreviewImages, "preview", lambda self, *rest: known)
    assert same(weights(train(small("baseline"), tmp_path, **OPTIONS)), whole[1])


def test_what_is_watched_is_what_the_loss_sees(tmp_path):
    for key, largest in (("pgd-linf", 3 * 8 / 255), ("smoothed-0.25", 1.0)):
        train(small(key, epochs=1), tmp_path / key, **OPTIONS)
        preview = read_preview(tmp_path / key, 1)
        change = np.abs(preview.trained_on.astype(float) - preview.clean) / 255
        assert 0.02 < change.max() <= largest + 1 / 255
        assert not np.allclose(preview.p_clean, preview.p_trained_on, atol=1e-7)


def test_a_run_that_diverges_says_when_and_what_may_help(tmp_path, monkeypatch):
    recipe = small("baseline")
    original = type(recipe).loss
    calls = []

    def loss(self, *rest, **options):
        calls.append(1)
        return original(self, *rest, **options) * (math.nan if len(calls) == 5 else 1)

    monkeypatch.setattr(type(recipe), "loss", loss)
    with pytest.raises(
        Diverged, match=r"^The loss became nan in epoch 2 of 2: lower the learning rate \(lr, now 0.05\)\.$"
    ):
        train(recipe, tmp_path, **OPTIONS)
    assert issubclass(Diverged, ExplorerError)
