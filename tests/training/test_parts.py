"""The pieces of the training loop: schedule, augmentation, averaging, durable state."""

import json

import pytest
import torch

from explorer.core import seeded
from explorer.defenses.recipe import one_cycle
from explorer.training.checkpoint import load_state, save_state
from explorer.training.data import PAD, Augmented
from explorer.training.optim import EMA


def test_a_crop_and_a_flip_are_all_that_happens_to_an_image():
    pixels = torch.randint(0, 256, (5, 3, 8, 8), generator=seeded(0), dtype=torch.uint8)
    rows = torch.arange(5).repeat(200)
    out = Augmented(pixels).batch(rows, seeded(1))
    assert out.shape == (1000, 3, 8, 8) and out.dtype == torch.float32
    padded = torch.nn.functional.pad(pixels, (PAD,) * 4).float() / 255
    seen = set()
    for image, row in zip(out[:60], rows[:60], strict=True):
        places = [
            (dy, dx, flip)
            for dy in range(2 * PAD + 1)
            for dx in range(2 * PAD + 1)
            for flip in (False, True)
            if torch.equal(image.flip(-1) if flip else image, padded[row, :, dy : dy + 8, dx : dx + 8])
        ]
        assert places
        seen.update(places)
    assert len(seen) > 40


def test_augmentation_repeats_under_its_seed():
    data = Augmented(torch.randint(0, 256, (9, 1, 6, 6), generator=seeded(0), dtype=torch.uint8))
    rows = torch.arange(9)
    assert torch.equal(data.batch(rows, seeded(4)), data.batch(rows, seeded(4)))


def test_the_average_follows_parameters_and_statistics():
    trained = torch.nn.BatchNorm2d(2)
    averaged = EMA(trained, decay=0.5)
    with torch.no_grad():
        trained.weight.fill_(3.0)
        trained.running_mean.fill_(1.0)
    averaged.update()  # decay of the first update: min(0.5, 2 / 11)
    assert averaged.model.weight[0].item() == pytest.approx(1 + (3 - 1) * (1 - 2 / 11))
    assert averaged.model.running_mean[0].item() == pytest.approx(1 - 2 / 11)
    assert not averaged.model.training and not averaged.model.weight.requires_grad


def test_the_learning_rate_goes_up_to_the_peak_and_down_to_nothing():
    rates = [one_cycle(update, 1000, 0.4, 0.25) for update in range(1000)]
    assert max(rates) == pytest.approx(0.4, rel=0.01) and rates.index(max(rates)) in range(247, 253)
    assert rates[0] < 0.01 and rates[-1] < 0.001
    assert all(a < b for a, b in zip(rates[:240], rates[1:241], strict=True))


def test_state_survives_a_round_trip_and_nothing_is_left_beside_it(tmp_path):
    tensors = {"a": torch.randn(3, 4).T, "rng": seeded(1).get_state()}
    facts = {"epoch": 3, "history": [{"loss": 0.5}], "text": "ü"}
    save_state(tmp_path / "state.safetensors", tensors, facts)
    found, told = load_state(tmp_path / "state.safetensors")
    assert told == facts and all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    from explorer.core import files

    file = tmp_path / "card.json"
    files.write_atomically(file, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(file, json.dumps({"new": 1}).encode())
    assert file.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["card.json"]
