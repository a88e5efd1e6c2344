"""Generators against what is known of them: Gaussians, a flow to one point, real images that are given back."""

import pytest
import torch
from torch import nn

from explorer.core import BadCheckpoint, InvalidValue, UnknownName, seeded
from explorer.data import raw
from explorer.data.samples import read_samples, samples_file
from explorer.proxies import GENERATORS, fitting, store
from explorer.proxies.flow import Flow, euler, flow_losses
from explorer.proxies.generator import Real, halves
from explorer.proxies.ppca import PPCA, principal

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_the_sample(monkeypatch, tmp_path):
    """The bundled sample in place of the training set, and an own store."""
    monkeypatch.setattr("explorer.proxies.generator.raw", lambda name, split: raw(name, "test", "sample"))
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))


def fitted(key, name=None, limit=200, **changed):
    settings = GENERATORS[key](**(dict(GENERATORS[key].smoke) | changed))
    return store.fit(key, settings, "fashion_mnist", f"fashion_mnist/{name or key}", CPU, lambda *_: None, "", limit)


def test_ppca_recovers_mean_and_covariance_of_its_own_gaussian():
    rng = seeded(0)
    mean, noise = torch.rand(12, generator=rng), 0.05
    axes = torch.randn(12, 2, generator=rng) / 3
    x = mean + torch.randn(20_000, 2, generator=rng) @ axes.T + noise * torch.randn(20_000, 12, generator=rng)
    found, w, sigma = principal(x, 2)
    torch.testing.assert_close(found, mean, atol=0.01, rtol=0)
    torch.testing.assert_close(w @ w.T, axes @ axes.T, atol=0.02, rtol=0)
    assert float(sigma) == pytest.approx(noise, rel=0.02)


def test_ppca_of_fewer_images_than_pixels_is_the_same_as_of_the_covariance():
    x = torch.rand(30, 50, generator=seeded(0))
    centred = (x - x.mean(0)).double()
    values, axes = torch.linalg.eigh(centred.T @ centred / 30)
    sigma2 = values[:-4].sum() / 46
    expected = axes[:, -4:] * (values[-4:] - sigma2) @ axes[:, -4:].T
    _, w, sigma = principal(x, 4)
    torch.testing.assert_close((w @ w.T).double(), expected, atol=1e-5, rtol=0)
    assert float(sigma) == pytest.approx(float(sigma2.sqrt()), rel=1e-4)


def test_what_ppca_draws_has_the_moments_of_its_class():
    learned = {
        "mean": torch.tensor([[0.5] * 4, [0.3] * 4]),
        "axes": torch.zeros(2, 4, 1),
        "noise": torch.tensor([0.1, 0.02]),
    }
    learned["axes"][1, 0, 0] = 0.1
    x = PPCA().draw(learned, torch.arange(20_000) % 2, (1, 2, 2), seeded(0)).flatten(1)
    assert torch.allclose(x[::2].std(0), torch.full((4,), 0.1), atol=0.005)
    assert torch.allclose(x[1::2].std(0), torch.tensor([(0.1**2 + 0.02**2) ** 0.5, 0.02, 0.02, 0.02]), atol=0.005)
    assert float((x[1::2].mean(0) - 0.3).abs().max()) < 0.005


def test_the_flow_s_loss_by_hand():
    x, z = torch.tensor([[1.0, -1.0]]).view(1, 1, 1, 2), torch.tensor([[0.5, 0.0]]).view(1, 1, 1, 2)
    t, seen = torch.tensor([0.25]), []

    def velocity(at, time, y):
        seen.append((at.flatten().tolist(), float(time), int(y)))
        return torch.tensor([[1.0, 0.0]]).view(1, 1, 1, 2)

    found = flow_losses(velocity, x, torch.tensor([3]), z, t)
    assert seen == [([0.625, -0.25], 0.25, 3)]  # 3/4 z + 1/4 x
    assert found.tolist() == pytest.approx([((1 - 0.5) ** 2 + 1) / 2])  # target (0.5, -1)


