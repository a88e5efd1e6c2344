"""RobustBench's networks by name: a package of its interface stands in for it, since it is not installed where tests run."""

import sys
from enum import Enum
from types import ModuleType

import pytest
import torch
from torch import nn

from explorer.models import robustbench, zoo
from tests.confining import confining

pytestmark = confining


class Data(Enum):
    cifar_10 = "cifar10"


class Threat(Enum):
    Linf = "Linf"
    L2 = "L2"


class Small(nn.Module):
    """Normalises inside, by buffers that its file lacks, as some of RobustBench's do."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("mu", torch.full((3, 1, 1), 0.5))
        self.conv, self.fc = nn.Conv2d(3, width, 3), nn.Linear(width, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x - self.mu)).mean((2, 3)))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """robustbench.model_zoo.model_dicts, laid out as the package has it."""
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    model_zoo = ModuleType("robustbench.model_zoo")
    model_zoo.model_dicts = {
        Data.cifar_10: {
            Threat.Linf: {
                "Rice2020Overfitting": {"model": lambda: Small(4), "gdrive_id": "a"},
                "Light-XCiT": {"model": lambda: pytest.fail("it would be downloaded"), "gdrive_id": None},
                "Deck": {"model": lambda: Small(4), "gdrive_id": ["a", "b"]},
            },
            Threat.L2: {"Rice2020Overfitting": {"model": lambda: Small(8), "gdrive_id": "b"}},
        }
    }
    monkeypatch.setitem(sys.modules, "robustbench", ModuleType("robustbench"))
    monkeypatch.setitem(sys.modules, "robustbench.model_zoo", model_zoo)
    return tmp_path


def kept(place, width, threat):
    """The checkpoint where RobustBench keeps it, in the form that it has there."""
    torch.manual_seed(width)
    net = Small(width)
    state = {f"module.{key}": value for key, value in net.state_dict().items() if key != "mu"}
    file = place / "models" / "cifar10" / threat / "Rice2020Overfitting.pt"
    file.parent.mkdir(parents=True)
    torch.save({"state_dict": state | {"module.conv1.scores": torch.zeros(2)}}, file)
    return net


@pytest.mark.parametrize(
    ("name", "width", "threat"), [("Rice2020Overfitting", 4, "Linf"), ("L2/Rice2020Overfitting", 8, "L2")]
)
def test_a_network_comes_in_by_its_name_alone(cli, package, name, width, threat):
    net = kept(package, width, threat)
    said = cli("models", "add", "cifar10/rice", "--architecture", f"robustbench:{name}")
    assert said.code == 0, said.err
    assert "kept the network's own mu" in said.out and "left out conv1.scores" in said.out
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(zoo.load("cifar10/rice")(x), net(x), rtol=1e-4, atol=1e-5)
    assert f"--weights models/cifar10/{threat}/Rice2020Overfitting.pt" in zoo.card("cifar10/rice").command
    assert cli("models", "remove", "cifar10/rice").code == 0


REFUSED = {
    "robustbench:Rice2020Overfitting": "models/cifar10/Linf/Rice2020Overfitting.pt is not there",
    "robustbench:Nobody2020": "RobustBench has no model 'Nobody2020' for cifar10",
    "robustbench:L1/Rice2020Overfitting": "must be one of Linf, L2, corruptions; got 'L1'",
}


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_is_not_there_is_one_sentence(cli, package, architecture):
    said = cli("models", "add", "cifar10/x", "--architecture", architecture)
    assert said.code == 2 and REFUSED[architecture] in said.err and said.err.count("\n") == 1, said.err
    assert not (package / "runs").exists()


@pytest.mark.parametrize("name", ["Light-XCiT", "Deck"])
def test_what_would_be_downloaded_or_has_several_files_is_not_built(package, name):
    with pytest.raises(ValueError, match="is not one network with one file"):
        robustbench.network(name, "cifar10")


def test_without_the_package_and_for_other_images_one_sentence(cli, package, monkeypatch):
    said = cli("models", "add", "fashion_mnist/x", "--architecture", "robustbench:Deck")
    assert said.code == 2 and "has no models for fashion_mnist" in said.err
    monkeypatch.setitem(sys.modules, "robustbench.model_zoo", None)
    said = cli("models", "add", "cifar10/x", "--architecture", "robustbench:Deck")
    assert said.code == 2 and "robustbench is not installed" in said.err and said.err.count("\n") == 1
