"""`bench attacks` says what it compared with what; plain `bench` is as it was."""

import json

import pytest

from explorer.evaluation.peers.library import PEERS


@pytest.fixture
def nobody(monkeypatch):
    """No other library is installed."""
    monkeypatch.setattr(
        "explorer.evaluation.peers.library.Peer.missing", lambda peer: f"No module named {peer.module!r}"
    )


def test_without_other_libraries_it_names_them_and_goes_on(nobody, cli, tiny, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    words = ("bench", "attacks", "--model", "cifar10/tiny", "--images", 40, "--repeats", 1, "--only", "fgsm,pgd-l2-10")
    said = cli(*words, "--json", "-")
    assert said.code == 0
    for peer in PEERS:
        assert f"{peer.name} is left out: No module named" in said.err
    result = json.loads(said.out)
    assert result["model"] == "cifar10/tiny" and result["libraries"] == {} and len(result["missing"]) == len(PEERS)
    fgsm, pgd = result["comparisons"]
    assert (fgsm["key"], pgd["key"]) == ("fgsm", "pgd-l2-10") and fgsm["images"] == 40 and fgsm["rounds"] == 1
    (row,) = fgsm["rows"]
    assert (row["library"], row["forwards"], row["backwards"]) == ("explorer", 2, 1)
    assert "time, ours / theirs" in said.err and "0 of 0 of what was wanted" in said.err


def test_a_comparison_is_told_with_what_was_wanted(nobody, cli, tiny, monkeypatch):
    row = {"library": "explorer", "version": "", "success": 0.5, "successes": [2, 3], "same_verdicts": [4, 4]}
    row |= {"outside": 0, "excess": 0.0, "forwards": 3.0, "backwards": 2.0, "seconds": 1.0, "time_ratio": 1.0}
    row |= {"mean_distance": 0.25, "median_distance": None}
    row |= {"on_common": {"mean": 0.25, "median": 0.2}, "ours_on_common": {"mean": 0.25, "median": 0.2}}
    other = row | {"library": "other", "version": "2", "outside": 3, "excess": 3e-8, "time_ratio": 0.4}
    wanted = {"library": "other", "what": "time over theirs", "value": 0.4, "at_most": 0.1, "reached": False}
    comparison = {
        "key": "deepfool",
        "title": "DeepFool",
        "norm": "l2",
        "eps": None,
        "minimal": True,
        "hyper": {"steps": 50},
        "images": 8,
        "right": 4,
        "rounds": 2,
        "load": [0.1, 0.2],
        "rows": [row, other, {"library": "third", "version": "1", "failed": "ValueError: no"}],
        "wanted": [wanted],
    }
    about = {
        "device": "a computer",
        "threads": 1,
        "torch": "2",
        "data": "images",
        "libraries": {"other": "2"},
        "missing": {},
    }

    def beside(*given, told, **options):
        told(comparison)
        return about | {"comparisons": [comparison]}

    monkeypatch.setattr("explorer.cli.bench.beside", beside)
    out = cli("bench", "attacks", "--model", "cifar10/tiny", "--only", "deepfool", "--images", 8).out
    for part in (
        "deepfool: DeepFool, l2 (steps=50)",
        "4 of 8 images are classified right and attacked, 2 rounds; load 0.1 before, 0.2 after",
        "50.0 % (2 to 3 of 4)",
        "3 (by 3e-08)",
        "0.2500 / 0.2500, 0.2000 / 0.2000",
        "third failed: ValueError: no",
        "NOT REACHED: time over theirs, beside other: 0.4000, at most 0.1000 wanted",
        "0 of 1 of what was wanted is reached.",
    ):
        assert part in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--only", "pgd"], "--only belongs to `bench attacks` and `bench precision`."),
        (["cifar10/tiny", "--images", "8"], "--images belongs to `bench attacks` and `bench precision`"),
        (["attacks", "--only", "pdg"], "Did you mean 'pgd'?"),
        (["attacks", "--peers", "foolbx"], "Did you mean 'foolbox'?"),
        (["attacks", "--images", "0"], "images must be a whole number in [1, 10000]; got '0'."),
        (["attacks", "--repeats", "no"], "repeats must be a whole number"),
        (["attacks", "--model", "cifar10/tinny"], "Did you mean 'cifar10/tiny'?"),
        (["attcks"], "Unknown verb of bench 'attcks'. Did you mean 'attacks'?"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(words, part, cli, tiny):
    said = cli("bench", *words)
    assert said.code == 2 and part in said.err and said.err.count("\n") == 1


def test_training_is_told_with_its_ratio_and_what_a_checkpoint_costs(cli, monkeypatch):
    row = {
        "what": "clean",
        "batch": 128,
        "ratio": 0.97,
        "ratio_range": [0.95, 0.99],
        "target": 0.9,
        "device": "a computer",
    }
    row |= {
        "images_per_second": 97.0,
        "bare_images_per_second": 100.0,
        "threads": 1,
        "torch": "2",
        "precision": "float32",
    }
    row |= {"checkpoint_seconds": 0.3, "checkpoint_bytes": 45 * 2**20, "checkpoint_share": 0.01, "load": [0.1, 0.2]}
    asked = {}
    monkeypatch.setattr("explorer.cli.bench.throughput", lambda **options: asked.update(options) or [row])
    said = cli("bench", "training", "--repeats", 3)
    assert said.code == 0 and asked["repeats"] == 3
    for part in ("0.970 of the bare loop (0.950 to 0.990; 97.0 to 100.0 images a second", "at least 0.90 is wanted"):
        assert part in said.out
    assert "a checkpoint of 45 MiB takes 0.30 s, 1.0 % of the time; load 0.1 before, 0.2 after" in said.out
    said = cli("bench", "training", "--images", 3)
    assert said.code == 2 and "--images belongs to `bench attacks` and `bench precision`" in said.err


def test_the_coverage_of_other_libraries_is_printed(cli):
    said = cli("bench", "coverage", "--peers", "torchattacks", "--json", "-")
    rows = json.loads(said.out)
    assert said.code == 0 and {"library": "torchattacks", "attack": "NIFGSM", "ours": "ni-fgsm", "why": ""} in rows
    assert f"{sum(bool(row['ours']) for row in rows)} of {len(rows)} have one of ours" in said.err
    assert "Unknown library 'torchattack'" in cli("bench", "coverage", "--peers", "torchattack").err
