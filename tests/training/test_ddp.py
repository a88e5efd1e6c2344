"""Several processes on one batch compute what one computes on the whole of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from explorer.core import Ball, InvalidValue, batch_shard, seeded, use_generator
from explorer.core.ranks import ALONE, Ranks
from explorer.models._lwta import WinnerTakesAll
from explorer.training import train
from explorer.training.data import Augmented
from explorer.training.ddp import SharedBatchNorm, part, share_statistics
from tests.processes import together
from tests.training.runs import OPTIONS, SHARED, on_several, records, short, small

TOLERANCE = 5e-3  # of a loss, relative: sums are taken in another order, and what differs then grows with every update


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes answered, and the folder of their runs."""
    folder = tmp_path_factory.mktemp("two")
    return [end.answer for end in together(on_several, folder)], folder


def losses(folder):
    return [one["loss"] for one in records(folder) if one["kind"] in ("update", "epoch")]


@pytest.mark.parametrize("key", SHARED)
def test_two_processes_have_the_loss_curve_of_one(key, two, tmp_path):
    ((first, _), (second, _)), folder = two
    train(short(key), tmp_path, **OPTIONS)
    assert len(losses(tmp_path)) == 4  # 3 updates and the epoch's mean
    assert losses(folder / key) == pytest.approx(losses(tmp_path), rel=TOLERANCE)
    (history, weights), (other_history, other_weights) = first[key], second[key]
    shares = [value for name, value in history[0].items() if name not in ("epoch", "loss", "seconds")]
    assert shares and shares == [
        value for name, value in other_history[0].items() if name not in ("epoch", "loss", "seconds")
    ]
    assert all((weights[name] == other_weights[name]).all() for name in weights)
    assert len(list((folder / key / "tensorboard").iterdir())) == 1  # the first process alone writes


def test_one_process_s_stop_stops_all_and_another_number_of_processes_goes_on(two, tmp_path):
    ((_, stop), (_, other_stop)), folder = two
    assert stop == other_stop and "it can go on from there" in stop
    done = []
    recipe = small("baseline", lr=0.005)
    train(recipe, folder / "stopped", progress=lambda now: done.append(now.update), **OPTIONS)
    assert 1 < done[0] <= 6 and done[-1] == 6
    train(recipe, tmp_path, **OPTIONS)
    assert losses(folder / "stopped") == pytest.approx(losses(tmp_path), rel=2 * TOLERANCE)


def test_the_parts_of_a_batch_are_all_of_it():
    for n, world in ((8, 2), (7, 2), (7, 3), (3, 3)):
        ends = [part(n, Ranks(rank, world)) for rank in range(world)]
        assert [row for start, stop in ends for row in range(start, stop)] == list(range(n))
        assert max(b - a for a, b in ends) - min(b - a for a, b in ends) <= 1


def test_more_processes_than_images_in_a_batch_are_refused():
    from explorer.training.cost import _random_images
    from explorer.training.trainer import Trainer

    recipe = small("baseline", batch=8)
    with pytest.raises(InvalidValue, match="the smallest batch has 8, and there are 9 processes"):
        Trainer(recipe, _random_images(recipe, torch.device("cpu")), torch.device("cpu"), False, Ranks(0, 9))


def in_parts(work, n=7, at=3):
    """What two processes would do with the first `at` and the other images, put together."""
    halves = []
    for start, stop in ((0, at), (at, n)):
        rng = seeded(5)
        with batch_shard(start, stop, n):
            halves.append(work(slice(start, stop), rng))
        after = rng.get_state()
    return halves, after


def test_every_image_gets_its_draws_however_many_processes_share_the_batch():
    n, x = 7, torch.rand(7, 3, 6, 6, generator=seeded(0))
    pixels = Augmented((x * 255).to(torch.uint8))
    recipe = small("smoothed-0.25")
    works = {
        "augmentation": lambda rows, rng: pixels.batch(torch.arange(n)[rows], rng),
        "linf": lambda rows, rng: Ball("linf", 0.1).sample(x[rows], rng),
        "l2": lambda rows, rng: Ball("l2", 0.5).sample(x[rows], rng),
        "noise": lambda rows, rng: recipe.noisy(x[rows], rng),
    }
    for name, work in works.items():
        rng = seeded(5)
        whole = work(slice(0, n), rng)
        halves, after = in_parts(work)
        assert torch.equal(torch.cat(halves), whole), name
        assert torch.equal(rng.get_state(), after), name


def test_copies_and_layers_get_theirs_too():
    n, x = 7, torch.rand(7, 4, 6, 6, generator=seeded(0)).contiguous(memory_format=torch.channels_last)
    recipe = small("smoothed-0.25")
    whole = recipe.noisy(x.repeat(2, 1, 1, 1), seeded(5)).unflatten(0, (2, n))
    halves, _ = in_parts(lambda rows, rng: recipe.noisy(x[rows].repeat(2, 1, 1, 1), rng).unflatten(0, (2, -1)))
    assert torch.equal(torch.cat(halves, dim=1), whole)
    for units in (2, 4):
        layer = WinnerTakesAll(units).train()

        def passed(rows, rng, layer=layer):
            with use_generator(rng):
                return layer(x[rows])

        halves, _ = in_parts(passed)
        torch.testing.assert_close(torch.cat(halves), passed(slice(0, n), seeded(5)), rtol=1e-5, atol=1e-6)


def test_shared_batch_norm_is_batch_norm():
    x = torch.randn(6, 3, 4, 4, generator=seeded(0)) * 3 + 5
    known, mine = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
    with torch.no_grad():
        for net in (known, mine):
            net[0].weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
            net[0].running_mean.fill_(0.5)
    before = [mine[0].weight, mine[0].running_mean]
    share_statistics(mine, ALONE)
    assert type(mine[0]) is SharedBatchNorm and mine[0].weight is before[0] and mine[0].running_mean is before[1]
    results = []
    for net in (known, mine):
        leaf = x.clone().requires_grad_(True)
        out = net(leaf)
        out.square().mul(torch.linspace(0, 1, 6).view(-1, 1, 1, 1)).sum().backward()
        results.append([out, leaf.grad, net[0].weight.grad, net[0].bias.grad, net[0].running_mean, net[0].running_var])
        assert int(net[0].num_batches_tracked) == 1
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(known.eval()(x), mine.eval()(x), rtol=1e-4, atol=1e-4)
    assert known.state_dict().keys() == mine.state_dict().keys()
