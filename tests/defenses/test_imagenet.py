"""Adversarial training from ImageNet weights: where they come from, and what happens where they cannot be had."""

import io
import urllib.error

import pytest
import torch
from safetensors.torch import save

from explorer.core import BadCheckpoint, DataUnavailable, InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.models import ARCHITECTURES, imagenet
from explorer.training.state import build
from tests.defenses.test_adversarial import MARGIN, Linear, W, X, Y, cross_entropy, loss_of, plain

CPU = torch.device("cpu")
RECIPE = RECIPES["pgd-linf-imagenet"]
PLACE = ((0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Where the weights are looked for; nothing can be fetched."""

    def unreachable(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setenv("EXPLORER_DATA", str(tmp_path))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    file = tmp_path / imagenet.FILE
    file.parent.mkdir()
    return file


def published(width=64):
    """Weights as ImageNet's are: the last layer is called fc, and has a thousand classes."""
    model = ARCHITECTURES["resnet18"](*PLACE, width=width)
    tensors = {
        key: torch.randn(t.shape, generator=seeded(1)) for key, t in model.state_dict().items() if t.is_floating_point()
    }
    tensors = {
        key: t.abs() if key.endswith("running_var") else t for key, t in tensors.items() if key not in ("mean", "std")
    }
    del tensors["head.weight"], tensors["head.bias"]
    return tensors | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def test_the_network_is_torchvision_s_but_for_the_stem():
    torchvision = pytest.importorskip("torchvision")
    theirs, ours = torchvision.models.resnet18(num_classes=10).eval(), ARCHITECTURES["resnet18"](*PLACE).eval()
    theirs.conv1.stride, theirs.maxpool = (1, 1), torch.nn.Identity()
    weights = {key.replace("fc.", "head."): value for key, value in theirs.state_dict().items()}
    assert set(ours.state_dict()) - set(weights) == {"mean", "std"} and set(weights) <= set(ours.state_dict())
    ours.load_state_dict(weights, strict=False)
    x = torch.rand(2, 3, 32, 32, generator=seeded(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs((x - 0.5) / 0.25), rtol=1e-4, atol=1e-4)


def test_a_run_begins_with_the_weights_but_for_the_last_layer(kept):
    kept.write_bytes(save(published()))
    model, random = build(RECIPE(), CPU), build(RECIPE(pretrained=False), CPU)
    own, weights = model.state_dict(), published()
    assert all(torch.equal(own[key], weights[key]) for key in weights if not key.startswith("fc."))
    assert torch.equal(model.head.weight, random.head.weight) and not torch.equal(
        model.conv1.weight, random.conv1.weight
    )


def test_without_the_weights_one_sentence_says_so(kept):
    with pytest.raises(
        DataUnavailable, match=r"could not be downloaded from https://.*no route to host.*pretrained=false"
    ) as told:
        build(RECIPE(), CPU)
    assert "\n" not in str(told.value) and str(kept) in str(told.value)


@pytest.mark.parametrize("data", [b"not a safetensors file", save({"other": torch.zeros(2)})])
def test_a_damaged_file_is_named(kept, data):
    kept.write_bytes(data)
    with pytest.raises(DataUnavailable, match="is damaged; delete it to have it fetched anew"):
        build(RECIPE(), CPU)


def test_weights_of_another_network_are_refused(kept):
    kept.write_bytes(save(published(width=8)))
    with pytest.raises(BadCheckpoint, match="do not fit resnet18"):
        build(RECIPE(), CPU)
    with pytest.raises(InvalidValue, match="width must be 64 for ImageNet weights"):
        RECIPE(width=8)


def test_what_is_fetched_is_kept(kept, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda url, timeout: fetched.append(url) or io.BytesIO(save(published()))
    )
    first, again = imagenet.imagenet_weights(), imagenet.imagenet_weights()
    assert fetched == [imagenet.URL] and kept.is_file() and first.keys() == again.keys()


def test_an_estimate_of_the_cost_fetches_nothing(kept):
    recipe = RECIPE().from_scratch()
    assert recipe.initial() == {} and recipe.epochs == RECIPE().epochs


def test_the_loss_is_that_of_the_attacked_images():
    recipe = plain("pgd-linf-imagenet", eps=0.05, inner_steps=7, finish_steps=7)
    assert loss_of(recipe, Linear(W), X, Y) == pytest.approx(cross_entropy(MARGIN - 0.05 * sum(map(abs, W))), rel=1e-4)
