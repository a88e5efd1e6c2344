"""`evaluate` and `certify` under torchrun: the numbers of one process, said and written once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.models import zoo
from tests.cli.at_once import say
from tests.processes import together

ATTACKED = [
    "evaluate",
    "cifar10/tiny",
    "--attack",
    "pgd",
    "--set",
    "steps=2",
    "--n",
    "20",
    "--batch",
    "6",
    "--precision",
    "float32",  # with --write it is that, too
    "--device",
    "cpu",
]
CERTIFIED = [
    "certify",
    "cifar10/tiny",
    "--images",
    "5",
    "--n0",
    "10",
    "--n",
    "60",
    "--sigma",
    "0.5",
    "--seed",
    "0",
    "--device",
    "cpu",
]
PREDICTED = [
    "certify",
    "cifar10/tiny",
    "--predict",
    "--images",
    "5",
    "--n",
    "60",
    "--sigma",
    "0.5",
    "--seed",
    "0",
    "--device",
    "cpu",
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_full_set(monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)


def without_times(facts):
    """The result but for what may differ: the times, and the computer's name with the number of processes."""
    if isinstance(facts, dict):
        return {
            key: without_times(value) for key, value in facts.items() if key not in ("seconds", "device", "hardware")
        }
    return [without_times(one) for one in facts] if isinstance(facts, list) else facts


@pytest.mark.parametrize("words", [ATTACKED, CERTIFIED, PREDICTED], ids=["attacked", "certified", "predicted"])
def test_two_processes_say_once_what_one_says(words, cli, tiny, tmp_path):
    alone = cli(*words, "--json", tmp_path / "one.json")
    assert alone.code == 0, alone.err
    write = [] if "--predict" in words else ["--write"]
    ended = together(say, [*words, "--json", str(tmp_path / "two.json"), *write])
    (code, out, err), (quiet_code, quiet_out, quiet_err) = (one.answer for one in ended)
    assert (code, quiet_code) == (0, 0), err + quiet_err
    assert out.startswith(alone.out.splitlines()[0]) and (quiet_out, quiet_err) == ("", "")
    one, two = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("one.json", "two.json"))
    assert without_times(one) == without_times(two)
    card = zoo.card("cifar10/tiny")
    written = [one | {"weights": card.identity} for one in two["measures"]] if write else []
    assert without_times(card.measures) == without_times(written)


def test_several_processes_go_on_from_what_each_has_noted(cli, tiny, tmp_path):
    alone = json.loads(cli(*CERTIFIED, "--resume", tmp_path / "run", "--json", "-").out)
    first, *rows = (tmp_path / "run").read_text("utf-8").splitlines()
    conditions = json.loads(first)
    conditions["hardware"] = f"2 processes, each on {conditions['hardware']}"
    for rank, kept in enumerate((rows[:3:2], rows[1:2])):  # images 0 and 2, and 1, of 5
        (tmp_path / f"run.{rank}").write_text("\n".join([json.dumps(conditions), *kept]) + "\n", "utf-8")
    ended = together(say, [*CERTIFIED, "--resume", str(tmp_path / "run"), "--json", str(tmp_path / "c.json")])
    assert [one.answer[0] for one in ended] == [0, 0], ended
    assert "2 certificates are in" in ended[0].answer[1] and "run.0 already" in ended[0].answer[1]
    assert json.loads((tmp_path / "c.json").read_text("utf-8"))["certificates"] == alone["certificates"]
    noted = [(tmp_path / f"run.{rank}").read_text("utf-8").splitlines()[1:] for rank in range(2)]
    assert [[json.loads(row)["index"] for row in part] for part in noted] == [[0, 2, 4], [1, 3]]


def test_a_failure_on_one_is_one_sentence_and_no_success_anywhere(tiny):
    ended = together(say, [*ATTACKED, "--write"], True)
    assert [one.answer[0] for one in ended] == [1, 1]
    waiting, broken = (one.answer[2] for one in ended)  # a slow computer shows a progress bar, too
    assert broken.count("\n") == 1 and "The computation failed: the model's logits are not finite" in broken
    assert "fail" not in waiting and "finite" not in waiting
    assert zoo.card("cifar10/tiny").measures == []


def test_a_refusal_is_said_once(tiny):
    first, second = (one.answer for one in together(say, ["evaluate", "cifar10/tinny"]))
    assert first[0] == second[0] == 2
    assert first[2].count("\n") == 1 and "Did you mean 'cifar10/tiny'?" in first[2] and second[2] == ""


def test_torchrun_itself(cli, tiny, tmp_path):
    assert cli(*ATTACKED, "--json", tmp_path / "one.json").code == 0
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "--",
        "explorer",
    ]
    done = subprocess.run(
        [*launcher, *ATTACKED, "--json", str(tmp_path / "two.json")],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("white-box pgd") == 1
    one, two = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("one.json", "two.json"))
    assert without_times(one) == without_times(two)
