"""The Training page without a browser: its form, its runs in every state, what it may and may not do, and what it reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer.defenses import GROUPS, RECIPES
from explorer.jobs import STATUSES, Guard, Process, Run, Spec, Store
from explorer.jobs.access import PASSWORD
from explorer.jobs.launch import Local
from explorer.training.metrics import newest
from explorer.ui import session
from explorer.ui.run_record import Record, Seen, interval
from explorer.ui.text import training as training_words
from explorer.ui.training import acts, choice, pulse, runs, watch
from tests.ui.app import open_page, press, texts

from .made_up_runs import made_up, record, sights


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    """An empty store, which the app finds, too."""
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv(PASSWORD, raising=False)
    session.store.clear()
    watch.records.clear()
    yield Store(tmp_path / "runs")
    session.store.clear()


@pytest.fixture
def started(monkeypatch) -> list[Path]:
    """Folders whose process would have been started; they count as alive."""
    folders: list[Path] = []

    def start(self, folder, spec):
        folders.append(folder)
        return {"process": Process.of(os.getpid())}

    monkeypatch.setattr(Local, "start", start)
    monkeypatch.setattr(Local, "stop", lambda self, folder, state, hard: None)
    monkeypatch.setattr("explorer.data.loading.check", lambda name, split: None)
    return folders


def open_app(**query: str) -> AppTest:
    return open_page("training", query)


def here() -> Process:
    return Process.of(os.getpid())


# The page


def test_without_runs_the_page_says_how_to_begin_and_makes_no_folder(store):
    app = open_app()
    assert not app.exception
    assert "Nothing has been trained here yet" in texts(app)
    assert not store.root.exists()


def test_recipes_stand_in_their_groups_with_idea_formula_and_source(store):
    app = open_app()
    groups = [option.rpartition(" · ")[2] for option in app.selectbox(key="training.recipe").options]
    assert groups == sorted(groups, key=GROUPS.index) and len(groups) == len(RECIPES)
    for entry in RECIPES:
        assert (
            entry.group in GROUPS
            and entry.cls.formula
            and entry.cls.explanation
            and (entry.paper or entry.group == "no defence")
        )
        app.selectbox(key="training.recipe").set_value(entry.key).run()
        assert not app.exception
        assert entry.cls.explanation in texts(app) and entry.paper in texts(app)
        assert app.latex[0].value.strip("$ \n") == entry.cls.formula


def test_a_smoke_run_fills_the_form_with_its_small_values_and_takes_them_out_again(store):
    app = open_app()
    assert app.number_input(key="train.baseline.epochs").value == 40
    app.toggle(key="training.smoke").set_value(True).run()
    assert app.number_input(key="train.baseline.epochs").value == RECIPES["baseline"].smoke["epochs"]
    app.number_input(key="train.baseline.width").set_value(12).run()
    app.toggle(key="training.smoke").set_value(False).run()
    assert app.number_input(key="train.baseline.epochs").value == 40
    assert app.number_input(key="train.baseline.width").value == 12  # somebody's own choice stays


def test_start_submits_what_the_form_says_and_shows_the_run(store, started):
    app = open_app()
    app.toggle(key="training.smoke").set_value(True).run()
    app.number_input(key="train.baseline.seed").set_value(7).run()
    app.text_input(key="training.title").set_value("Our first net").run()
    press(app, "training.start")
    assert not app.exception
    (run,) = store.runs()
    assert started == [run.folder]
    assert (run.spec.recipe, run.spec.smoke, run.spec.name) == ("baseline", True, "cifar10/our-first-net")
    assert run.spec.title == "Our first net" and run.spec.hyper["seed"] == 7 and run.spec.hyper["width"] == 8
    assert app.query_params["run"] in (run.id, [run.id])
    assert "Our first net" in texts(app) and "waiting" in texts(app)
    app.text_input(key="training.title").set_value("Our first net").run()
    press(app, "training.start")
    assert "choose another name" in texts(app) and len(store.runs()) == 1


def test_a_run_is_called_by_recipe_and_time_if_nobody_names_it(store, started):
    app = open_app()
    press(app, "training.start")
    (run,) = store.runs()
    assert run.spec.title.startswith("Baseline (") and run.spec.name is None


@pytest.mark.parametrize(
    ("status", "buttons", "word"),
    [
        ("queued", {"cancel", "clone"}, "waiting"),
        ("running", {"cancel", "clone"}, "running"),
        ("paused", {"cancel", "clone"}, "the disk is full"),
        ("interrupted", {"resume", "clone", "delete"}, "interrupted"),
        ("cancelled", {"resume", "clone", "delete"}, "cancelled"),
        ("failed", {"resume", "clone", "delete"}, "lower the learning rate"),
        ("finished", {"attack", "clone", "delete"}, "finished"),
    ],
)
def test_each_state_is_told_and_offers_what_can_be_done(store, status, buttons, word):
    more = {"process": here(), "device": "cpu"} if status in ("queued", "running", "paused") else {}
    more |= {"message": {"failed": "lower the learning rate", "paused": "the disk is full"}.get(status, "")}
    more |= {"model": "cifar10/baseline"} if status == "finished" else {}
    made_up(store, status, done=2.5, **more)
    app = open_app()
    assert not app.exception
    there = {b.key.removeprefix("training.") for b in app.button if b.key and b.key.startswith("training.")}
    assert there - {"start", "cost.ask"} == buttons
    assert word in texts(app)
    assert "n = 1,000" in texts(app) and "n = 500" in texts(app)  # robust accuracy is made on half of them
    assert "robust: under an attack with the steps and the eps of the settings" in texts(app)


def test_several_runs_are_overlaid_and_compared(store):
    a = made_up(store, "finished", seed=1, hyper={"eps": 4 / 255, "lr": 0.05})
    b = made_up(store, "cancelled", seed=2, done=3)
    app = open_app(run=f"{a.id},{b.id}")
    assert not app.exception
    said = texts(app)
    assert "| eps | 0.01569 | 0.03137 |" in said and "Compared" in said
    assert "| peak learning rate | 0.05 | 0.1 |" in said  # as the form calls it
    assert "| momentum |" not in said  # it is the same
    app.checkbox(key=f"training.show.{b.id}").set_value(False).run()
    assert "Compared" not in texts(app) and a.id in str(app.query_params["run"])


def test_no_more_runs_are_overlaid_than_can_be_told_apart(store):
    runs = [made_up(store, "finished", done=0, epochs=1) for _ in range(acts.AT_MOST + 1)]
    app = open_app(run=",".join(run.id for run in runs[:-1]))
    app.checkbox(key=f"training.show.{runs[-1].id}").set_value(True).run()
    assert not app.exception
    assert f"At most {acts.AT_MOST}" in texts(app) and not app.checkbox(key=f"training.show.{runs[-1].id}").value


def test_a_clone_fills_the_form(store, started):
    run = made_up(store, "cancelled", done=1, hyper={"eps": 2 / 255, "inner_steps": 3}, title="Weak")
    app = open_app()
    press(app, "training.clone")
    assert app.selectbox(key="training.recipe").value == "pgd-linf"
    assert app.number_input(key="train.pgd-linf.inner_steps").value == 3
    assert "settings of Weak" in texts(app)
    press(app, "training.start")
    other = next(r for r in store.runs() if r.id != run.id)
    assert other.spec.hyper == run.spec.hyper and other.spec.title != "Weak"


def test_cancel_resume_and_delete_reach_the_run(store, started):
    run = made_up(store, "running", done=1.5, process=here())
    app = open_app()
    press(app, "training.cancel")
    assert run.stopping and app.button(key="training.cancel").disabled
    run.update(status="cancelled", process=None)
    app.run()
    press(app, "training.resume")
    assert run.state.status == "queued" and started == [run.folder]
    run.update(status="cancelled", process=None)
    app.run()
    press(app, "training.delete")
    assert not run.folder.exists() and not app.exception and "Nothing has been trained" in texts(app)
    assert [json.loads(line)["action"] for line in (store.root / "audit.jsonl").read_text().splitlines()] == [
        "cancel", "resume", "delete"]  # fmt: skip


def test_runs_that_measure_stand_apart_and_can_be_cancelled_resumed_and_opened(store, started):
    settings = {"model": "cifar10/lenet", "images": 10, "n0": 10, "n": 50, "shuffle": 3}
    run = store.create(Spec(kind="certify", settings=settings, device="cpu").checked())
    run.update(status="running", process=here())
    (run.folder / "heartbeat").write_text(
        json.dumps({"pictures": 4, "of": 10, "left": 65.0, "message": "Certifies: 4 of 10."})
    )
    app = open_app()
    assert "Nothing has been trained here yet" in texts(app) and f"Certify cifar10/lenet · {run.id[:6]}" in texts(app)
    assert "Certifies: 4 of 10. About 1 min 5 s left." in texts(app)
    press(app, f"training.cancel.{run.id}")
    assert run.stopping
    run.update(status="cancelled", process=None)
    press(app.run(), f"training.resume.{run.id}")
    assert run.state.status == "queued" and started == [run.folder]
    run.update(status="finished", message="L2 radius 0.00: 40.0 % of 10.", process=None)
    assert "L2 radius 0.00: 40.0 % of 10." in texts(app.run())
    press(app, f"training.open.{run.id}")
    assert not app.exception and app.query_params["view"] == "set" and app.session_state["certify.shuffle"] == 3


def test_a_finished_model_is_attacked_on_the_attack_page(store):
    made_up(store, "finished", recipe="baseline", model="cifar10/baseline")
    app = open_app()
    press(app, "training.attack")
    assert not app.exception
    assert app.session_state["model"] == "cifar10/baseline" and "future" in app.session_state
    assert any(b.key in ("begin", "cancel") for b in app.button)


def test_what_a_run_costs_is_timed_when_asked_and_told_with_its_conditions(store):
    app = open_app()
    app.toggle(key="training.smoke").set_value(True).run()
    for name, value in (("width", 4), ("batch", 8), ("epochs", 3)):
        app.number_input(key=f"train.baseline.{name}").set_value(value).run()
    assert "Not measured yet" in texts(app)
    press(app, "training.cost.ask")
    assert app.session_state["training.cost"].wait(60)
    app.run()
    assert not app.exception
    said = texts(app)
    assert (
        "An estimate from 4 timed updates" in said
        and "in all: 3 epochs of " in said
        and "held-out scoring included" in said
    )
    app.number_input(key="train.baseline.batch").set_value(16).run()
    assert "Not measured yet" in texts(app)  # it was another run's


# Who may


def guarded(store, monkeypatch, password: str | None):
    open_to_all = Store(store.root, guard=Guard("0.0.0.0"))
    for part in (acts, choice, pulse, runs):
        monkeypatch.setattr(part, "store", lambda: open_to_all)
    if password:
        monkeypatch.setenv(PASSWORD, password)


def test_on_an_open_address_the_password_is_asked_for_and_checked(store, started, monkeypatch):
    guarded(store, monkeypatch, "swordfish")
    app = open_app()
    press(app, "training.start")
    assert "needs the instructor's password" in texts(app) and not store.runs()
    app.text_input(key="training.password").set_value("salmon").run()
    press(app, "training.start")
    assert "not the instructor's password" in texts(app) and not store.runs()
    app.text_input(key="training.password").set_value("swordfish").run()
    press(app, "training.start")
    assert len(store.runs()) == 1
    tried = [json.loads(line) for line in (store.root / "audit.jsonl").read_text().splitlines()]
    assert [line["allowed"] for line in tried] == [False, False, True] and all(line["who"] for line in tried)
    assert "swordfish" not in (store.root / "audit.jsonl").read_text()


def test_without_a_password_set_the_sentence_says_how_to_set_it(store, started, monkeypatch):
    guarded(store, monkeypatch, None)
    app = press(open_app(), "training.start")
    assert PASSWORD in texts(app) and not store.runs()


def test_on_this_computer_alone_nothing_is_asked(store):
    app = open_app()
    assert not [t for t in app.text_input if t.key == "training.password"]


def test_the_guard_knows_the_address_that_the_app_listens_on(store):
    assert session.store().guard.address == "127.0.0.1" and not session.store().guard.needed  # .streamlit/config.toml


# What goes wrong


def test_a_run_deleted_by_somebody_else_is_said_and_the_page_goes_on(store):
    kept, gone = (made_up(store, "finished", recipe="baseline", seed=k) for k in (1, 2))
    app = open_app(run=f"{kept.id},{gone.id}")
    shutil.rmtree(gone.folder)
    press(app, "training.clone")
    assert not app.exception and "not there any more" in texts(app)
    assert f"training.show.{gone.id}" not in [c.key for c in app.checkbox]


def test_acting_on_a_run_that_has_vanished_is_one_sentence(store):
    run = made_up(store, "cancelled", done=1)
    app = open_app()
    shutil.rmtree(run.folder)
    press(app, "training.resume")
    assert not app.exception and "Unknown run" in texts(app)


def test_files_that_vanish_while_the_page_is_drawn_do_not_break_it(store, monkeypatch):
    run = made_up(store, "finished", recipe="baseline")
    read = Run.metrics

    def read_then_lose(self, offset=0):
        found = read(self, offset)
        shutil.rmtree(run.folder, ignore_errors=True)
        return found

    monkeypatch.setattr(Run, "metrics", read_then_lose)
    assert not open_app().exception


@pytest.mark.parametrize("name", ["spec.json", "state.json"])
def test_an_unreadable_run_is_told_and_can_be_deleted(store, name):
    run = made_up(store, "finished", recipe="baseline")
    (run.folder / name).write_text("{")
    app = open_app()
    assert not app.exception and "unreadable" in texts(app) and name in texts(app)
    assert "training.resume" not in [b.key for b in app.button]
    press(app, "training.delete")
    assert not app.exception and not run.folder.exists()


def test_a_damaged_sight_is_told(store):
    run = made_up(store, "finished", recipe="baseline")
    (run.folder / "sights" / "epoch-0006.npz").write_bytes(b"PK\x03\x04 nothing")
    app = open_app()
    assert not app.exception and "epoch 6 cannot be read" in texts(app)


def test_a_run_of_a_recipe_that_is_not_known_any_more_is_shown(store):
    run = made_up(store, "finished", recipe="baseline")
    spec = json.loads((run.folder / "spec.json").read_text()) | {"recipe": "forgotten"}
    (run.folder / "spec.json").write_text(json.dumps(spec))
    app = open_app()
    assert not app.exception and "training.clone" not in [b.key for b in app.button]


def test_missing_images_are_one_sentence(store, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_DATA", str(tmp_path))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    app = press(open_app(), "training.start")
    assert not app.exception and "data download cifar10" in texts(app) and not store.runs()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_store_that_cannot_be_written_is_one_sentence(store, started):
    store.root.mkdir()
    store.root.chmod(0o500)
    try:
        app = press(open_app(), "training.start")
        assert not app.exception and "cannot be written" in texts(app)
    finally:
        store.root.chmod(0o700)


def test_a_store_whose_place_is_taken_by_a_file_is_one_sentence(store, started):
    store.root.write_text("not a folder")
    app = press(open_app(), "training.start")
    assert not app.exception and "cannot be written" in texts(app)


# Looking again


def test_a_change_on_disk_is_seen_and_rest_is_not(store):
    run = made_up(store, "running", done=2, process=here())
    session.store.clear()
    live = [Seen.of(run)]
    before = pulse._signs(live, live)
    assert pulse._signs(live, live) == before
    (run.folder / "heartbeat").write_text("{}")
    os.utime(run.folder / "heartbeat")
    assert pulse._signs(live, live) == before  # being alive is no news
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write("{}\n")
    assert pulse._signs(live, live) != before
    before = pulse._signs(live, live)
    made_up(store, "finished", done=0)
    assert pulse._signs(live, live) != before  # somebody else's


@pytest.mark.parametrize(
    ("message", "soon"), [("Reads the training images.", True), ("Waits for cpu: run a comes first.", False)]
)
def test_until_its_first_record_a_run_has_the_processor_to_itself(store, message, soon):
    """Its images and its log are drawn then, and looked at; one that waits in the queue can show them."""
    run = made_up(store, "running" if soon else "queued", done=0, process=here(), device="cpu", message=message)
    sights(run, 0, np.random.default_rng(0), 0.0)
    session.store.clear()
    live = [Seen.of(run)]
    assert pulse.begins(live[0]) is soon
    app, before = open_app(), pulse._signs(live, live)
    assert not app.exception and message in texts(app)
    assert ("What its loss sees" in texts(app)) is not soon
    with open(run.folder / "log.txt", "a") as log:
        log.write("A line.\n")
    assert (pulse._signs(live, live) == before) is soon
    record(run, 6, 0.1, 0, robust=False)
    assert pulse._signs(live, live) != before and not pulse.begins(live[0])
    assert "What its loss sees" in texts(app.run())


def test_runs_that_have_ended_are_not_looked_at(store, monkeypatch):
    seen = Seen.of(made_up(store, "finished", recipe="baseline"))
    looked = []
    monkeypatch.setattr(pulse, "_sign", lambda path: looked.append(path))
    pulse._signs([], [seen])
    assert looked == [store.root]


# What is read


def test_the_record_is_what_the_newest_lines_say(store):
    run = made_up(store, "cancelled", epochs=4, done=2.5)
    path = run.folder / "metrics.jsonl"
    read = Record()
    read.look(run)
    lines = [
        {"kind": "start", "update": 90, "epoch": 2, "updates": 160, "epochs": 4, "held_out": 1000},
        *({"kind": "update", "update": u, "epoch": 3, "loss": 9.0 + u, "learning_rate": 0.1, "images_per_second": 1.0,
           "seconds": 0.3 * u, "memory": None} for u in range(91, 96)),
    ]  # fmt: skip
    with open(path, "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    read.look(run)
    expected = [row for row in newest(run.metrics()[0]) if row["kind"] == "update"]
    curves = read.curves("it")
    assert list(curves.update) == [row["update"] for row in expected] == list(range(1, 96))
    assert list(curves.loss) == [row["loss"] for row in expected]
    now = read.standing()
    assert (now.update, now.updates, now.epoch, now.epochs) == (95, 160, 2, 4) and np.isnan(now.memory)
    assert now.left == pytest.approx(65 * np.mean(np.diff([row["seconds"] for row in expected][-21:])))


def test_a_file_that_became_shorter_is_read_anew(store):
    run = made_up(store, "cancelled", done=2)
    read = Record()
    read.look(run)
    record(run, 6, 1, 9, robust=True)
    read.look(run)
    assert read.standing().update == 40


def test_lines_that_nobody_of_ours_wrote_are_passed_over(store):
    run = made_up(store, "cancelled", done=1)
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write(
            '[1]\n{"kind": "update"}\n{"kind": "update", "update": "7"}\nnonsense\n{"kind": "epoch", "update": 3}\n{"half'
        )
    read = Record()
    read.look(run)
    assert read.standing().update == 40


def test_the_best_epoch_is_the_one_that_is_kept(store):
    run = made_up(store, "cancelled", done=0, recipe="baseline")
    scored = {1: (0.3, 0.3), 2: (0.5, 0.5), 3: (0.4, 0.5)}  # clean, score
    rows = [{"kind": "epoch", "epoch": e, "update": 40 * e, "clean": c, "score": s} for e, (c, s) in scored.items()]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = Record()
    read.look(run)
    assert read.standing().best == {"clean": 0.4, "epoch": 3} and read.standing().scores == {"clean": 0.4}


def test_decisions_are_read_once_and_a_damaged_one_is_left_out(store, monkeypatch):
    run = made_up(store, "cancelled", done=3)
    (run.folder / "sights" / "epoch-0001.npz").write_bytes(b"")
    read, opened = Record(), []
    sight = Run.sight
    monkeypatch.setattr(Run, "sight", lambda self, epoch: opened.append(epoch) or sight(self, epoch))
    for _ in range(2):
        epochs, clean, seen = read.decisions(run)
        assert list(epochs) == [0, 2, 3] and clean.shape == seen.shape == (3, 8, 10)
    assert [opened.count(epoch) for epoch in (0, 2, 3)] == [1, 1, 1]


# Words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (180_000, "2 d 2 h"),
        (float("nan"), "unknown"),
    ],
)
def test_durations_are_told_in_two_units(seconds, said):
    assert training_words.duration(seconds) == said


def test_a_share_is_told_with_its_interval_and_images():
    assert interval(0.5, 1000) == "46.9–53.1, n = 1,000" and interval(0.5, None) == interval(float("nan"), 9) == ""


def test_only_what_differs_is_compared():
    rows = training_words.differing({"a": {"lr": 0.1, "seed": 1}, "b": {"lr": 0.2, "seed": 1, "sigma": 0.5}})
    assert rows == {"lr": {"a": "0.1", "b": "0.2"}, "sigma": {"a": "–", "b": "0.5"}}


def test_every_status_of_a_run_has_its_badge():
    assert {*STATUSES, "unreadable"} == training_words.STATUS.keys()
    assert len({icon for _, icon, _ in training_words.STATUS.values()}) == len(training_words.STATUS)


def test_a_run_is_a_film_and_a_tape_of_the_held_out_images(store):
    made_up(store, "finished")
    app = open_app()
    assert not app.exception and "Watch it learn" in [one.value for one in app.header]
    said = "\n".join(one.value for one in app.caption)
    assert "7 slices through one held-out picture" in said and "eps is 8/255" in said
    assert "Of 1,000 held-out pictures" in said and "Of 500 that are attacked" in said


def test_what_a_recipe_warns_of_stands_over_its_film(store):
    run = made_up(store, "running")
    path = run.folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows[-1]["remark"] = "Catastrophic overfitting since epoch 6."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    app = open_app()
    assert any("Catastrophic overfitting since epoch 6." in one.value for one in app.warning)
