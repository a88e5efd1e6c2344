"""EfficientNet-Lite0 on small pictures: which halvings are left out, and that ImageNet's weights are where it begins."""

import pytest
import torch

from explorer.core import InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.models import ARCHITECTURES, zoo
from explorer.training.state import build

CPU = torch.device("cpu")
PLACE = ((0.5,) * 3, (0.25,) * 3, (3, 32, 32), 10)


@pytest.mark.parametrize(("unstrided", "places"), [(0, 1), (1, 2), (2, 4), (5, 32)])
def test_the_first_halvings_are_left_out(unstrided, places):
    net = ARCHITECTURES["efficientnet-lite0"](*PLACE, unstrided=unstrided).eval()
    with torch.no_grad():
        out = net.blocks(net.stem(torch.rand(1, 3, 32, 32, generator=seeded(0))))
    assert out.shape == (1, 320, places, places)


def test_a_number_of_halvings_that_are_not_there_is_refused():
    with pytest.raises(InvalidValue, match="unstrided must be between 0 and 5"):
        ARCHITECTURES["efficientnet-lite0"](*PLACE, unstrided=6)


def test_the_one_begins_with_imagenet_s_weights_and_its_twin_does_not():
    known = zoo.load("photos/efficientnet-lite0").state_dict()
    mine, twin = (build(RECIPES[key](), CPU) for key in ("lite0-imagenet", "lite0-scratch"))
    own, other = mine.state_dict(), twin.state_dict()
    shared = [key for key in own if not key.startswith(("head.", "mean", "std"))]
    assert len(shared) > 200 and all(torch.equal(own[key], known[key]) for key in shared)
    assert torch.equal(own["head.weight"], other["head.weight"]) and torch.equal(own["mean"], other["mean"])
    assert not torch.equal(own["stem.0.weight"], other["stem.0.weight"])
    assert RECIPES["lite0-imagenet"]().to_dict() == RECIPES["lite0-scratch"]().to_dict()
