"""`certify --background` and `evaluate --background`: submitted, listed, shown while they go on, and their table when done."""

import json
import os
from functools import partial

import pytest

from explorer.jobs import Process, Store, runner
from explorer.jobs.launch import Local

CERTIFY = ("certify", "cifar10/tiny", "--images", "3", "--n0", "10", "--n", "40", "--sigma", "0.5", "--device", "cpu")
EVALUATE = (
    "evaluate",
    "cifar10/tiny",
    "--n",
    "4",
    "--attack",
    "fgsm,mifgsm",
    "--eps",
    "1/255,8/255",
    "--device",
    "cpu",
)


class Waits(Local):
    """Starts nothing: the test itself is the run's process."""

    def start(self, folder, spec):
        return {"process": None}

    def alive(self, folder, state):
        return True


@pytest.fixture
def store(tmp_path, monkeypatch):
    made = partial(Store, tmp_path / "runs", local=Waits())
    monkeypatch.setattr("explorer.cli.jobs.Store", made)
    monkeypatch.setattr("explorer.cli._background.Store", made)
    return made()


def compute(store, id):
    run = store.run(id)
    assert runner.main([str(run.folder)]) == 0, run.log()


def test_certificates_in_the_background_are_those_of_the_terminal(cli, tiny, store):
    said = cli(*CERTIFY, "--seed", "3", "--background", "--json", "-")
    assert said.code == 0, said.err
    id = json.loads(said.out)["id"]
    assert f"Submitted run {id}; `python -m explorer jobs show {id}` shows its table" in said.err
    listed = cli("jobs", "list").out
    assert "kind" in listed and f"{id}  queued" in listed and "certify  cifar10/tiny" in listed
    assert "Nothing is measured yet." in cli("jobs", "show", id).out
    compute(store, id)
    shown = json.loads(cli("jobs", "show", id, "--json", "-").out)["result"]
    due = json.loads(cli(*CERTIFY, "--seed", "3", "--json", "-").out)
    found = [
        one["certificate"] | {"index": one["index"], "true_label": one["true_label"]}
        for one in shown["rows"][0]["pictures"]
    ]
    assert found == due["certificates"]
    assert [one["accuracy"] for one in shown["rows"][0]["shares"]] == [m["accuracy"] for m in due["measures"]]
    assert {name: shown["rows"][0][name] for name in ("acr", "abstained", "wrong")} == {
        name: due[name] for name in ("acr", "abstained", "wrong")
    }
    text = cli("jobs", "show", id).out
    assert "certified, L2 0.25" in text and "3 of 3" in text and f"{id}: finished." in text


def test_an_evaluation_in_the_background_is_that_of_the_terminal(cli, tiny, store):
    said = cli(*EVALUATE, "--background", "--json", "-")
    assert said.code == 0, said.err
    id = json.loads(said.out)["id"]
    compute(store, id)
    rows = json.loads(cli("jobs", "show", id, "--json", "-").out)["result"]["rows"]
    assert [row["title"] for row in rows] == ["clean"] + [
        f"{name}, linf {eps}/255" for name in ("fgsm", "mifgsm") for eps in (1, 8)
    ]
    due = json.loads(
        cli("evaluate", "cifar10/tiny", "--n", "4", "--attack", "fgsm", "--eps", "8/255", "--json", "-").out
    )
    assert rows[2]["correct"] == due["measures"][0]["correct"] and rows[2]["low"] == due["measures"][0]["low"]


def test_roc_curves_are_a_run_that_says_its_areas(cli, tiny, store):
    id = json.loads(
        cli("evaluate", "cifar10/tiny", "--roc", "--eps", "4/255", "--n", "20", "--background", "--json", "-").out
    )["id"]
    compute(store, id)
    rows = json.loads(cli("jobs", "show", id, "--json", "-").out)["result"]["rows"]
    assert [row["conditions"]["eps"] for row in rows] == [None, 4 / 255, None] and len(rows[1]["curves"]) == 10
    assert rows[1]["said"] in cli("jobs", "show", id).out and "20 pictures: mean AUC" in rows[1]["said"]


def test_progress_is_told_in_pictures(cli, tiny, store):
    id = json.loads(cli(*CERTIFY, "--background", "--json", "-").out)["id"]
    run = store.run(id)
    run.update(status="running", process=Process.of(os.getpid()))
    (run.folder / "heartbeat").write_text(json.dumps({"pictures": 1, "of": 3, "left": 90.0, "message": "Certifies."}))
    assert "1 of 3 pictures  90 s" in cli("jobs", "list").out
    run.update(status="cancelled", process=None)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([*CERTIFY, "--background", "--predict"], "--predict is not for --background"),
        ([*CERTIFY, "--background", "--write"], "--write is not for --background"),
        (
            [*CERTIFY, "--background", "--kind", "crwon"],
            "--sigma is of noise; a certificate of the kind crwon draws none.",
        ),
        (["certify", "cifar10/tiny", "--background", "--kind", "crwon"], "Did you mean 'crown'?"),
        ([*CERTIFY, "--slurm"], "--slurm belongs to --background, which is missing."),
        ([*CERTIFY, "--processes", "2"], "--processes belongs to --background, which is missing."),
        ([*CERTIFY, "--background", "--nodes", "2"], "--nodes is asked of a cluster: say --slurm, too."),
        (["certify", "cifar10/tinny", "--background"], "Did you mean 'cifar10/tiny'?"),
        ([*EVALUATE, "--background", "--adaptive"], "not allowed with argument"),
        (
            ["evaluate", "cifar10/tiny", "--background"],
            "--background needs a model's name, and --attack, --clean, --adaptive or --roc.",
        ),
        (["evaluate", "cifar10/tiny", "--background", "--adaptive"], "model must be stochastic"),
        ([*EVALUATE, "--background", "--set", "steps=3"], "--set is about one attack; got 2 with --background."),
        ([*EVALUATE, "--background", "--craft-on", "cifar10/tiny"], "--craft-on is not for --background"),
        (["evaluate", "cifar10/tiny", "--background", "--attack", "pdg"], "Did you mean 'pgd'?"),
        (["evaluate", "cifar10/tiny", "--roc"], "--roc is a run in the background: say --background, too."),
        (["evaluate", "cifar10/tiny", "--roc", "--background", "--norm", "l2"], "--norm is not for --roc"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(words, part, cli, tiny, store):
    said = cli(*words)
    assert said.code == 2 and part in said.err and said.err.count("\n") == 1 and not store.runs()