def test_classes_are_left_out_as_often_as_asked_and_times_are_logit_normal():
    told, times = [], []

    def velocity(at, t, y):
        told.append(y)
        times.append(t)
        return torch.zeros_like(at)

    Flow(drop=0.25).losses(velocity, torch.zeros(8000, 1, 1, 1), torch.zeros(8000, dtype=torch.int64), 10, seeded(0))
    assert float((told[0] == 10).float().mean()) == pytest.approx(0.25, abs=0.02)
    logits = times[0].logit()
    assert float(logits.mean()) == pytest.approx(0, abs=0.04) and float(logits.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("steps", [1, 7])
def test_a_flow_to_one_point_arrives_there(steps):
    goal, z = torch.rand(3, 1, 2, 2, generator=seeded(0)), torch.randn(3, 1, 2, 2, generator=seeded(1))
    found = euler(lambda x, t, y: (goal - x) / (1 - t.view(-1, 1, 1, 1)), z, torch.zeros(3), 10, steps)
    torch.testing.assert_close(found, goal, atol=1e-5, rtol=0)


def test_guidance_goes_beyond_the_class_s_velocity():
    found = euler(
        lambda x, t, y: torch.where(y == 9, 1.0, 3.0).view(-1, 1, 1, 1),
        torch.zeros(1, 1, 1, 1),
        torch.zeros(1),
        9,
        4,
        2.0,
    )
    assert float(found) == pytest.approx(1 + 2 * (3 - 1))


def test_a_flow_learns_where_each_class_lies():
    pixels = (torch.arange(64) % 2 * 200 + 20).to(torch.uint8).view(-1, 1, 1, 1).expand(64, 1, 4, 4).contiguous()
    real = Real(pixels, torch.arange(64) % 2, "fashion_mnist")
    flow = Flow(epochs=100, width=8, batch=32, lr=6e-3, steps=8, ema=0.98)
    learned = flow.fit(real, CPU, store.folder() / "work", lambda *_: None)
    x = flow.draw(learned, torch.tensor([0, 1] * 8), (1, 4, 4), seeded(0))
    assert float(x[::2].mean()) < 0.2 and float(x[1::2].mean()) > 0.7  # 20 and 220 of 255


def test_a_fit_that_was_killed_ends_as_one_that_was_not(monkeypatch, tmp_path):
    real = halves("fashion_mnist")[0].first(64)
    flow, told = Flow(epochs=2, width=8, batch=16), []
    whole = flow.fit(real, CPU, tmp_path / "whole", lambda *_: None)
    monkeypatch.setattr(fitting, "EVERY", 0.0)

    def kill(done, total):
        told.append(done)
        if done == 5:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        flow.fit(real, CPU, tmp_path / "work", kill)
    again = flow.fit(real, CPU, tmp_path / "work", lambda done, total: told.append(done))
    assert told == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    with pytest.raises(BadCheckpoint, match="another lr"):
        Flow(epochs=2, width=8, batch=16, lr=1e-4).fit(real, CPU, tmp_path / "work", kill)


@pytest.mark.parametrize("key", GENERATORS.keys())
def test_every_generator_draws_pictures_that_repeat_under_their_seed(key):
    card = fitted(key, **({"components": 3} if key == "ppca" else {}))
    assert card.images == 200 and store.names() == [f"fashion_mnist/{key}"]
    first = store.draw(card.name, 40, 7, CPU)
    again = store.draw(card.name, 40, 7, CPU, f"fashion_mnist/{key}-again")
    other = store.draw(card.name, 40, 8, CPU)
    assert first.pixels.shape == (40, 1, 28, 28) and first.labels.bincount().tolist() == [4] * 10
    assert torch.equal(first.pixels, again.pixels) and first.sha256 == again.sha256 != other.sha256
    assert first.about["generator_sha256"] == card.sha256 and first.about["seed"] == 7
    assert read_samples(f"fashion_mnist/{key}-again", "fashion_mnist").sha256 == first.sha256


def test_real_gives_each_picture_of_the_other_half_once():
    own, other = halves("fashion_mnist")
    both = {row.numpy().tobytes() for half in (own, other) for row in half.pixels}
    assert len(both) == len(own) + len(other)  # no picture in both
    fitted("real", limit=None)
    drawn = store.draw("fashion_mnist/real", 100, 0, CPU)
    theirs = {row.numpy().tobytes(): int(y) for row, y in zip(other.pixels, other.labels, strict=True)}
    found = {row.numpy().tobytes(): int(y) for row, y in zip(drawn.pixels, drawn.labels, strict=True)}
    assert len(found) == 100 and found.items() <= theirs.items()
    with pytest.raises(InvalidValue, match="real images of class"):
        store.draw("fashion_mnist/real", 10 * len(other), 0, CPU)


def test_what_cannot_be_is_said_in_one_sentence():
    with pytest.raises(UnknownName, match="Unknown generator 'flo'. Did you mean 'flow'"):
        GENERATORS["flo"]
    with pytest.raises(UnknownName, match="Unknown fitted generator"):
        store.draw("fashion_mnist/none", 10, 0, CPU)
    with pytest.raises(InvalidValue, match="components must be fewer"):
        fitted("ppca", components=100)
    odd = Real(torch.zeros(8, 1, 9, 10, dtype=torch.uint8), torch.arange(8), "fashion_mnist")
    with pytest.raises(InvalidValue, match="even number of pixels a side; got 10 x 9"):
        Flow().fit(odd, CPU, store.folder(), lambda *_: None)
    card = fitted("ppca", components=2)
    with pytest.raises(InvalidValue, match="already"):
        fitted("ppca", components=2)
    with pytest.raises(InvalidValue, match="n must be at least 1"):
        store.draw(card.name, 0, 0, CPU)
    with pytest.raises(InvalidValue, match="name must be fashion_mnist/"):
        store.fit("ppca", PPCA(), "fashion_mnist", "cifar10/ppca", CPU, lambda *_: None, "")
    file = store.folder() / "fashion_mnist" / card.file
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadCheckpoint, match="was changed"):
        store.draw(card.name, 10, 0, CPU)


def test_samples_of_another_dataset_or_changed_ones_are_refused():
    fitted("ppca", components=2)
    name = store.draw("fashion_mnist/ppca", 20, 0, CPU).about["name"]
    with pytest.raises(InvalidValue, match="samples must be of the dataset cifar10"):
        read_samples(name, "cifar10")
    with pytest.raises(UnknownName, match="Unknown samples"):
        read_samples("fashion_mnist/nothing")
    file = samples_file(name)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadCheckpoint, match="changed"):
        read_samples(name)


def test_the_network_begins_with_no_velocity_and_keeps_no_global_draw():
    before = torch.random.get_rng_state()
    network = Flow(width=8).network(3, 10)
    assert torch.equal(torch.random.get_rng_state(), before)
    out = network(torch.randn(2, 3, 32, 32, generator=seeded(0)), torch.tensor([0.1, 0.9]), torch.tensor([0, 10]))
    assert out.shape == (2, 3, 32, 32) and isinstance(network, nn.Module) and float(out.detach().abs().max()) == 0
