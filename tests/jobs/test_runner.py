"""A run's own process: it trains, exports, measures and publishes; it stops when asked, and waits where the disk is full."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from explorer.core import Cancelled, InvalidValue
from explorer.jobs import Process, Run, Spec, Store, queue, run_process, runner, signals
from explorer.jobs.run_folder import RESERVE_BYTES, Taken
from explorer.jobs.run_process import RunProcess
from explorer.models import zoo
from tests.durability.kills import SPEC, make_small
from tests.jobs.conftest import SHORT


@pytest.fixture
def run(tmp_path):
    return Store(tmp_path / "runs").create(SHORT)


@pytest.fixture
def small(monkeypatch):
    """The bundled sample in place of the training set, and few images wherever many are looked at."""
    undo = make_small()
    yield
    for place, name, value in undo:
        setattr(place, name, value)


def full(path):
    return OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_run_trains_is_measured_and_joins_the_zoo(small, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path))
    made = Store().create(replace(SPEC, title="Mine", hyper=SPEC.hyper | {"epochs": 1}).checked())
    assert runner.main([str(made.folder)]) == 0, made.log()
    state = made.state
    assert (state.status, state.model) == ("finished", f"cifar10/baseline-smoke-{made.id[:6]}")
    assert re.fullmatch(r"Kept epoch 1 of 1: clean [0-9.]+ % of 10 held-out images\.", state.message)
    card = zoo.card(state.model)
    assert card.title == "Mine" and card.training["images"] == 40 and card.training["threads"] == 1
    assert [m["kind"] for m in card.measures] == ["clean", "white-box", "white-box", "white-box"]
    zoo.load(state.model)
    assert len(made.published()) == 3 and made.sights() == [0, 1]
    assert made.sight(1)["clean"].shape == (8, 3, 32, 32)
    assert {"versions", "commit", "device", "hardware", "threads", "precision"} <= made.environment.keys()
    assert [r["update"] for r in made.metrics()[0] if r["kind"] == "update"] == list(range(1, 11))
    with pytest.raises(InvalidValue, match="is finished"):
        made.resume()
    assert runner.main([str(made.folder)]) == 0 and made.state == state  # its process started once more does nothing
    taken = made.delete()
    assert state.model not in [card.name for card in zoo.cards()] and len(taken) == 4


@pytest.mark.parametrize("way", ["the file", "the signal"])
def test_a_stop_ends_what_does_not_look_after_a_moment(run, way, monkeypatch):
    """As in the middle of a long attack: nothing in it asks whether to stop."""
    monkeypatch.setattr(signals, "STOP_GRACE_S", 0.2)
    monkeypatch.setattr(signals, "STOP_AGAIN_S", 0.1)
    seen = []

    def attack(process):
        if way == "the file":
            (run.folder / "cancel").touch()
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except Cancelled:  # swallowed on its way, as a callback of a library may do
                seen.append(process.stop.is_set())
                if len(seen) == 2:
                    raise

    assert runner.main([str(run.folder)], attack) == 130
    assert (
        run.state.status == "cancelled"
        and run.state.message.startswith("It was stopped at once")
        and seen == [True, True]
    )


def test_a_stop_that_is_heard_in_time_is_the_work_s_own(run):
    def work(process):
        (run.folder / "cancel").touch()
        assert process.stop.wait(60)
        raise Cancelled("Training was stopped in epoch 2.")

    assert runner.main([str(run.folder)], work) == 130
    assert (run.state.status, run.state.message) == ("cancelled", "Training was stopped in epoch 2.")


def test_the_handlers_of_signals_are_put_back(run):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with RunProcess(run):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvalidValue("lr must be less."), "failed", "lr must be less."),
        (RuntimeError("CUDA out of memory. Tried\nmore"), "failed", "It ran out of memory: CUDA out of memory. Tried"),
        (MemoryError(), "failed", "It ran out of memory: choose a smaller batch"),
        (KeyError("x"), "failed", "KeyError: 'x'"),
    ],
)
def test_how_it_failed_is_said_in_a_sentence_and_in_full_in_the_log(run, error, status, message):
    def work(process):
        raise error

    assert runner.main([str(run.folder)], work) == 1
    assert (run.state.status, run.state.message) == (status, message)
    assert ("Traceback" in run.log()) is not isinstance(error, InvalidValue)


def test_a_full_disk_pauses_the_run_and_room_lets_it_go_on(run, monkeypatch):
    monkeypatch.setattr(run_process, "DISK_RETRY_S", 0.01)
    seen, left = [], [3]

    def write():
        seen.append(run.state.status)
        left[0] -= 1
        if left[0]:
            raise full(run.folder)
        return "written"

    def work(process):
        assert process.retry_when_full(write) == "written"
        assert run.state.status == "running"

    runner.main([str(run.folder)], work)
    assert seen == ["running", "paused", "paused"]
    assert "is full (No space left on device): the run waits and goes on by itself" in run.log()


def test_a_paused_run_can_be_cancelled(run):
    def work(process):
        threading.Timer(0.2, (run.folder / "cancel").touch).start()
        process.wait_for_room(full(run.folder))
        raise AssertionError("it went on")

    assert runner.main([str(run.folder)], work) == 130
    assert run.state.status == "cancelled" and "while the disk was full" in run.state.message


def test_the_state_is_written_on_a_full_disk_too(run, monkeypatch):
    """The reserve is given up for it."""
    from explorer.core.files import write_atomically

    assert (run.folder / "reserve").stat().st_size == RESERVE_BYTES

    def no_room(path, data):
        if (run.folder / "reserve").exists():
            raise full(path)
        write_atomically(path, data)

    monkeypatch.setattr("explorer.jobs.run_folder.write_atomically", no_room)
    run.update(status="paused")
    assert run.state.status == "paused"


STEPS_BEHIND = """
import os, sys, threading, types
from explorer.jobs.train import ProgressReport
over = threading.Event()
threading.Thread(target=over.wait, daemon=True).start()
process = types.SimpleNamespace(go_on=lambda: None)
now = types.SimpleNamespace(update=1, updates=4, epoch=0, epochs=1, held_out=None)
ProgressReport(process, in_background=sys.argv[1] == "behind")(now)
assert process.progress["message"] == "Trains: epoch 1 of 1."
threads = [int(t) for t in os.listdir("/proc/self/task")] if os.path.isdir("/proc/self/task") else [0]
print(len(threads), {os.getpriority(os.PRIO_PROCESS, t) for t in threads})
"""


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="this system has no niceness")
@pytest.mark.parametrize("how", ["behind", "in front"])
def test_a_run_in_the_background_lets_others_go_first_once_it_is_under_way(how):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run([sys.executable, "-c", STEPS_BEHIND, how], capture_output=True, text=True, check=False)
    count, levels = done.stdout.split(maxsplit=1)
    assert int(count) >= (2 if sys.platform == "linux" else 1), done.stderr
    assert levels.strip() == str({max(own, run_process.BACKGROUND_NICENESS) if how == "behind" else own})


def test_what_is_no_run_s_folder_is_refused(tmp_path, capsys):
    assert runner.main([str(tmp_path)]) == 2 and "is not the folder of a run" in capsys.readouterr().err
    assert runner.main([]) == 2 and "usage" in capsys.readouterr().err


def test_a_process_that_lost_its_run_changes_nothing(run):
    me = Process.of()
    queue.register(run, me)
    run.update(process=replace(me, start=1.0))  # somebody else's by now
    with pytest.raises(Taken):
        run.update(me, status="finished")
    assert queue.register(run, me).process == me  # the other one is gone
    run.update(process=Process.of(os.getppid()))
    with pytest.raises(Taken, match="has a process already"):
        queue.register(run, me)


def test_progress_is_the_heartbeat_s(run):
    run.update(status="running", message="It begins.")
    beat = {"update": 5, "updates": 10, "epoch": 0, "epochs": 1, "left": 3.0, "message": "Trains: epoch 1 of 1."}
    (run.folder / "heartbeat").write_text(json.dumps(beat))
    assert run.state.message == "Trains: epoch 1 of 1." and run.state.progress["left"] == 3.0
    (run.folder / "heartbeat").write_text("{")
    assert run.state.message == "It begins." and run.state.progress == {}
    assert "progress" not in json.loads((run.folder / "state.json").read_text())


def test_a_spec_of_several_processes_becomes_torchrun(tmp_path, monkeypatch):
    run = Store(tmp_path).create(Spec("baseline", device="cpu", processes=2))
    run.update(device="cuda:1,cuda:3")
    called = []
    monkeypatch.setattr(os, "execv", lambda program, words: called.extend(words))
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "")
    runner.become_torchrun(Run(run.folder))
    assert called[2] == "torch.distributed.run" and "--nproc-per-node=2" in called and called[-1] == str(run.folder)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,3"
    run.update(device="cuda:2,cuda:10")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(f"GPU-{n:x}" for n in range(5, 16))  # an administrator's choice
    runner.become_torchrun(Run(run.folder))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7,GPU-f"
