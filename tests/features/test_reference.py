"""Reference features: which images, in what order, and kept between processes."""

import logging

import pytest
import torch
from safetensors.torch import save
from torch import nn

from explorer.core import Classifier, current_rng
from explorer.data import load
from explorer.features import Gathering, reference

KEY = "ab" * 32


class Means(Classifier):
    """Features: the mean of each channel and of each half; counts its passes."""

    def __init__(self, stochastic=False):
        super().__init__([0.0] * 3, [1.0] * 3, (3, 32, 32), 10)
        self.stochastic, self.passes, self.head = stochastic, 0, nn.Linear(6, 10)
        self.freeze()

    def embed(self, normalised):
        self.passes += 1
        seen = torch.cat([normalised[:, :, :16].mean((2, 3)), normalised[:, :, 16:].mean((2, 3))], 1)
        if self.stochastic:
            seen = seen + torch.randn(seen.shape, generator=current_rng(seen.device))
        return seen


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path))
    return tmp_path


def test_features_of_the_sample_s_images_batch_by_batch():
    model = Means()
    found = reference(model, "cifar10", n=120)
    images = load("cifar10", n=120, source="sample")
    assert torch.allclose(found.features, model.features(images.x))
    assert torch.equal(found.labels, images.y) and torch.equal(found.index, images.index)
    assert torch.equal(found.images.float() / 255, images.x)
    assert found.labels.bincount().tolist() == [12] * 10


def test_every_advance_is_one_small_batch():
    model = Means()
    gathering = Gathering(model, "cifar10", n=120)
    assert [gathering.advance() is None for _ in range(3)] == [True, True, False]
    assert model.passes == 2


def test_a_stochastic_model_is_averaged_over_draws_that_repeat():
    model = Means(stochastic=True)
    exact = Means().features(load("cifar10", n=100, source="sample").x)
    state = torch.get_rng_state()
    first, second = (reference(model, "cifar10", n=100).features for _ in range(2))
    assert torch.equal(first, second)
    assert 0.25 < float((first - exact).std()) < 0.45  # one draw would give 1, eight give 0.35
    assert torch.equal(torch.get_rng_state(), state)


def test_kept_for_the_next_process_and_found_again(cache):
    first = reference(Means(), "cifar10", n=60, key=KEY)
    model = Means()
    assert torch.equal(reference(model, "cifar10", n=60, key=KEY).features, first.features)
    assert model.passes == 0
    reference(model, "cifar10", n=60, key="cd" * 32)
    assert model.passes > 0


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, None])
def test_a_damaged_or_foreign_file_is_computed_again(cache, caplog, damage):
    first = reference(Means(), "cifar10", n=60, key=KEY)
    (file,) = cache.rglob("*.safetensors")
    other = reference(Means(), "cifar10", n=50)
    file.write_bytes(save({"features": other.features, "index": other.index}) if damage is None else damage)
    model = Means()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(reference(model, "cifar10", n=60, key=KEY).features, first.features)
    assert model.passes > 0 and "computed again" in caplog.text


def test_a_cache_that_cannot_be_written_is_a_warning_and_no_more(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert len(reference(Means(), "cifar10", n=20, key=KEY).features) == 20
    assert "not kept" in caplog.text


def test_features_that_are_not_finite_are_refused():
    model = Means()
    model.mean.fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        reference(model, "cifar10", n=20)
