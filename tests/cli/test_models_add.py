"""A model from elsewhere comes in through the same door as ours, or is refused in one sentence that names the reason."""

import json
import shutil
import sys
import textwrap

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from explorer.core import BadCheckpoint
from explorer.models import external, zoo
from explorer.models.external import ExternalClassifier

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, random=False):
        super().__init__()
        self.conv, self.fc, self.random = nn.Conv2d(3, 4, 5, 4), nn.Linear(4, classes), random
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        seen = torch.relu(self.conv(x)).mean((2, 3))
        return self.fc(nn.functional.dropout(seen, 0.5, True) if self.random else seen)

class Blind(Net):
    def forward(self, x):
        return super().forward(x.detach())

def make(num_classes):
    return Net(num_classes)

def random(num_classes):
    return Net(num_classes, random=True)

def blind():
    return Blind(10)

def seven():
    return Net(7)

def nothing():
    return "no network"
"""
NORMAL = ("--mean", "0.5", "--std", "0.25,0.25,0.2")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with somebody's module, the working folder of the command; runs and cache of its own."""
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    home = tmp_path / "home"
    home.mkdir()
    (home / "their_nets.py").write_text(textwrap.dedent(FACTORY), "utf-8")
    monkeypatch.chdir(home)
    sys.modules.pop("their_nets", None)
    yield home
    sys.modules.pop("their_nets", None)


def weights_of(net, place, name="w.safetensors"):
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, place / name)
    return name


def theirs(place, classes=10, **changes):
    """A weights file that fits the factory."""
    torch.manual_seed(3)
    net = nn.Module()
    net.conv, net.fc, net.unused = nn.Conv2d(3, 4, 5, 4), nn.Linear(4, classes), nn.Linear(2, 2)
    for name, value in changes.items():
        with torch.no_grad():
            net.get_submodule(name).weight.fill_(value)
    return weights_of(net, place)


def add(
    cli,
    *words,
    name="cifar10/mine",
    architecture="their_nets:make",
    weights="w.safetensors",
    classes="10",
    normal=NORMAL,
):
    about = ("--architecture", architecture, "--weights", weights, "--classes", classes)
    return cli("models", "add", name, *about, *normal, *words)


def test_a_users_factory_becomes_a_model_of_the_zoo(cli, place):
    theirs(place)
    said = add(cli, "--title", "Mine")
    assert said.code == 0, said.err
    card = zoo.card("cifar10/mine")
    assert (card.title, card.architecture, card.arguments) == ("Mine", "their_nets:make", {"last": "fc", "size": 0})
    assert "--architecture their_nets:make" in card.command and "--mean 0.5" in card.command
    assert card.name in cli("models").out and cli("models", card.name).code == 0
    model, x = zoo.load(card.name), torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net = sys.modules["their_nets"].make(10)
    net.load_state_dict(
        {key.removeprefix("net."): value for key, value in model.state_dict().items() if key.startswith("net.")}
    )
    normalised = (x - 0.5) / torch.tensor([0.25, 0.25, 0.2]).view(1, 3, 1, 1)
    logits, features = model.both(x)
    torch.testing.assert_close(logits, net(normalised).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features, torch.relu(net.conv(normalised)).mean((2, 3)).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.head(model.features(x)), model(x), rtol=1e-4, atol=1e-5)
    measured = cli("evaluate", card.name, "--attack", "pgd", "--set", "steps=2", "--n", "10", "--write")
    assert measured.code == 0 and zoo.card(card.name).measures[0]["n"] == 10


def test_a_card_that_was_dropped_into_a_folder_imports_nothing(cli, place, tmp_path, monkeypatch):
    theirs(place)
    assert add(cli).code == 0
    other = tmp_path / "dropped"
    shutil.copytree(tmp_path / "runs" / "zoo", other)
    shutil.rmtree(tmp_path / "runs" / "zoo")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(other))
    assert zoo.load("cifar10/mine")  # the very model that was added here
    for change in ({"architecture": "their_nets:blind"}, {"architecture": "json:loads"}):
        card = json.loads((other / "cifar10" / "mine.json").read_text("utf-8"))
        (other / "cifar10" / "mine.json").write_text(json.dumps(card | change), "utf-8")
        with pytest.raises(BadCheckpoint, match="not added on this computer"):
            zoo.load("cifar10/mine")
    (other / "cifar10" / "mine.json").write_text(json.dumps(card | {"architecture": "their_nets:make"}), "utf-8")
    del sys.modules["their_nets"]
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "another computer"))
    with pytest.raises(BadCheckpoint, match="none of it was run"):
        zoo.load("cifar10/mine")
    assert "their_nets" not in sys.modules
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(place)])
    assert isinstance(zoo.load("cifar10/mine"), ExternalClassifier)  # found in the folder that it was added from


