"""Runs that measure: certify and evaluate give the library's numbers, go on where they were, and refuse in a sentence."""

import json
import shutil
from dataclasses import asdict

import pytest

from explorer.attacks import ATTACKS
from explorer.certify import Smoothed, certified_accuracy, certify_many
from explorer.core import Ball, Cancelled, DataUnavailable, ExplorerError, InvalidValue, UnknownName
from explorer.data import chosen_rows, load
from explorer.evaluation import clean_accuracy, proven, robust_accuracy
from explorer.jobs import Spec, Store, measuring, runner
from explorer.jobs.certify import RADII, Certify
from explorer.jobs.measuring import result
from explorer.models import zoo

NET = "cifar10/lenet"
CERTIFY = {"model": NET, "images": 4, "n0": 10, "n": 40, "sigma": 0.1, "seed": 3}
EVALUATE = {"model": NET, "images": 6, "batch": 4, "attacks": [{"name": "fgsm"}], "eps": ["1/255", 0.02]}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def spec_of(kind, settings):
    return Spec(kind=kind, settings=settings, device="cpu", threads=1)


def begun(store, kind, settings):
    return store.create(spec_of(kind, settings).checked())


def done(store, kind, settings):
    run = begun(store, kind, settings)
    assert runner.main([str(run.folder)]) == 0, run.log()
    return run


def stopped_after(run, count, monkeypatch):
    """Run it until so many cells are noted; then a stop is heard."""
    note, seen = measuring._Log.note, []

    def noted(self, *cell):
        note(self, *cell)
        seen.append(cell)

    with monkeypatch.context() as patch:
        patch.setattr(measuring._Log, "note", noted)
        patch.setattr(
            "explorer.jobs.run_process.RunProcess.stop", type("Flag", (), {"is_set": lambda _: len(seen) >= count})()
        )
        assert runner.main([str(run.folder)]) == 130
    return run


def go_on(run):
    with run.locked():
        run.requeue()
    assert runner.main([str(run.folder)]) == 0, run.log()


def lines(run, number=0):
    return [json.loads(line) for line in (run.folder / "cells" / f"{number:03d}.jsonl").read_text().splitlines()]


def table(run):
    """Without the seconds, which no two runs share: there are none."""
    return result(run)["rows"]


def test_certificates_are_those_of_the_library(store):
    run = done(store, "certify", CERTIFY)
    images = load("cifar10", n=4)
    smoothed = Smoothed(zoo.load(NET), 0.1)
    due = list(certify_many(smoothed, images.x, images.y, n0=10, n=40, seed=3))
    (row,) = table(run)
    assert [one["certificate"] for one in row["pictures"]] == [json.loads(json.dumps(asdict(c))) for c in due]
    shares = [(one.accuracy, one.low, one.high) for one in certified_accuracy(due, images.y, RADII)]
    assert [(one["accuracy"], one["low"], one["high"]) for one in row["shares"]] == shares
    assert run.state.message.startswith("certified, L2 0: ") and run.spec.subject == NET


def test_an_evaluation_is_the_library_s(store):
    run = done(store, "evaluate", EVALUATE)
    images, model = load("cifar10", n=6), zoo.load(NET)
    due = [clean_accuracy(model, images, batch=4)]
    due += [robust_accuracy(model, images, ATTACKS["fgsm"](), Ball("linf", eps), batch=4) for eps in (1 / 255, 0.02)]
    names = ("n", "correct", "accuracy", "low", "high")
    assert [[row[name] for name in names] for row in table(run)] == [[getattr(m, name) for name in names] for m in due]
    more = ("zero_gradient_share", "accuracy_8bit", "median_distance")
    assert all(row[name] == getattr(m, name) for row, m in zip(table(run)[1:], due[1:], strict=True) for name in more)
    assert [row["title"] for row in table(run)] == ["clean", "fgsm, linf 1/255", "fgsm, linf 5.1/255"]


@pytest.mark.parametrize(("kind", "settings", "cells"), [("certify", CERTIFY, 4), ("evaluate", EVALUATE, 6)])
def test_a_stopped_run_goes_on_and_measures_no_cell_twice(store, kind, settings, cells, monkeypatch, tmp_path):
    run = stopped_after(begun(store, kind, settings), 2, monkeypatch)
    assert run.state.status == "cancelled" and "resume goes on with the others" in run.state.message
    assert sum(row["done"] for row in table(run)) in (2, 6)  # pictures, or the clean batches of 4 and 2
    go_on(run)
    files = sorted((run.folder / "cells").iterdir())
    indices = [(path.name, line["index"]) for n, path in enumerate(files) for line in lines(run, n)[1:]]
    assert len(indices) == len({*indices}) == cells
    assert table(run) == table(done(Store(tmp_path / "others"), kind, settings))


