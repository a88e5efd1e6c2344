"""Training with proxies: its loss by hand, its images, and what its card says of them."""

import pytest
import torch

from explorer.core import BadCheckpoint, InvalidValue, UnknownName, seeded
from explorer.data.samples import samples_file, write_samples
from explorer.defenses import RECIPES
from explorer.training import train
from explorer.training.export import export
from explorer.training.state import build
from tests.training.runs import sample

NAME = "fashion_mnist/drawn"


@pytest.fixture(autouse=True)
def own_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))


def drawn(level=255, name=NAME, label=3, n=50):
    pixels = torch.full((n, 1, 28, 28), level, dtype=torch.uint8)
    about = {
        "name": name,
        "dataset": "fashion_mnist",
        "generator": "fashion_mnist/flow",
        "generator_sha256": "ab",
        "n": n,
    }
    return write_samples(name, pixels, torch.full((n,), label), about)


def recipe(**changed):
    return RECIPES["proxy-fashion"](**{"channels": "4-4", "hidden": 8, "batch": 16} | changed)


def test_the_loss_is_the_weighted_mean_of_both_kinds(monkeypatch):
    drawn()
    one = recipe(samples=NAME, gamma=0.3)
    model = build(one, torch.device("cpu")).train()
    shown = []
    monkeypatch.setattr(type(one), "training_inputs", lambda self, model, x, y, rng, epoch=0: shown.append((x, y)) or x)
    x, y = torch.rand(6, 1, 28, 28, generator=seeded(0)), torch.arange(6)
    found = one.loss(model, x, y, seeded(1))
    both, labels = shown[0]
    assert both.shape == (12, 1, 28, 28) and torch.equal(both[:6], x) and torch.equal(labels[:6], y)
    assert bool((both[6:] == 1).all()) and labels[6:].tolist() == [3] * 6  # as many proxies, as they are
    real, proxy = (torch.nn.functional.cross_entropy(model(a), b) for a, b in ((x, y), (both[6:], labels[6:])))
    assert float(found.detach()) == pytest.approx(float((0.3 * real + 0.7 * proxy).detach()), rel=1e-5)


def test_both_kinds_are_attacked():
    drawn(level=128)
    one = recipe(samples=NAME)
    model, seen = build(one, torch.device("cpu")).train(), []
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    x = torch.full((8, 1, 28, 28), 128 / 255)
    one.loss(model, x, torch.zeros(8, dtype=torch.int64), seeded(1))
    last = (seen[-1] - 128 / 255).abs().flatten(1).amax(1)
    assert len(last) == 16 and float(last.min()) > 1.5 * one.eps  # N-FGSM's noise and step


def test_without_samples_it_is_n_fgsm_and_gamma_is_no_matter():
    x, y = torch.rand(6, 1, 28, 28, generator=seeded(0)), torch.arange(6)
    model = build(recipe(), torch.device("cpu")).train()
    losses = [float(recipe(gamma=g).loss(model, x, y, seeded(1)).detach()) for g in (0.1, 0.9)]
    assert losses[0] == losses[1] and recipe().made_of() == {}


def test_bad_samples_are_named():
    x, y = torch.rand(2, 1, 28, 28), torch.arange(2)
    with pytest.raises(UnknownName, match="Unknown samples 'fashion_mnist/drawn'"):
        recipe(samples=NAME).loss(build(recipe(), torch.device("cpu")), x, y, seeded(0))
    drawn()
    with pytest.raises(InvalidValue, match="dataset cifar10"):
        RECIPES["proxy"](samples=NAME).made_of()
    recipe(samples=NAME).made_of()
    file = samples_file(NAME)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadCheckpoint, match="changed"):
        recipe(samples=NAME).made_of()


def test_a_run_takes_as_few_real_images_as_asked_and_its_card_names_the_proxy(monkeypatch, tmp_path):
    monkeypatch.setattr("explorer.training.trainer.as_needed", sample)
    monkeypatch.setattr("explorer.training.export.CAST_IMAGES", 20)
    made = drawn()
    one = recipe(samples=NAME, images=40, epochs=1, selection_steps=1)
    result = train(one, tmp_path / "run", bf16=False)
    assert result.images == 40 and result.held_out == 10
    card = export(result, one, "proxy-fashion", "fashion_mnist/with", tmp_path / "fashion_mnist")
    proxy = card.training["proxy"]
    assert proxy["sha256"] == made.sha256 and proxy["n"] == 50 and proxy["generator_sha256"] == "ab"
    samples_file(NAME).unlink()
    drawn(level=9)
    with pytest.raises(BadCheckpoint):
        train(one, tmp_path / "run", bf16=False)  # the same name, other images: not the same run


def test_the_small_network_has_convolutions_or_none():
    assert recipe().architecture() == ("plain-conv", {"convolutions": [[4, 4, 2], [4, 4, 2]], "hidden": [8]})
    assert recipe(channels="").architecture() == ("mlp", {"hidden": [8]})
    with pytest.raises(InvalidValue, match="channels must be numbers"):
        recipe(channels="4-x").architecture()
