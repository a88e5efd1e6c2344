"""Submissions of one name come in by --course or --zip, are refused once they change, and leave with `models remove`."""

import zipfile

import pytest
import torch
from torch import nn

from explorer.core import BadCheckpoint
from explorer.models import confined, zoo
from tests.confining import confining

MODEL = """
import os, sys, torch
from torch import nn
from torch.nn import functional as F
from utils import bend
print("x" * 10000)
assert sys.argv[1:] == []

class Net(nn.Module):
    model_file = "models/default_model.pth"

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3072, 10)

    def forward(self, x):
        return F.log_softmax(bend(self.fc(x.flatten(1))), dim=1)
"""
LOADS = """
    def load_for_testing(self, project_dir="./"):
        self.load_state_dict(torch.load(os.path.join(project_dir, Net.model_file), map_location="cpu"))
"""
pytestmark = confining


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    confined.pool.end()


def group(place, name, scale, loads=True, nested=False):
    folder = place / name
    (folder / "models").mkdir(parents=True)
    (folder / "model.py").write_text(MODEL + (LOADS if loads else ""))
    (folder / "utils.py").write_text(f"def bend(x):\n    return {scale} * x\n")
    torch.manual_seed(0)
    state = nn.Linear(3072, 10).state_dict()
    state = {f"fc.{k}": v for k, v in state.items()}
    torch.save({"state_dict": state} if nested else state, folder / "models" / "default_model.pth")
    return state


def test_two_submissions_of_one_module_name_come_in_and_changed_code_is_refused(cli, place):
    state = group(place / "class", "A group", 1)
    group(place / "class", "B", -2, loads=False, nested=True)
    (place / "class" / "C").mkdir()
    (place / "class" / "C" / "model.py").write_text("import sys\nsys.exit(3)\n")
    with zipfile.ZipFile(place / "class.zip", "w") as archive:
        for file in sorted((place / "class").rglob("*")):
            archive.write(file, file.relative_to(place))
    said = cli("models", "add", "cifar10", "--zip", place / "class.zip")
    assert said.code == 0, said.err
    assert "Its weights: load_for_testing." in said.out
    assert "Its weights: models/default_model.pth; unpacked 'state_dict'." in said.out
    assert "Refused cifar10/c: model.py: it ends the program (SystemExit)" in said.out
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    line = x.flatten(1) @ state["fc.weight"].T + state["fc.bias"]
    for name, scale in (("cifar10/b", -2), ("cifar10/a-group", 1), ("cifar10/b", -2)):
        torch.testing.assert_close(zoo.load(name)(x), torch.log_softmax(scale * line, 1), rtol=1e-4, atol=1e-5)
    card = zoo.card("cifar10/b")
    (place / "file").write_text("")
    folder = confined.Submission("", card.training["folder"], (), 0).folder
    with open(f"{folder}/utils.py", "a") as file:
        file.write("# changed\n")
    with pytest.raises(BadCheckpoint, match="changed since it was added"):
        zoo.load("cifar10/b")
    assert "--accept" in cli("models", "check", "cifar10/b").err
    assert cli("models", "remove", "cifar10/b").code == 0 and cli("models", "remove", "cifar10/a-group").code == 0
    assert not list((place / "runs" / "zoo").rglob("*.*")) and not list(
        (place / "runs" / "submissions").rglob("model.py")
    )


WRONG = {
    "no folder": (("--course", "none"), "holds no model.py"),
    "no zip": (("--zip", "none.zip"), "none.zip is not there"),
    "two doors": (("--course", "a", "--zip", "b.zip"), "stands alone"),
    "weights besides": (("--course", "a", "--weights", "w"), "stands alone"),
    "a range besides": (("--course", "a", "--range", "0,1"), "stands alone"),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_input_is_one_sentence_and_leaves_nothing(cli, place, monkeypatch, what):
    monkeypatch.chdir(place)
    words, reason = WRONG[what]
    said = cli("models", "add", "cifar10/x", *words)
    assert said.code == 2 and reason in said.err and said.err.count("\n") == 1, said.err
    assert not (place / "runs").exists()


def test_a_link_that_leads_out_of_the_folder_is_refused(cli, place):
    group(place, "a", 1)
    (place / "a" / "other.py").symlink_to("/etc/passwd")
    said = cli("models", "add", "cifar10/x", "--course", place / "a")
    assert said.code == 2 and "a link that leads out of it" in said.err