def test_the_smallest_change_is_looked_for_once_for_all_values_of_eps(store, monkeypatch):
    walks, attack = [], ATTACKS["deepfool"]()
    walk = type(attack).walk
    monkeypatch.setattr(type(attack), "walk", lambda self, *given: walks.append(1) or walk(self, *given))
    asked = EVALUATE | {"attacks": [{"name": "deepfool"}], "norm": "l2", "eps": [0.05, 0.1, 0.4], "clean": False}
    rows = result(done(store, "evaluate", asked))["rows"]
    assert len(walks) == 2  # batches
    for row in rows:
        due = robust_accuracy(
            zoo.load(NET), load("cifar10", n=6), attack, Ball("l2", row["conditions"]["eps"]), batch=4
        )
        assert (row["correct"], row["verdicts"]) == (due.correct, due.verdicts)
    assert rows[0]["distances"] == rows[2]["distances"] and rows[0]["correct"] > rows[2]["correct"]


def test_passes_until_each_picture_is_fooled(store):
    asked = EVALUATE | {"attacks": [{"name": "pgd", "hyper": {"steps": 5}}], "eps": ["8/255"], "clean": False}
    (row,) = result(done(store, "evaluate", asked))["rows"]
    fooled = [passes for passes in row["passes"] if passes >= 0]
    assert len(fooled) == len(row["passes"]) - row["correct"] and all(1 <= passes <= 11 for passes in fooled)


def test_the_same_question_is_not_computed_twice(store, monkeypatch):
    first = done(store, "evaluate", EVALUATE)
    monkeypatch.setattr("explorer.jobs.evaluate.batch_of", lambda *_: pytest.fail("it was measured before"))
    again = done(store, "evaluate", EVALUATE | {"eps": ["1/255"]})
    assert table(again) == table(first)[:2] and "were measured by another run before" in again.log()


def test_without_a_seed_the_certificates_are_the_certify_page_s(store):
    from explorer.engine.certifying import store as kept
    from explorer.engine.certifying_set import CertifySetRequest

    run = done(store, "certify", {"model": NET, "images": 4, "n0": 10, "n": 40, "sigma": 0.05, "shuffle": 2})
    request = CertifySetRequest("cifar10", NET, 0.05, 4, 10, 40, shuffle=2)
    (row,) = table(run)
    images = load("cifar10", source="sample")
    assert chosen_rows("cifar10", 2, 4) == request.rows
    for at, one in zip(request.rows, row["pictures"], strict=True):
        question = request.single(at).question(images.x[at])
        assert one["certificate"]["seed"] == kept().seed(question)
        assert one["certificate"]["skipped"] or asdict(kept().find(question).certificate) == one["certificate"] | {
            name: tuple(one["certificate"][name]) for name in ("selection", "estimation")
        }


def test_a_kind_that_draws_nothing_needs_a_model_that_it_can_read(store):
    run = done(store, "certify", {"model": "fashion_mnist/fashion-mlp", "images": 2, "certificate": "interval"})
    (row,) = table(run)
    assert row["norm"] == "linf" and row["shares"][1]["what"] == "certified, L∞ 1/255"
    radii = [c["certificate"]["radius"] for c in row["pictures"] if c["certificate"]["label"] == c["true_label"]]
    assert [one["certified"] for one in row["shares"]] == [sum(r >= at for r in radii) for at in proven.RADII["linf"]]
    bad = begun(store, "certify", {"model": NET, "images": 2, "certificate": "column"})
    assert runner.main([str(bad.folder)]) == 1
    assert bad.state.status == "failed" and bad.state.message.startswith("Column smoothing needs a network")


def test_a_full_disk_leaves_no_half_line(store, tmp_path, monkeypatch):
    log = measuring._Log(tmp_path / "cells.jsonl", {"a": 1})
    log.note(0, {"right": 1}, 0.5)
    before = log.path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            log.note(1, {"right": 2}, 0.5)
    assert log.path.read_bytes() == before
    log.note(1, {"right": 2}, 0.5)
    assert measuring._Log.look(log.path)[1] == {0: {"right": 1}, 1: {"right": 2}}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A copy of the model under a name of its own: its card's path."""
    folder = tmp_path / "zoo" / "cifar10"
    folder.mkdir(parents=True)
    card = json.loads((zoo.card_path(NET)).read_text())
    card |= {"name": "cifar10/own", "file": "own.safetensors"}
    shutil.copy(zoo.card_path(NET).with_name("lenet.safetensors"), folder / "own.safetensors")
    (folder / "own.json").write_text(json.dumps(card))
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(folder.parent))
    return folder / "own.json"


def test_changed_weights_are_no_answer_to_the_same_question(store, own, monkeypatch):
    run = stopped_after(begun(store, "certify", CERTIFY | {"model": "cifar10/own"}), 2, monkeypatch)
    card = json.loads(own.read_text())
    own.write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.raises(InvalidValue, match=r"^The weights of cifar10/own have changed .*: submit a new one\.$"):
        run.resume()
    own.unlink()
    with pytest.raises(UnknownName, match=r"^Unknown model 'cifar10/own'"):
        run.resume()
    assert run.state.status == "cancelled" and sum(row["done"] for row in table(run)) == 2