@pytest.mark.parametrize("name, last", [("shufflenet_v2_x0_5", "fc"), ("squeezenet1_1", "classifier.1")])
def test_torchvision_s_classifiers(cli, place, name, last):
    from torchvision import models

    torch.manual_seed(0)
    weights_of(models.get_model(name, weights=None, num_classes=10), place)
    said = add(cli, architecture=f"torchvision:{name}", normal=("--range=-1,1",))
    assert said.code == 0, said.err
    model = zoo.load("cifar10/mine")
    assert zoo.card("cifar10/mine").arguments["last"] == last
    assert model.mean.flatten().tolist() == [0.5] * 3 and model.std.flatten().tolist() == [0.5] * 3
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    logits, features = model.both(x)
    assert logits.shape == (2, 10) and features.ndim == 2 and not (external.cache_folder() / "factories.json").exists()
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert bool(gradient.isfinite().all())


def test_images_are_enlarged_for_nets_that_want_it(cli, place):
    theirs(place)
    assert add(cli, "--size", "40").code == 0
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        small, large = zoo.load("cifar10/mine"), torch.nn.functional.interpolate(x, (40, 40), mode="bilinear")
        wanted = small.net((large - small.mean) / small.std)
    torch.testing.assert_close(small(x), wanted, rtol=1e-3, atol=1e-4)


REFUSED = {
    "another number of classes": ({"classes": "7"}, "classes must be 10"),
    "no such library": ({"architecture": "tensorflow"}, "architecture must be"),
    "no such classifier": ({"architecture": "torchvision:resnet19"}, "no classifier 'resnet19'"),
    "no such module": ({"architecture": "not_there:make"}, "ModuleNotFoundError"),
    "no network": ({"architecture": "their_nets:nothing"}, "must return a torch.nn.Module"),
    "random at test time": ({"architecture": "their_nets:random"}, "two passes over the same images differ"),
    "no gradient": ({"architecture": "their_nets:blind"}, "no gradient reaches the pixels"),
    "no such file": ({"weights": "none.safetensors"}, "is not there"),
    "nothing about the input": ({"normal": ()}, "needs --mean and --std, or --range"),
    "too many means": ({"normal": ("--mean", "0,0", "--std", "1")}, "one number, or 3"),
    "no spread": ({"normal": ("--mean", "0", "--std", "0")}, "std must be above 0"),
    "not a number": ({"normal": ("--mean", "half", "--std", "1")}, "mean must be numbers"),
    "a name that would leave the folder": ({"name": "cifar10/../mine"}, "name must be"),
    "another data set": ({"name": "imagenet/mine"}, "Unknown dataset"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(cli, place, what):
    theirs(place)
    changes, reason = REFUSED[what]
    refused(add(cli, **changes), reason)


def refused(said, reason):
    assert said.code == 2 and reason in said.err and said.err.count("\n") == 1, said.err
    assert not list((external.cache_folder().parent / "runs").glob("zoo/*/*"))


def test_weights_that_do_not_fit_or_are_not_finite_are_refused_by_name(cli, place):
    theirs(place, conv=float("nan"))
    refused(add(cli), "not finite, in conv.weight")
    theirs(place, classes=7)
    refused(add(cli), "has shape (7")
    theirs(place, classes=7)
    refused(add(cli, architecture="their_nets:seven"), "logits of shape (2, 10)")
    save_file({"conv.weight": torch.zeros(4, 3, 5, 5)}, place / "w.safetensors")
    refused(add(cli), "missing ['conv.bias', 'fc.bias', 'fc.weight']")
    (place / "w.safetensors").write_bytes(b"not weights at all")
    refused(add(cli), "not a readable safetensors file")


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
def test_pickles_are_not_opened_whatever_they_are_called(cli, place, name):
    torch.save({"conv.weight": torch.zeros(1)}, place / name)
    refused(add(cli, weights=name), "is a pickle")


def test_timm_is_asked_for_where_it_is_missing(cli, place, monkeypatch):
    theirs(place)
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    refused(add(cli, architecture="timm:resnet18"), "timm is not installed")


def test_a_name_is_not_given_twice_and_options_belong_to_add(cli, place):
    theirs(place)
    assert add(cli).code == 0
    again = add(cli)
    assert again.code == 2 and "is there already" in again.err
    assert "belongs to `models add NAME`" in cli("models", "--classes", "10").err
    assert "needs --architecture" in cli("models", "add", "cifar10/x", "--weights", "w", "--classes", "10").err
    assert "needs one name" in cli("models", "add").err
