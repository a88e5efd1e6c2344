"""Commands with verbs (`jobs list`, `models add`): each verb explains itself, and the older spellings mean the same."""

import importlib
import json

import pytest

from explorer.cli import COMMANDS

WITH_VERBS = [name for name in COMMANDS if hasattr(importlib.import_module(f"explorer.cli.{name}"), "VERBS")]
VERBS = [(name, verb) for name in WITH_VERBS for verb in importlib.import_module(f"explorer.cli.{name}").VERBS]


def test_the_commands_that_have_verbs():
    assert WITH_VERBS == ["jobs", "models", "data", "proxy", "tournament", "lesson", "bench"] and len(VERBS) >= 15


@pytest.mark.parametrize(("name", "verb"), VERBS)
def test_every_verb_has_its_own_help(name, verb, cli):
    said = cli(name, verb, "--help")
    assert said.code == 0 and said.err == "" and f"usage: python -m explorer {name} {verb}" in said.out
    assert "--device" in said.out and "--json" in said.out
    assert f"\n    {verb} " in cli(name, "--help").out


def test_the_help_of_a_verb_names_its_own_options_alone(cli):
    assert "--follow" in cli("jobs", "logs", "--help").out
    assert "--follow" not in cli("jobs", "submit", "--help").out
    assert "--architecture" not in cli("models", "list", "--help").out


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["models"], ["models", "list"]),
        (["models", "cifar10/tiny"], ["models", "show", "cifar10/tiny"]),
        (["models", "cifar10/tiny", "--markdown"], ["models", "show", "--markdown", "cifar10/tiny"]),
        (["models", "--markdown"], ["models", "list", "--markdown"]),
        (["--json", "-", "models"], None),
        (["data"], ["data", "list"]),
        (["data", "--device", "cpu", "list", "cifar10"], ["data", "list", "cifar10"]),
        (["jobs"], ["jobs", "list"]),
    ],
)
def test_older_spellings_mean_the_same(words, same, cli, tiny):
    said = cli(*words)
    if same is None:
        assert said.code == 2 and "Unknown command '--json'" in said.err
        return
    assert said.code == 0 and said == cli(*same)


def test_an_option_may_stand_before_the_verb_and_its_value_is_no_verb(cli, tiny, tmp_path):
    file = tmp_path / "list"
    assert cli("models", "--json", file, "show", "cifar10/tiny").code == 0
    assert json.loads(file.read_text("utf-8"))["name"] == "cifar10/tiny"


@pytest.mark.parametrize(("words", "repeats"), [(["--repeats", "3"], 3), (["cifar10/tiny"], 7), (["pgd"], 7)])
def test_bench_without_a_verb_is_about_pgd(words, repeats, cli, tiny, monkeypatch):
    asked = {}
    row = {"model": "m", "device": "d", "threads": 1, "torch": "2", "what": "w", "batch": 1, "load": [None, 0.1]}
    row |= {"walk_seconds": 1.0, "first_step_seconds": 0.1}
    monkeypatch.setattr("explorer.cli.bench.bench", lambda name, **o: asked.update(o, name=name) or [row])
    said = cli("bench", *words)
    assert said.code == 0, said.err
    assert asked["repeats"] == repeats and asked["name"] == ("cifar10/tiny" if "cifar10/tiny" in words else None)


def test_a_value_may_begin_with_a_minus(cli, place_of_weights):
    said = cli("models", "add", "cifar10/mine", "--weights", place_of_weights, "--classes", "10",
               "--architecture", "torchvision:no_such_net", "--range", "-1,1")  # fmt: skip
    assert said.code == 2 and "no_such_net" in said.err and "expected one argument" not in said.err


@pytest.fixture
def place_of_weights(tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes((2).to_bytes(8, "little") + b"{}")
    return file
