"""Every command explains itself, and refuses nonsense in one sentence with exit code 2, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.cli import COMMANDS

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
        (["models", "--device", "gpu"], "Unknown device 'gpu'. Did you mean 'cpu'? Known: auto, cpu, cuda, mps."),
        (["models", "--json"], "expected one argument"),
        (["models", "cifar10/tinny"], "Did you mean 'cifar10/tiny'?"),
        (["models", "cifar10/tiny", "--json", "/dev/null/x.json"], "cannot be written"),
        (["data", "downlaod"], "Did you mean 'download'?"),
        (["data", "download"], "needs the name of a dataset"),
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


def test_running_out_of_memory_is_one_sentence_and_other_failures_are_not_hidden(cli, monkeypatch):
    def fail(text):
        def cards():
            raise RuntimeError(text)

        monkeypatch.setattr("explorer.cli.models.zoo.cards", cards)

    fail("CUDA out of memory. Tried to allocate\nmore than there is")
    said = cli("models")
    assert said.code == 1 and said.err.count("\n") == 1
    fail("a mistake of ours")
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli("models")
