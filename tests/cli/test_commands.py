"""Every command explains itself, and refuses nonsense in one sentence with exit code 2, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.cli import COMMANDS
from explorer.core import Classifier

ROOT = Path(__file__).parents[2]
MODEL = ("--model", "cifar10/tiny")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, cli):
    said = cli(name, "--help")
    assert said.code == 0 and said.err == ""
    assert f"usage: python -m explorer {name}" in said.out
    assert "--json" in said.out and "--device" in said.out
    assert f"python -m explorer {name}" in said.out.partition("options:")[0].partition("\n\n")[2]  # an example


def test_the_overview_names_every_command(cli):
    for words in ((), ("--help",)):
        said = cli(*words)
        assert said.code == 0 and all(f"  {name} " in said.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["atack"], "Did you mean 'attack'?"),
        (["models", "--jsn", "x"], "Did you mean '--json'?"),
        (
            ["models", "--device", "gpu"],
            "Unknown device 'gpu'. Did you mean 'cpu'? Known: auto, cpu, cuda, cuda:1, mps.",
        ),
        (["models", "--json"], "expected one argument"),
        (["models", "cifar10/tinny"], "Did you mean 'cifar10/tiny'?"),
        (["models", "cifar10/tiny", "--json", "/dev/null/x.json"], "cannot be written"),
        (["data", "downlaod"], "Did you mean 'download'?"),
        (["data", "download"], "data download needs NAME: the name of a dataset, one of cifar10"),
        (["data", "download", "cifar11"], "Did you mean 'cifar10'?"),
        (["data", "list", "mnist"], "Unknown dataset 'mnist'."),
        (["attack"], "needs --model"),
        (["attack", "--model", "cifar10/tinny"], "Did you mean 'cifar10/tiny'?"),
        (["attack", *MODEL, "--attack", "pdg"], "Did you mean 'pgd'?"),
        (["attack", *MODEL, "--norm", "l3"], "norm must be one of linf, l2, l1, l0; got 'l3'."),
        (["attack", *MODEL, "--eps", "8"], "Did you mean 8/255?"),
        (["attack", *MODEL, "--eps", "nan"], "eps must lie in"),
        (["attack", *MODEL, "--eps", "a lot"], "eps must be a number or a fraction"),
        (["attack", *MODEL, "--image", "2000"], "image must be a whole number in [0, 1999]; got 2000."),
        (["attack", *MODEL, "--image=-1"], "image must be a whole number"),
        (["attack", *MODEL, "--image", "nowhere.png"], "row of the sample or a picture file"),
        (["attack", *MODEL, "--image", __file__], "test_commands.py"),
        (["attack", *MODEL, "--set", "step=3"], "Did you mean 'steps'?"),
        (["attack", *MODEL, "--set", "steps=0"], "steps must be a whole number in [1, 1000]; got '0'."),
        (
            ["attack", *MODEL, "--set", "steps=1000", "--set", "restarts=100", "--set", "draws=512"],
            "may come to at most",
        ),
        (["attack", *MODEL, "--target", "cta"], "Did you mean 'cat'?"),
        (["attack", *MODEL, "--seed", "1.5"], "seed must be a whole number"),
        (["attack", *MODEL, "--save", "walk.png"], "--save writes an .npz or a .zip file"),
        (["attack", *MODEL, "--save", "/dev/null/walk.npz"], "cannot be written"),
        (["attack", *MODEL, "--device", "cuda"], "device 'cuda' is not there"),
        (["attack", "--list", "--attack", "fsgm"], "Did you mean 'fgsm'?"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(words, part, cli, tiny, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = cli(*words)
    assert said.code == 2 and part in said.err
    assert said.err.count("\n") == 1 and "Traceback" not in said.err


def test_a_download_without_a_network_is_one_sentence(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_DATA", str(tmp_path))
    said = cli("data", "download", "cifar10")
    assert said.code == 2 and "could not be downloaded" in said.err and said.err.count("\n") == 1


def test_the_datasets_are_listed_with_what_is_here(cli, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    said = cli("data", "list", "cifar10", "--json", "-")
    test, train = json.loads(said.out)
    assert (test["images"], test["state"]) == (2000, "the bundled sample")
    assert train["images"] == 0 and "data download cifar10" in train["state"]
    assert "bundled sample" in said.err  # what people read moved aside for the JSON


def test_models_are_listed_and_shown(cli, tiny, tmp_path):
    said = cli("models", "--json", tmp_path / "models.json")
    assert "cifar10/tiny" in said.out and "not measured" in said.out
    assert "cifar10/tiny" in [card["name"] for card in json.loads((tmp_path / "models.json").read_text("utf-8"))]
    said = cli("models", "cifar10/tiny")
    assert tiny.sha256 in said.out and "python -m explorer train baseline" in said.out


@pytest.mark.parametrize("damage", ["truncated", "missing", "altered", "another shape", "card"])
def test_a_damaged_checkpoint_is_one_sentence(damage, cli, tiny, tiny_folder):
    weights, card = tiny_folder / tiny.file, tiny_folder / "tiny.json"
    data, facts = weights.read_bytes(), json.loads(card.read_text("utf-8"))
    if damage == "truncated":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "missing":
        weights.unlink()
    elif damage == "altered":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "another shape":
        card.write_text(json.dumps(facts | {"arguments": {"width": 8}}), "utf-8")
    else:
        card.write_text(card.read_text("utf-8")[:-20], "utf-8")
    said = cli("attack", *MODEL)
    assert said.code == 2 and "cifar10/tiny" in said.err
    assert said.err.count("\n") == 1 and "Traceback" not in said.err


def test_a_process_ends_with_the_code_and_the_sentence(tmp_path):
    command = [sys.executable, "-m", "explorer", "modles"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1


def test_ctrl_c_is_one_word(cli, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("explorer.cli.models.zoo.cards", interrupted)
    said = cli("models")
    assert (said.code, said.err) == (130, "Stopped.\n")


@pytest.mark.parametrize(
    "exhaust",
    [
        lambda: torch.empty(2**60),  # torch's own words for main memory
        lambda: np.empty(2**56),
        lambda: _raise(RuntimeError("CUDA out of memory. Tried to allocate\nmore than there is")),
        lambda: _raise(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
        lambda: _raise(OSError(12, "Cannot allocate memory")),
    ],
)
def test_running_out_of_memory_is_one_sentence(exhaust, cli, monkeypatch):
    monkeypatch.setattr("explorer.cli.models.zoo.cards", exhaust)
    said = cli("models")
    assert said.code == 1 and said.err.startswith("Memory ran out: ") and said.err.count("\n") == 1


@pytest.mark.parametrize("failure", [RuntimeError("a mistake of ours"), OSError(5, "Input/output error")])
def test_other_failures_are_not_hidden(failure, cli, monkeypatch):
    monkeypatch.setattr("explorer.cli.models.zoo.cards", lambda: _raise(failure))
    with pytest.raises(type(failure), match=str(failure.args[-1])):
        cli("models")


def _raise(error):
    raise error


@pytest.fixture
def one_thread():
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(("asked", "used"), [("3", 3), ("", 1)])
def test_commands_compute_with_as_many_threads_as_they_say(asked, used, cli, tiny, monkeypatch, one_thread):
    """OMP_NUM_THREADS is torch's own: in these tests 1, whatever the number of cores."""
    monkeypatch.setenv("EXPLORER_THREADS", asked)
    seen = []
    forward = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", lambda *a: seen.append(torch.get_num_threads()) or forward(*a))
    monkeypatch.setattr("explorer.core.device.cores", lambda: 4)
    said = cli("evaluate", "cifar10/tiny", "--clean", "--n", "10", "--json", "-")
    assert said.code == 0 and {*seen} == {used}
    assert json.loads(said.out)["measures"][0]["device"].endswith(f", {used} of 4 cores")
    said = cli("attack", *MODEL, "--attack", "fgsm", "--device", "cpu", "--json", "-")
    assert said.code == 0 and torch.get_num_threads() == used
    assert f"CPU, {used} thread" in json.dumps(json.loads(said.out))


@pytest.mark.parametrize("number", ["0", "many", "2.5", "4096"])
def test_a_number_of_threads_that_is_none_is_refused(number, cli, monkeypatch):
    monkeypatch.setenv("EXPLORER_THREADS", number)
    said = cli("models")
    assert said.code == 2 and said.err.startswith("EXPLORER_THREADS must be a whole number of CPU threads in [1, 1024]")
    assert cli("models", "--help").code == 0


@pytest.mark.parametrize("device", ["cuda:1", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_one_sentence(device, cli, tiny, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for words in (("attack", *MODEL), ("evaluate", "cifar10/tiny"), ("certify", "cifar10/tiny")):
        said = cli(*words, "--device", device)
        assert said.code == 2 and f"device {device!r} is not there" in said.err and said.err.count("\n") == 1
