"""Images that are still being decoded when a run begins change nothing but when it begins."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import torch

from explorer.data import LazyPixels, raw
from explorer.training import train
from explorer.training.preview import PREVIEWED
from tests.training.runs import numbers, small, weights

PIXELS, LABELS, _ = raw("cifar10", "test", "sample")


@pytest.fixture
def lazy(monkeypatch):
    """The training images arrive; the thread that decodes the rest waits at its first image until it may go on."""
    here, may_go_on, made = threading.current_thread(), threading.Event(), []

    def decode(row):
        if threading.current_thread() is not here:
            may_go_on.wait(60)
        return PIXELS[row].numpy()

    @contextmanager
    def as_needed(name, split):
        made.append(LazyPixels(len(LABELS), PIXELS.shape[1:], decode, lambda pixels: None))
        yield made[-1], LABELS
        may_go_on.set()
        made[-1].close()

    monkeypatch.setattr("explorer.training.trainer.as_needed", as_needed)
    return made, may_go_on


def test_a_run_begins_before_all_are_there_and_is_the_same_run(tmp_path, lazy, monkeypatch):
    made, may_go_on = lazy
    recipe = small("baseline", batch=250)
    there, alone, decoded = [], [], []

    def progress(now):
        (pixels,) = made
        there.append(pixels.whole is not None)
        if now.update == 1:
            alone.append(pixels._thread)
            decoded.append(int(pixels._there.sum()))
        if now.update == 2:
            may_go_on.set()
            pixels._thread.join()

    result = train(recipe, tmp_path / "arriving", bf16=False, progress=progress)
    assert there[:2] == [False, False] and all(there[2:]) and len(there) > 4
    assert alone == [None]
    assert decoded == [250 + PREVIEWED]  # of those held out, only the ones watched from the start on

    with monkeypatch.context() as patch:
        patch.setattr("explorer.training.trainer.as_needed", whole)
        same = train(recipe, tmp_path / "whole", bf16=False)
    assert numbers(tmp_path / "arriving") == numbers(tmp_path / "whole")
    assert all(torch.equal(value, weights(same)[key]) for key, value in weights(result).items())


@contextmanager
def whole(name, split):
    yield PIXELS, LABELS


def test_a_run_of_few_images_decodes_no_others(tmp_path, lazy):
    made, _ = lazy
    train(small("baseline", epochs=1), tmp_path, limit=20, bf16=False)
    (pixels,) = made
    assert pixels._thread is None and pixels._there.sum() == 25  # 20 trained on, 5 held out
