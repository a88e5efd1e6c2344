"""`python -m explorer jobs`: the whole life of a run by commands, each also as JSON."""

import json
import os
import signal
from functools import partial

import pytest

from explorer.jobs import Store
from explorer.jobs.launch import Local
from tests.durability.common import end_all, wait_for
from tests.durability.starts import STAND_IN
from tests.jobs.conftest import LONG, SHORT


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Commands act on this one; its runs wait and hold the device, and train nothing."""
    monkeypatch.setattr("explorer.cli.jobs.Store", partial(Store, tmp_path / "runs", local=Local(STAND_IN)))
    monkeypatch.setattr("explorer.data.loading.check", lambda name, split: None)
    store = Store(tmp_path / "runs", local=Local(STAND_IN))
    yield store
    end_all(store.runs())


def test_a_run_from_its_submission_to_its_deletion(cli, store, tmp_path):
    words = ("--set", "epochs=3", "--title", "Mine", "--device", "cpu", "--threads", "1", "--limit", "64")
    said = cli("jobs", "submit", "baseline", *words, "--json", "-")
    assert said.code == 0, said.err
    facts = json.loads(said.out)
    assert facts["spec"]["hyper"]["epochs"] == 3 and facts["spec"]["title"] == "Mine" and facts["spec"]["limit"] == 64
    id = facts["id"]
    assert f"jobs logs {id} --follow" in said.err
    said = cli("jobs", "logs", id[:6], "--follow")  # ends with the run
    assert said.code == 0 and "Attempt 1" in said.out
    listed = json.loads(cli("jobs", "--json", "-").out)
    assert [(one["id"], one["state"]["status"]) for one in listed] == [(id, "finished")]
    assert f"{id}  finished" in cli("jobs", "list").out
    said = cli("jobs", "show", id)
    assert f"{id}: finished" in said.out and "epochs=3" in said.out and str(store.root / id) in said.out
    said = cli("jobs", "delete", id)
    assert said.code == 2 and f"This deletes run {id}: say --yes." in said.err and store.runs()
    said = cli("jobs", "delete", id, "--yes", "--json", tmp_path / "deleted.json")
    assert said.code == 0 and f"Deleted run {id}." in said.out and not store.runs()
    assert json.loads((tmp_path / "deleted.json").read_text())["deleted"] == [str(store.root / id)]
    assert "No runs in" in cli("jobs", "list").out


def test_what_deleting_removes_is_said_before(cli, store):
    run = store.create(SHORT)
    run.update(status="finished", model="cifar10/mine")
    (store.zoo / "cifar10").mkdir(parents=True)
    (store.zoo / "cifar10" / "mine.json").write_text("{}")
    said = cli("jobs", "delete", run.id)
    assert said.code == 2 and "and its model cifar10/mine, which the zoo then knows no more: say --yes." in said.err


def test_cancelled_and_resumed_by_command(cli, store):
    run = store.begin(LONG)
    wait_for(lambda: run.refresh().status == "running")
    said = cli("jobs", "cancel", run.id)
    assert said.code == 0 and f"Run {run.id} is cancelled." in said.out
    said = cli("jobs", "resume", run.id)
    assert said.code == 0 and "goes on when its turn comes" in said.out
    wait_for(lambda: run.refresh().status == "running")
    os.killpg(run.state.process.pid, signal.SIGKILL)
    wait_for(lambda: run.refresh().status == "interrupted")
    assert "interrupted" in cli("jobs", "list").out


def test_a_run_that_cannot_be_read_does_not_spoil_the_list(cli, store):
    good, bad = store.create(SHORT), store.create(SHORT)
    for run in (good, bad):
        run.update(status="cancelled")
    (bad.folder / "state.json").write_text("{")
    said = cli("jobs", "list", "--json", "-")
    assert {one["id"]: one["state"]["status"] for one in json.loads(said.out)} == {
        good.id: "cancelled",
        bad.id: "unreadable",
    }
    assert "unreadable: state.json" in cli("jobs", "show", bad.id).out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["sumbit", "baseline"], "Did you mean 'submit'?"),
        (["submit"], "jobs submit needs RECIPE: what to train by"),
        (["cancel"], "jobs cancel needs ID: the id of a run"),
        (["list", "x"], "jobs list does not take 'x'."),
        (["cancel", "x", "--follow"], "--follow belongs to `jobs logs`."),
        (["show", "../etc"], "Unknown run '../etc'"),
        (["submit", "basline"], "Did you mean 'baseline'?"),
        (["submit", "baseline", "--set", "epohs=3"], "Did you mean 'epochs'?"),
        (["submit", "baseline", "--set", "epochs=0"], "epochs must be a whole number in [1, 1000]; got '0'."),
        (["submit", "baseline", "--model", "mnist/x"], "name must be cifar10/"),
        (["submit", "baseline", "--threads", "0"], "threads must be a whole number"),
        (["submit", "baseline", "--processes", "2", "--device", "mps"], "2 processes need device cuda"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(words, part, cli, store):
    said = cli("jobs", *words)
    assert said.code == 2 and part in said.err
    assert said.err.count("\n") == 1 and said.out == "" and not store.runs()
