"""A model from elsewhere comes in through the same door as ours, or is refused in one sentence that names the reason."""

import json
import shutil
import sys
import textwrap

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from explorer.core import BadCheckpoint, seeded, use_generator
from explorer.evaluation.adding import read_weights
from explorer.models import own_code, zoo
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

class Changed(Net):
    def __init__(self, change):
        super().__init__(10)
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))

def together():
    return Changed(lambda logits: logits - logits.mean(0))

def squeezed():
    return Changed(lambda logits: logits.squeeze(0))

def rounded():
    return Changed(lambda logits: logits.round(decimals=3))

def softmax():
    return Changed(lambda logits: logits.softmax(1))

def leaves():
    import sys
    sys.exit(1)

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
    return home


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
    assert "their_nets" not in sys.modules  # nobody else gets this module by its name
    net = own_code.Code(place).module("their_nets").make(10)
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
    assert logits.shape == (2, 10) and features.ndim == 2 and not (own_code.cache_folder() / "factories.json").exists()
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
    "another company, another answer": ({"architecture": "their_nets:together"}, "depends on the other images"),
    "no batch of one": ({"architecture": "their_nets:squeezed"}, "logits of shape (1, 10)"),
    "no slope": ({"architecture": "their_nets:rounded"}, "exactly zero at every pixel of 16 of 16 images"),
    "probabilities": ({"architecture": "their_nets:softmax"}, "the answers sum to one"),
    "a program's end": ({"architecture": "their_nets:leaves"}, "ends the program"),
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
    assert not list((own_code.cache_folder().parent / "runs").glob("zoo/*/*"))


def test_weights_that_do_not_fit_or_are_not_finite_are_refused_by_name(cli, place):
    theirs(place, conv=float("nan"))
    refused(add(cli), "not finite, in conv.weight")
    theirs(place, classes=7)
    refused(add(cli), "has shape (7")
    theirs(place, classes=7)
    refused(add(cli, architecture="their_nets:seven"), "logits of shape (16, 10)")
    save_file({"conv.weight": torch.zeros(4, 3, 5, 5)}, place / "w.safetensors")
    refused(add(cli), "missing ['conv.bias', 'fc.bias', 'fc.weight']")
    (place / "w.safetensors").write_bytes(b"not weights at all")
    refused(add(cli), "not a readable safetensors file")


@pytest.mark.parametrize("bytes_of_header", [128, 64 + 128, 256 + 128, 512 + 128])
def test_safetensors_are_told_by_their_structure_not_by_their_first_byte(tmp_path, bytes_of_header):
    tensors = {"w": torch.arange(6.0)}
    for padding in range(400):  # 128 modulo 256 is the byte that a pickle begins with
        save_file(tensors, tmp_path / "w.pt", metadata={"note": "x" * padding})
        if int.from_bytes((tmp_path / "w.pt").read_bytes()[:8], "little") >= bytes_of_header:
            break
    assert torch.equal(read_weights(tmp_path / "w.pt")["w"], tensors["w"])


@pytest.mark.parametrize(
    "data, said",
    [
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"  <html><title>virus scan warning</title>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
        (b"\x80\x02}q\x00.", "is a pickle"),
        (b"", "is empty"),
        (b"\x80\x00\x00\x00\x00\x00\x00\x00{}", "is a pickle"),  # announces a header of 128 bytes and holds none
    ],
)
def test_the_sentence_says_what_a_file_really_is(tmp_path, data, said):
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(BadCheckpoint, match=said):
        read_weights(tmp_path / "w.pt")


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
    assert "--classes belongs to `models add`." in cli("models", "--classes", "10").err
    assert "needs --architecture" in cli("models", "add", "cifar10/x", "--weights", "w", "--classes", "10").err
    assert "models add needs NAME" in cli("models", "add").err


def test_a_random_network_is_welcome_and_repeats_under_its_seed(cli, place):
    theirs(place)
    said = add(cli, architecture="their_nets:random")
    assert said.code == 0 and "draws at random" in said.out, said.err
    assert zoo.card("cifar10/mine").stochastic
    model, x = zoo.load("cifar10/mine"), torch.rand(3, 3, 32, 32, generator=seeded(0))
    assert model.stochastic
    numbers = torch.random.get_rng_state()

    def answer(seed, x, shared=False):
        with use_generator(seeded(seed), shared):
            return model(x)

    assert torch.equal(answer(1, x), answer(1, x)) and not torch.equal(answer(1, x), answer(2, x))
    assert torch.allclose(answer(1, x, shared=True)[1:2], answer(1, x[1:2], shared=True))
    assert torch.equal(torch.random.get_rng_state(), numbers)


def test_the_accuracy_on_the_sample_and_a_better_range_are_told(cli, place):
    weights = zoo.load("cifar10/lenet")
    (place / "lenet_net.py").write_text(
        "from explorer.models.lenet import LeNet\n"
        "class Bare(LeNet):\n"
        "    def forward(self, x):\n"
        "        return self.head(self.embed(x))\n"
        "def make():\n"
        "    return Bare([0] * 3, [1] * 3, (3, 32, 32), 10)\n",
        "utf-8",
    )
    weights_of(weights, place)
    said = add(cli, architecture="lenet_net:make", normal=("--range=0,255",))
    assert said.code == 0 and "is the range right?" in said.out, said
    said = add(cli, architecture="lenet_net:make", name="cifar10/right", normal=("--range=-1,1",))
    assert said.code == 0 and "sample images right" in said.out and "range right?" not in said.out


def test_remove_takes_away_what_add_has_made_and_nothing_else(cli, place):
    theirs(place)
    assert add(cli).code == 0
    assert cli("models", "remove", "cifar10/lenet").code == 2
    said = cli("models", "remove", "cifar10/mine")
    assert said.code == 0 and "Removed cifar10/mine" in said.out
    assert not list((own_code.cache_folder().parent / "runs").glob("zoo/*/*"))
    assert own_code._entries() == []
    assert cli("models", "remove", "cifar10/mine").code == 2
    assert add(cli).code == 0


def test_changed_code_is_refused_until_it_is_looked_at_again(cli, place):
    theirs(place)
    assert add(cli).code == 0
    file = place / "their_nets.py"
    file.write_text(file.read_text("utf-8").replace("return self.fc(", "return -self.fc("), "utf-8")
    with pytest.raises(BadCheckpoint, match="its code has changed since it was added"):
        zoo.load("cifar10/mine")
    said = cli("models", "check", "cifar10/mine")
    assert said.code == 2 and "--accept" in said.err
    said = cli("models", "check", "cifar10/mine", "--accept")
    assert said.code == 0 and "sample images right" in said.out
    assert zoo.load("cifar10/mine") and cli("models", "check", "cifar10/mine").code == 0
