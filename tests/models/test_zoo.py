"""A model is believed only if its card and its weights say the same; anything else is refused in one sentence."""

import json
import os
import pickle
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from explorer.core import BadCheckpoint, ExplorerError, UnknownName
from explorer.defenses import RECIPES
from explorer.models import ARCHITECTURES, zoo
from explorer.training import Result
from explorer.training.export import export
from explorer.training.state import build


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A zoo of an untrained model, `cifar10/tiny`."""
    recipe, folder = RECIPES["baseline"](epochs=1, width=4), tmp_path_factory.mktemp("zoo")
    model = build(recipe, torch.device("cpu")).freeze()
    export(Result(model, 1, [], 1.0, 8, "none", 8), recipe, "baseline", "cifar10/tiny", folder / "cifar10")
    return folder


@pytest.fixture
def tiny(made, tmp_path, monkeypatch) -> Path:
    """Its card, in a zoo of one's own."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    return tmp_path / "cifar10" / "tiny.json"


def rewrite(card: Path, **changes) -> None:
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


def replace_weights(card: Path, data: bytes) -> None:
    """Weights with a checksum that fits them: an attacker, or a wrong export, would see to that."""
    import hashlib

    card.with_suffix(".safetensors").write_bytes(data)
    rewrite(card, sha256=hashlib.sha256(data).hexdigest())


def tensors(card: Path) -> dict[str, torch.Tensor]:
    return load(card.with_suffix(".safetensors").read_bytes())


def refused(word: str) -> None:
    with pytest.raises(ExplorerError, match=word) as caught:
        zoo.load("cifar10/tiny")
    assert isinstance(caught.value, BadCheckpoint | UnknownName)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_an_unknown_name_gets_a_near_one(tiny):
    with pytest.raises(UnknownName, match="Did you mean 'cifar10/tiny'"):
        zoo.load("cifar10/tini")


@pytest.mark.parametrize("name", ["../secret", "cifar10/../../etc/passwd", "/etc/passwd", "cifar10/tiny\0", "", "tiny"])
def test_names_never_leave_the_folders(tiny, name):
    with pytest.raises(UnknownName):
        zoo.load(name)


def test_missing_weights(tiny):
    tiny.with_suffix(".safetensors").unlink()
    refused("missing")


@pytest.mark.parametrize("keep", [0, 7, 100, 1000, -1])
def test_truncated_weights(tiny, keep):
    file = tiny.with_suffix(".safetensors")
    file.write_bytes(file.read_bytes()[:keep])
    refused("checksum")


def test_a_flipped_bit(tiny):
    file = tiny.with_suffix(".safetensors")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    refused("checksum")


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights_whose_checksum_fits(tiny, keep):
    replace_weights(tiny, tiny.with_suffix(".safetensors").read_bytes()[:keep])
    refused("not a readable safetensors file")


class Canary:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_never_loaded(tiny, tmp_path):
    replace_weights(tiny, pickle.dumps(Canary(tmp_path / "ran")))
    refused("not a readable safetensors file")
    assert not (tmp_path / "ran").exists()


def test_a_wrong_shape(tiny):
    replace_weights(tiny, save(tensors(tiny) | {"head.weight": torch.zeros(10, 7)}))
    refused("head.weight has shape")


def test_a_missing_and_an_unexpected_tensor(tiny):
    changed = tensors(tiny) | {"surprise": torch.zeros(1)}
    changed.pop("head.bias")
    replace_weights(tiny, save(changed))
    refused("missing .'head.bias'.*unexpected .'surprise'")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tiny, value):
    changed = tensors(tiny)
    changed["stem.weight"].view(-1)[3] = value
    replace_weights(tiny, save(changed))
    refused("not finite")


def test_another_architecture(tiny):
    rewrite(tiny, arguments={"width": 8})
    refused("do not fit")
    rewrite(tiny, arguments={"breadth": 8})
    refused("does not take")
    rewrite(tiny, architecture="perceptron")
    refused("perceptron")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"name": "cifar10/tiny"}', "\x00\xff"])
def test_a_damaged_card(tiny, text):
    tiny.write_text(text, encoding="latin-1")
    refused("cannot be read")
    assert "cifar10/tiny" not in [card.name for card in zoo.cards()]  # the others are still there


@pytest.mark.parametrize("file", ["../other.safetensors", "/etc/passwd", ".hidden"])
def test_a_card_cannot_name_a_file_elsewhere(tiny, file):
    rewrite(tiny, file=file)
    refused("names another model or file")


def test_a_card_under_another_name(tiny):
    rewrite(tiny, name="cifar10/baseline")
    refused("names another model or file")


def test_a_card_keeps_everything_it_was_given(tiny):
    card = zoo.card("cifar10/tiny")
    zoo.write_card(tiny.parent, card)
    assert asdict(zoo.card("cifar10/tiny")) == asdict(card)


# Cards are read once


@pytest.fixture
def settled(tiny):
    """As if nothing in the zoo had changed for a minute; returns the card's path."""

    def settle():
        for path in (tiny.parent.parent, tiny.parent, *tiny.parent.iterdir()):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 60 * 10**9))
        return tiny

    return settle


@pytest.fixture
def files_read(monkeypatch):
    """Names of the files and folders that are read from now on."""
    names = []
    for method in ("read_text", "read_bytes", "open", "iterdir", "glob"):
        real = getattr(Path, method)
        monkeypatch.setattr(
            Path, method, lambda self, *a, real=real, **k: names.append(self.name) or real(self, *a, **k)
        )
    return names


def test_an_unchanged_zoo_is_read_once(settled, files_read):
    settled()
    first = zoo.cards()
    assert "tiny.json" in files_read
    files_read.clear()
    assert zoo.cards() == first and zoo.card("cifar10/tiny") in first and files_read == []


def test_a_changed_card_is_read_again_and_no_other(settled, files_read):
    card = settled()
    shutil.copy(card, card.with_name("twin.json"))
    rewrite(card.with_name("twin.json"), name="cifar10/twin", title="a")
    settled()
    zoo.cards()
    rewrite(card.with_name("twin.json"), title="b")  # as long as before
    files_read.clear()
    assert zoo.card("cifar10/twin").title == "b" and {*files_read} == {"twin.json"}
    rewrite(card.with_name("twin.json"), title="c")  # at once: too soon for its time to differ for sure
    assert zoo.card("cifar10/twin").title == "c"


def test_models_that_come_and_go_are_noticed(settled):
    card = settled()
    before = [card.name for card in zoo.cards()]
    shutil.copytree(card.parent, card.parent.parent / "fashion_mnist")
    rewrite(card.parent.parent / "fashion_mnist" / "tiny.json", name="fashion_mnist/tiny")
    assert sorted([*before, "fashion_mnist/tiny"]) == [card.name for card in zoo.cards()]
    settled()
    zoo.cards()
    card.unlink()
    assert "cifar10/tiny" not in [card.name for card in zoo.cards()]
    with pytest.raises(UnknownName):
        zoo.card("cifar10/tiny")


@pytest.mark.parametrize("card", zoo.cards(), ids=lambda card: card.name)
def test_every_model_of_the_zoo_loads_and_classifies(card):
    model = zoo.load(card.name)
    x = torch.rand(2, *model.input_shape, generator=torch.Generator().manual_seed(0))
    logits, features = model.both(x)
    assert logits.shape == (2, model.num_classes) and features.ndim == 2
    assert model.stochastic == card.stochastic and card.architecture in ARCHITECTURES
    assert sum(p.numel() for p in model.parameters()) == card.parameters
    assert card.bytes < 16 * 2**20
