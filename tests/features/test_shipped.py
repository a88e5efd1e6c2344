"""Reference features that come with a model are taken for these very weights, and for no others."""

import pytest
import torch

from explorer.features.reference import Gathering, fits, reference, save_features
from explorer.models.preact_resnet import PreActResNet18

KEY = "a" * 64


@pytest.fixture
def model():
    torch.random.default_generator.manual_seed(0)
    return PreActResNet18((0.5,) * 3, (0.25,) * 3, width=4).freeze()


class Untouchable(torch.nn.Module):
    """A model that must not be asked."""

    stochastic = False
    device = torch.device("cpu")

    def features(self, pixels):
        raise AssertionError("the stored features were not used")


def test_shipped_features_are_used_and_are_the_model_s_own(model, tmp_path):
    file = tmp_path / "model.features.safetensors"
    computed = reference(model, "cifar10", n=60)
    save_features(computed, KEY, file)
    found = Gathering(Untouchable(), "cifar10", n=60, key=KEY, shipped=file).advance()
    torch.testing.assert_close(found.features, computed.features, rtol=1e-3, atol=1e-3)
    assert fits(file, computed, KEY) and not fits(file, reference(model, "cifar10", n=50), KEY)


@pytest.mark.parametrize("damage", ["other weights", "truncated", "missing"])
def test_features_of_other_weights_or_damaged_ones_are_computed_anew(model, tmp_path, damage):
    file = tmp_path / "model.features.safetensors"
    save_features(reference(model, "cifar10", n=20), "b" * 64 if damage == "other weights" else KEY, file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-10])
    if damage == "missing":
        file.unlink()
    with pytest.raises(AssertionError, match="not used"):
        Gathering(Untouchable(), "cifar10", n=20, key=KEY, shipped=file).advance()


def test_loading_draws_nothing_from_the_global_generator():
    from explorer.models import zoo

    before = torch.random.get_rng_state()
    zoo.load(zoo.cards()[0].name)
    assert torch.equal(before, torch.random.get_rng_state())
