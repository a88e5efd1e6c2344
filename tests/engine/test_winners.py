"""Which unit of each block won: by the layer's own output, the same under the same draw, and what an attack changes of it."""

import numpy as np
import pytest
import torch

from explorer.core import InvalidValue
from explorer.engine import AttackRequest
from explorer.engine.tracing import picture
from explorer.engine.winners import DRAWS, look, winners_work
from explorer.models import zoo
from explorer.models._lwta import WinnerTakesAll
from explorer.plots.winners import PALE, changed, maps

NAME = "cifar10/tiny-lwta"


def test_the_winner_is_the_unit_that_passes_its_value_on(engine):
    model, x = zoo.load(NAME), torch.rand(1, 3, 32, 32)
    seen = []
    layers = [m for m in model.modules() if isinstance(m, WinnerTakesAll)]
    hook = layers[3].register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
    winners, _ = look(model, x, 5)
    hook.remove()
    assert len(winners) == len(layers) and not layers[0]._forward_hooks
    (given, out) = seen[0]
    first, second = given[0].chunk(2)
    kept, other = out[0].chunk(2)
    won = winners[3].bool()
    assert torch.equal(kept[~won], first[~won]) and torch.equal(other[won], second[won])
    assert not kept[won].any() and not other[~won].any() and won.any() and (~won).any()
    assert all(torch.equal(a, b) for a, b in zip(winners, look(model, x, 5)[0], strict=True))


def test_an_attack_that_changes_nothing_changes_no_winner_and_chance_does(engine):
    request = AttackRequest("cifar10", 17, NAME).checked()
    x0 = picture(engine, request)[0]
    *_, still = winners_work(engine, request, x0.numpy())()
    *_, moved = winners_work(engine, request, (1 - x0).numpy())()
    assert all(one.by_attack == 0 and 0.05 < one.by_chance < 0.95 for one in still.layers)
    assert all(one.by_attack > 0 for one in moved.layers)
    assert [one.by_chance for one in still.layers] == [one.by_chance for one in moved.layers]
    first = moved.layers[0]
    assert first.shown.shape == (3, 2, 32, 32) and first.units == 2 and DRAWS == 16
    assert (first.shown[0] == still.layers[0].shown[0]).all() and (first.shown[2] != first.shown[0]).any()


def test_a_network_without_such_units_is_refused(engine):
    request = AttackRequest("cifar10", 17, "cifar10/tiny").checked()
    with pytest.raises(InvalidValue, match="no units of cifar10/tiny compete"):
        winners_work(engine, request, picture(engine, request)[0].numpy())


def test_the_maps_show_each_block_and_fade_what_has_not_changed():
    winners = np.zeros((3, 8, 8), np.uint8)
    winners[1] = 1
    sheet = maps(winners)
    assert sheet.shape == (3, 17, 17) and sheet.dtype == np.float32
    assert not np.allclose(sheet[:, 0, 0], sheet[:, 0, 9]) and np.allclose(sheet[:, 0, 0], sheet[:, 9, 0])
    before = winners.copy()
    before[0] = 1
    faded = maps(winners, before)
    assert np.allclose(faded[:, 0, 0], sheet[:, 0, 0])  # it has changed
    assert np.allclose(faded[:, 9, 0], PALE + (1 - PALE) * sheet[:, 9, 0], atol=1e-6)
    figure = changed([0.1, 0.2], [0.3, 0.4])
    assert [list(bar.y) for bar in figure.data] == [[0.1, 0.2], [0.3, 0.4]]
