"""The job store: runs as others see them, started, found, cancelled, resumed, deleted; and folders that make no sense."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from explorer.core import DataUnavailable, ExplorerError, InvalidValue, UnknownName
from explorer.jobs import Process, Run, Spec, State, Store
from explorer.jobs import store as stores
from explorer.jobs.launch import Local, devices_of
from tests.durability.common import wait_for
from tests.jobs.conftest import LONG, SHORT


def kill(run):
    os.killpg(run.stored_state().process.pid, signal.SIGKILL)
    wait_for(lambda: not run.stored_state().process.alive(run.folder))


def test_a_run_has_a_session_of_its_own_and_ends(store, until):
    run = store.begin(replace(LONG, every=1.0))
    state = until(run, "running")
    assert os.getsid(state.process.pid) == state.process.pid != os.getsid(0)
    assert (run.folder / "heartbeat").exists() or run.refresh().status == "finished"
    assert until(run, "finished").model is None
    assert [one.id for one in store.runs()] == [run.id] and store.run(run.id[:5]).id == run.id
    assert "Attempt 1" in run.log()


def test_a_killed_run_is_interrupted_and_goes_on_once(store, until):
    run = store.begin(LONG)
    until(run, "running")
    kill(run)
    assert store.runs()[0].state.status == "interrupted" and "without a word" in run.state.message
    answers = []

    def resume():
        try:
            Store(store.root, local=store.local).run(run.id).resume()
            answers.append("resumed")
        except InvalidValue as error:
            answers.append(str(error))

    threads = [threading.Thread(target=resume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count("resumed") == 1 and sum("only one that was stopped can go on" in text for text in answers) == 3
    assert until(run, "running").attempt == 2


def test_one_that_waits_is_told_for_whom_and_can_be_cancelled_and_started_again(store, until):
    first = store.begin(LONG)
    until(first, "running")
    second = store.begin(LONG)
    wait_for(lambda: first.id in second.state.message)
    assert second.state.status == "queued"
    pid = second.state.process.pid
    kill(second)
    store.tend()
    wait_for(lambda: second.refresh().process.pid != pid)
    assert second.state.status == "queued" and second.state.attempt == 1  # started again, in its old place
    second.cancel()
    assert until(second, "cancelled").message == "It was cancelled before its turn came."
    first.cancel()
    assert until(first, "cancelled")
    with pytest.raises(InvalidValue, match="is cancelled: there is nothing to cancel"):
        first.cancel()


def test_to_look_starts_nothing_and_to_tend_starts_what_waits_without_a_process(store, until):
    run = store.create(SHORT)
    before = run.stored_state()
    assert store.run(run.id).state == store.runs()[0].state == run.refresh() == before
    assert (before.status, before.process, before.launches) == ("queued", None, 0)
    assert [one.id for one in store.tend()] == [run.id] and run.stored_state().launches == 1
    assert until(run, "finished").attempt == 1


def test_whoever_submits_starts_what_lost_its_process_while_it_waited(store, until, monkeypatch):
    monkeypatch.setattr("explorer.data.loading.check", lambda name, split: None)
    lost = store.create(SHORT)
    store.submit(SHORT)
    assert until(lost, "finished")


def test_another_device_is_free(tmp_path):
    store = Store(tmp_path)
    states = [
        State("running", device=devices, process=Process.of())
        for devices in ("cuda:0,cuda:1", "cuda:1", "cpu", "cuda:2")
    ]
    holder = states[0]
    assert [bool(holder.devices & other.devices) for other in states[1:]] == [True, False, False]
    assert devices_of(SHORT, ["cpu"] * 3) == "cpu" and store.runs() == []


def test_of_equally_free_gpus_runs_get_the_last_and_the_app_keeps_the_first(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 12)
    asked = Spec("baseline", device="cuda")
    assert devices_of(asked, []) == "cuda:11" and devices_of(asked, ["cuda:11"]) == "cuda:10"
    assert devices_of(Spec("baseline", device="cuda", processes=10), []).split(",")[:2] == ["cuda:2", "cuda:3"]


def test_one_that_does_not_stop_is_ended_with_its_whole_group_and_no_other_process_is(store):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    stubborn = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    try:
        for process in (stubborn, other):
            process.stdout.readline()
        run = store.create(SHORT)
        run.update(status="running", process=Process.of(stubborn.pid))
        impostor = store.create(SHORT)
        impostor.update(status="running", process=replace(Process.of(other.pid), start=1.0))
        for one in (run, impostor):
            one.cancel() if one is run else (one.folder / "cancel").touch()
            os.utime(one.folder / "cancel", (0, 0))
            one.refresh()
            assert (stubborn if one is run else other).poll() is None  # to look ends nothing
            one.tend()
        assert stubborn.wait(30) == -signal.SIGKILL and other.poll() is None
        assert run.refresh().status == impostor.state.status == "cancelled"
    finally:
        for process in (stubborn, other):
            process.kill()
            process.wait()
            process.stdout.close()


DAMAGE = {
    "no state": lambda folder: (folder / "state.json").unlink(),
    "no spec": lambda folder: (folder / "spec.json").unlink(),
    "half a state": lambda folder: (folder / "state.json").write_bytes((folder / "state.json").read_bytes()[:30]),
    "bytes": lambda folder: (folder / "state.json").write_bytes(b"\xff\x00\xfe"),
    "a list": lambda folder: (folder / "spec.json").write_text("[1, 2]"),
    "unknown status": lambda folder: edit(folder / "state.json", status="done"),
    "wrong type": lambda folder: edit(folder / "state.json", order="first"),
    "no process": lambda folder: edit(folder / "state.json", process={"pid": "1"}),
    "unknown field": lambda folder: edit(folder / "spec.json", colour="red"),
    "wrong device": lambda folder: edit(folder / "spec.json", device="../../etc"),
    "wrong values": lambda folder: edit(folder / "spec.json", hyper=3),
    "unknown recipe": lambda folder: edit(folder / "spec.json", recipe="alchemy"),
    "a folder": lambda folder: ((folder / "state.json").unlink(), (folder / "state.json").mkdir()),
    "deep": lambda folder: (folder / "state.json").write_text("[" * 100_000),
}


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_edited_by_hand_is_shown_as_unreadable_and_left_alone(damage, tmp_path):
    import explorer.defenses  # noqa: F401  # an app has; then a recipe that is known no more is noticed

    store = Store(tmp_path)
    good, bad = store.create(SHORT), store.create(SHORT)
    good.update(status="finished")
    DAMAGE[damage](bad.folder)
    before = sorted(path.name for path in bad.folder.iterdir())
    states = {run.id: run.state for run in store.runs()}
    assert states[good.id].status == "finished"
    assert states[bad.id].status == "unreadable" and states[bad.id].message.startswith("unreadable: ")
    assert sorted(path.name for path in bad.folder.iterdir()) == before
    bad.metrics(), bad.log(), bad.sights(), bad.environment, bad.published()
    with pytest.raises(ExplorerError):
        bad.resume()
    store.create(SHORT)  # others are not kept from starting


def test_an_unreadable_run_can_still_be_deleted(tmp_path):
    store = Store(tmp_path)
    run = store.create(SHORT)
    (run.folder / "spec.json").unlink()
    assert run.delete() == [run.folder] and not run.folder.exists()


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "", "abc", "%2e%2e", "a\0bcdefghijk", "A" * 12, None, 3, "zoo", ".lock"]
)
def test_a_name_that_is_no_id_leads_nowhere(name, tmp_path):
    store = Store(tmp_path / "runs")
    store.create(SHORT)
    with pytest.raises(UnknownName):
        store.run(name)


def test_delete_removes_the_run_and_its_model_and_follows_no_link(tmp_path, store, until):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("mine")
    run = store.begin(LONG)
    until(run, "running")
    with pytest.raises(InvalidValue, match="is running: cancel it before"):
        run.delete()
    kill(run)
    (run.folder / "link").symlink_to(outside)
    models = store.zoo / "cifar10"
    models.mkdir(parents=True)
    for name in ("mine.json", "mine.safetensors", "mine.features.safetensors", "other.json"):
        (models / name).write_text("{}")
    run.refresh()
    run.update(status="finished", model="cifar10/mine")
    assert [path.name for path in run.delete()] == [
        "mine.json",
        "mine.safetensors",
        "mine.features.safetensors",
        run.id,
    ]
    assert (outside / "thesis.txt").read_text() == "mine" and [path.name for path in models.iterdir()] == ["other.json"]
    assert store.runs() == [] and not list(store.root.glob(".trash*"))
    (store.root / "abcdefghijkl").symlink_to(outside)
    assert store.runs() == []


@pytest.mark.parametrize("model", ["../../x", "/etc/passwd", "cifar10/../../x", "cifar10/x\n"])
def test_a_model_s_name_edited_by_hand_removes_nothing_elsewhere(model, tmp_path):
    run = Store(tmp_path / "runs").create(SHORT)
    run.update(status="finished", model=model)
    (tmp_path / "x.json").write_text("{}")
    run.delete()
    assert (tmp_path / "x.json").exists()


def test_a_store_that_cannot_be_written_is_shown_and_says_so_once(tmp_path, monkeypatch):
    there = Store(tmp_path)
    done, dead = there.create(SHORT), there.create(SHORT)
    done.update(status="finished")
    dead.update(status="running", process=replace(Process.of(), start=1.0))
    store = Store(tmp_path)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store.lock, "acquire", refuse)
    assert {run.id: run.refresh().status for run in store.runs()} == {done.id: "finished", dead.id: "interrupted"}
    for change in (lambda: store.begin(SHORT), dead.resume, lambda: store.run(done.id).delete()):
        if change == dead.resume:
            change = store.run(dead.id).resume
        with pytest.raises(InvalidValue, match=r"folder .* cannot be written: Read-only file system\.$"):
            change()
    assert len(store.runs()) == 2


def test_what_cannot_be_started_says_so_and_is_not_tried_for_ever(tmp_path, until):
    store = Store(tmp_path, local=Local((sys.executable, "-c", "import nothing_of_this_name")))
    run = store.begin(SHORT)
    assert until(run, "failed").message == "Its process could not be started; the log says more."
    assert run.log().count("ModuleNotFoundError") == stores.MAX_LAUNCHES


def test_what_a_kill_left_half_made_is_nobody_s_run(tmp_path):
    (tmp_path / ".new-abcdefghijkl").mkdir()
    (tmp_path / ".trash-abcdefghijkl").mkdir()
    store = Store(tmp_path)
    assert store.runs() == []
    store.create(SHORT)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".lock"]


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"recipe": "basline"}, "Did you mean 'baseline'?"),
        ({"hyper": {"epohs": 3}}, "Did you mean 'epochs'?"),
        ({"hyper": {"epochs": 0}}, r"epochs must be a whole number in \[1, 1000\]"),
        ({"hyper": {"epochs": "many"}}, "epochs must be a whole number"),
        ({"hyper": {"start": "cifar10/nobody"}}, "Unknown model 'cifar10/nobody'"),
        ({"name": "fashion_mnist/x"}, "name must be cifar10/"),
        ({"name": "cifar10/baseline"}, "called cifar10/baseline already"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_before_anything_starts(wrong, part, tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.data.loading.check", lambda name, split: None)
    store = Store(tmp_path / "runs")
    with pytest.raises(ExplorerError, match=part):
        store.submit(replace(SHORT, **wrong))
    assert store.runs() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipe": 3}, {"hyper": "epochs=3"}, {"hyper": {3: 4}}, {"device": "gpu"}, {"device": None}, {"processes": 0},
        {"processes": True}, {"processes": 2, "device": "cuda:1"}, {"threads": "2"}, {"precision": "float8"}, {"limit": 0},
        {"smoke": 1}, {"every": -1.0}, {"every": float("nan")}, {"title": "a\nb"}, {"title": "x" * 1000}, {"place": "moon"},
    ],
)  # fmt: skip
def test_wrong_types_are_refused_by_name(wrong):
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        Spec(**{"recipe": "baseline"} | wrong)


def test_without_the_training_set_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    store = Store(tmp_path)
    with pytest.raises(DataUnavailable, match="data download cifar10"):
        store.submit(SHORT)
    assert store.runs() == []


def test_a_spec_keeps_every_value_and_a_clone_gets_a_name_of_its_own():
    spec = Spec("baseline", {"epochs": 3}, name="cifar10/mine").checked()
    assert spec.hyper["lr"] == 0.2 and Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    clone = spec.clone(hyper={**spec.hyper, "epochs": 4})
    assert (clone.name, clone.build().epochs, clone.build().lr) == (None, 4, 0.2)
    assert clone.model_name("abcdefghijkl") == "cifar10/baseline-abcdef"


def test_a_process_of_another_computer_lives_as_long_as_its_heart_beats(tmp_path):
    elsewhere = Process(pid=1, start=1.0, boot="another", host="another")
    assert not elsewhere.alive(tmp_path)
    (tmp_path / "heartbeat").touch()
    assert elsewhere.alive(tmp_path)
    os.utime(tmp_path / "heartbeat", (0, 0))
    assert not elsewhere.alive(tmp_path)
    (tmp_path / "heartbeat").touch()
    assert not replace(Process.of(), boot="the boot before").alive(tmp_path)  # this computer, booted again
    assert Process.of().alive(tmp_path)


def test_looking_at_a_store_needs_no_torch(tmp_path):
    run = Store(tmp_path).create(SHORT)
    code = (
        "import sys; from pathlib import Path; from explorer.jobs import Store, runner, queue\n"
        f"run = Store(Path({str(tmp_path)!r})).run({run.id!r})\n"
        "run.metrics(), run.log(), run.sights(), run.state\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    run.update(status="cancelled")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=stores.__file__.rsplit("/explorer/", 1)[0], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_metrics_come_by_whole_lines_and_from_where_they_were_left(tmp_path):
    run = Run(tmp_path)
    assert run.metrics() == ([], 0)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b"')
    assert run.metrics() == ([{"a": 1}], 9)
    path.write_bytes(b'{"a": 1}\n{"b": 2}\n')
    assert run.metrics(9) == ([{"b": 2}], 18)