def test_a_model_that_vanishes_before_its_turn_fails_in_a_sentence(store, own):
    run = begun(store, "certify", CERTIFY | {"model": "cifar10/own"})
    own.unlink()
    assert runner.main([str(run.folder)]) == 1
    assert run.state.status == "failed" and run.state.message.startswith("Unknown model 'cifar10/own'")


def test_other_versions_are_not_mixed(store, monkeypatch):
    run = stopped_after(begun(store, "certify", CERTIFY), 2, monkeypatch)
    monkeypatch.setattr("explorer.__version__", "9.9")
    with run.locked():
        run.requeue()
    assert runner.main([str(run.folder)]) == 1
    assert "is of another run: code is" in run.state.message and run.state.message.endswith("Submit a new run.")


@pytest.mark.parametrize(
    ("kind", "settings", "part"),
    [
        ("certify", {}, "Unknown model ''"),
        ("certify", {"model": "cifar10/lenett"}, "Did you mean 'cifar10/lenet'?"),
        ("certify", CERTIFY | {"sgima": 1}, "Did you mean 'sigma'?"),
        ("certify", CERTIFY | {"sigma": 0}, "sigma must be a number in"),
        ("certify", CERTIFY | {"n": 5}, "n must be at least"),
        ("certify", CERTIFY | {"certificate": "crwon"}, "Did you mean 'crown'?"),
        ("certify", CERTIFY | {"weights": "0" * 64}, "The weights of cifar10/lenet have changed"),
        ("certify", CERTIFY | {"images": 9000, "shuffle": 1}, "images must be a whole number in [1, 2000]; got 9000."),
        ("evaluate", EVALUATE | {"attacks": [{"name": "pdg"}]}, "Did you mean 'pgd'?"),
        ("evaluate", EVALUATE | {"attacks": [{"name": "pgd", "hyper": {"stpes": 3}}]}, "Did you mean 'steps'?"),
        ("evaluate", EVALUATE | {"attacks": ["pgd"]}, "an attack must be a name with its hyper-parameters; got 'pgd'."),
        ("evaluate", EVALUATE | {"eps": ["x"]}, "eps must be a number or a fraction"),
        ("evaluate", EVALUATE | {"eps": 0.1}, "eps must be a list of at most 32; got 0.1."),
        ("evaluate", EVALUATE | {"eps": []}, "or attacks at one or more values of eps."),
        ("evaluate", EVALUATE | {"norm": "l7"}, "l7"),
        ("evaluate", EVALUATE | {"images": 0}, "images must be a whole number in [1, 10000]; got 0."),
    ],
)
def test_nonsense_is_refused_before_anything_is_submitted(store, kind, settings, part):
    with pytest.raises(ExplorerError) as refused:
        store.submit(spec_of(kind, settings))
    assert part in str(refused.value) and "\n" not in str(refused.value) and not store.runs()


def test_more_pictures_than_there_are(store, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    with pytest.raises(DataUnavailable, match="fewer than the 9,000 asked for"):
        Certify().checked(CERTIFY | {"images": 9000})


@pytest.mark.parametrize(
    ("values", "part"),
    [
        (
            {"kind": "duel", "settings": {}},
            "kind must be one of train, certify, evaluate, masking, transfer, tournament, adaptive, roc; got 'duel'.",
        ),
        ({"kind": "train"}, "must be an object that names a recipe"),
        ({"recipe": "baseline", "kind": "certify"}, "recipe must be named by a training"),
        ({"recipe": "baseline", "settings": {"n": 1}}, "settings must be left out by a training"),
        ({"kind": "certify", "settings": [1]}, "settings must be names with values"),
    ],
)
def test_a_spec_is_of_a_known_kind(values, part):
    with pytest.raises(InvalidValue, match=part):
        Spec.from_dict(values)


def test_an_old_spec_is_a_training():
    old = Spec("baseline", {"epochs": 2}).to_dict()
    del old["kind"], old["settings"]
    assert Spec.from_dict(old) == Spec("baseline", {"epochs": 2}) and Spec.from_dict(old).kind == "train"


def test_a_stop_inside_a_cell_is_heard(store, monkeypatch):
    """Between the draws of a certificate; the cell is not noted."""
    asked = []

    class Flag:
        def is_set(self):
            asked.append(1)
            return len(asked) > 2

    run = begun(store, "certify", CERTIFY)
    monkeypatch.setattr("explorer.jobs.run_process.RunProcess.stop", Flag())
    assert runner.main([str(run.folder)]) == 130 and table(run) == []
    with pytest.raises(Cancelled):
        Certify().questions(run.spec.settings, __import__("torch").device("cpu"), lambda: True)[0].make(0)
