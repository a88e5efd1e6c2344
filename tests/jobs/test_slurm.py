"""Runs on a Slurm cluster: what is asked for, what its words mean, and, with a real Slurm, what a run survives there."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from explorer.cli import main
from explorer.core import InvalidValue, UnknownName
from explorer.jobs import Run, Spec, State, Store, slurm, slurm_commands
from explorer.jobs.slurm import Options, Slurm
from explorer.jobs.slurm_commands import JobStatus
from explorer.jobs.state import Process
from tests.jobs.cluster import Cluster, why_not

COUNT = 40  # numbers, 33 a second
SOON = 30.0  # seconds until what must happen has happened, on a slow computer


# -- without a cluster


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": "4"},
        {"time": "soon"},
        {"time": "1:2:3:4"},
        {"partition": "debug\nrm -rf ~"},
        {"account": "a b"},
        {"memory": "$(id)"},
        {"nodes": 0},
        {"gpus": -1},
    ],
)
def test_options_that_sbatch_must_not_see_are_refused(wrong):
    with pytest.raises(InvalidValue, match=f"{next(iter(wrong))} must be"):
        Options.from_dict(wrong)


def test_options_are_known_by_name_and_processes_are_shared_evenly_among_nodes():
    with pytest.raises(UnknownName, match="Did you mean 'partition'"):
        Options.from_dict({"partitio": "x"})
    with pytest.raises(InvalidValue, match="the same number on each of 2 nodes; got 3"):
        slurm.check(Spec("baseline", place="slurm", processes=3, cluster={"nodes": 2}))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("90", 90), ("5:30", 5.5), ("1:30:00", 90), ("1-12", 2160), ("1-0:30", 1470), ("2-1:00:30", 2940.5)],
)
def test_time_limits_are_read_as_slurm_reads_them(limit, expected):
    assert slurm.minutes(limit) == expected and Options(time=limit).time == limit


@pytest.mark.parametrize(
    ("state", "status", "over"),
    [
        ("PENDING", "queued", False),
        ("REQUEUE_HOLD", "queued", False),
        ("RUNNING", "running", False),
        ("COMPLETING", "running", False),
        ("SUSPENDED", "running", False),
        ("CANCELLED", "cancelled", True),
        ("FAILED", "failed", True),
        ("OUT_OF_MEMORY", "failed", True),
        ("TIMEOUT", "interrupted", True),
        ("NODE_FAIL", "interrupted", True),
        ("PREEMPTED", "interrupted", True),
        ("COMPLETED", "interrupted", True),
        ("A_NEW_WORD", "unknown", False),
    ],
)
def test_what_slurm_says_never_makes_a_run_finished_and_an_unknown_word_never_ends_it(state, status, over):
    found = slurm_commands.status_of("7", {"JobState": state, "Reason": "Priority", "ExitCode": "3:0"})
    assert (found.status, found.over) == (status, over) and "7" in found.message


SHOWN = "JobId=7 JobName=explorer-{0}\n   Comment={0} \n   JobState=RUNNING Reason=None Dependency=(null)\n   ExitCode=0:0 Restarts=1\n"


def test_a_number_is_believed_only_with_the_runs_own_comment(monkeypatch):
    monkeypatch.setattr(slurm_commands, "ask", lambda *command: SHOWN.format("aaaaaaaaaaaa"))
    assert slurm_commands.controller_facts("7", "aaaaaaaaaaaa")["JobState"] == "RUNNING"
    assert slurm_commands.controller_facts("7", "bbbbbbbbbbbb") is None


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ("explorer-run|PENDING|0:0\nexplorer-run|CANCELLED by 0|0:15\n", "CANCELLED"),
        ("explorer-run|COMPLETED|0:0\nsomebody-else|FAILED|1:0\n", "COMPLETED"),
        ("explorer-run|PENDING|0:0\n", None),  # it was queued again, and has not ended
        ("somebody-else|FAILED|1:0\n", None),
        ("", None),
    ],
)
def test_the_completion_file_tells_how_the_runs_own_job_ended_last(lines, state, monkeypatch):
    monkeypatch.setattr(slurm_commands, "ask", lambda *command: lines)
    found = slurm_commands.completion_facts("7", "explorer-run")
    assert (found or {}).get("JobState") == state


def test_without_slurm_or_submitit_one_sentence_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    run = Store(tmp_path).create(Spec("baseline", place="slurm"))
    with pytest.raises(slurm.SlurmRefused, match="squeue is not installed here"), run.locked():
        run.launch(run.stored_state())
    assert run.state.status == "failed" and "squeue is not installed" in run.state.message
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(slurm.SlurmRefused, match=r"needs submitit: pip install -r requirements-slurm.txt"):
        slurm._submitit()


def test_a_slurm_that_does_not_answer_ends_nothing(monkeypatch, tmp_path):
    def silent(*command: str) -> str:
        raise slurm.SlurmSilent("Slurm has not answered within 5 s")

    monkeypatch.setattr(slurm_commands, "ask", silent)
    run = Store(tmp_path).create(Spec("baseline", place="slurm"), job="7")
    assert Slurm().status(run.folder, run.state).status == "unknown"
    for status in ("running", "queued"):
        run.update(status=status)
        assert run.tend().status == status
    (run.folder / "cancel").touch()
    os.utime(run.folder / "cancel", (0, 0))  # long ago: it is made to stop, again and again
    assert run.tend().status == "queued"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"job": "8"}, "job 8 has run"),
        ({"status": "finished"}, "is finished"),
        ({"status": "cancelled"}, "is cancelled"),
        ({"job": "7"}, None),
        ({"job": None}, None),
        ({"status": "interrupted"}, None),
    ],
)
def test_only_the_runs_newest_job_may_take_it(changes, why, tmp_path):
    run = Store(tmp_path).create(Spec("baseline", place="slurm"), job="7")
    run.update(**changes)
    before = run.state
    refusal = slurm.take(run, "7", timeout=0)
    assert why in refusal if why else refusal is None
    assert (run.state == before) if why else (run.state.job == "7" and run.state.status == "queued")


def test_a_job_waits_for_the_process_before_it_and_does_not_begin_while_that_lives(tmp_path):
    run = Store(tmp_path).create(Spec("baseline", place="slurm"), job="7")
    run.update(status="running", process=Process.of())  # this very process
    assert "still has a live process" in slurm.take(run, "7", timeout=0)
    assert run.state.status == "running"


@pytest.mark.parametrize("further", [True, False])
def test_a_run_that_saved_itself_is_queued_again_unless_it_came_no_further(further, monkeypatch, tmp_path):
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(slurm_commands, "ask", lambda *command: asked.append(command) or "")
    monkeypatch.setenv("EXPLORER_JOB_BEGAN", str(time.time()))
    run = Store(tmp_path).create(Spec("baseline", place="slurm"), job="7")
    saved = run.folder / "checkpoints" / "0001-00000001.safetensors"
    saved.parent.mkdir()
    saved.touch()
    if not further:
        os.utime(saved, (1e9, 1e9))  # the checkpoint of an attempt long ago
    slurm.after(run, "7")
    assert asked == ([("scontrol", "requeue", "7")] if further else [])
    assert run.state.status == ("queued" if further else "failed")
    assert further or "time limit is too short" in run.state.message


# -- with a real one


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(f"a real Slurm cannot be started: {reason}")
    pytest.importorskip("submitit")
    one = Cluster()
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture
def store(cluster, monkeypatch, tmp_path) -> Store:
    """On the test's own cluster, where runs count."""
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setattr(slurm, "ASK_EVERY_S", 0.2)
    monkeypatch.setattr(slurm, "ASK_SILENT_EVERY_S", 0.2)
    stand_in = (sys.executable, "-u", str(Path(__file__).with_name("stand_in.py")))
    monkeypatch.setattr(slurm, "launcher", lambda: Slurm(stand_in))
    return Store(tmp_path)


def submit(store: Store, **more: object) -> Run:
    """Without a look at the recipe's data, which a counting run does not need."""
    run = store.create(Spec("baseline", place="slurm", device="cpu", **{"limit": COUNT, "threads": 1} | more))
    with run.locked():
        run.launch(run.stored_state())
    return run


def until(run: Run, done: Callable[[State], bool], seconds: float = SOON) -> State:
    """As a page would: look again and again."""
    end = time.monotonic() + seconds
    while not done(state := run.tend()):
        assert time.monotonic() < end, f"{state}\n{run.log()}"
        time.sleep(0.1)
    return state


def counted(run: Run) -> list[int]:
    return [number for _, number in lines(run)]


def lines(run: Run) -> list[tuple[int, int]]:
    """Process and number, of all that was counted."""
    path = run.folder / "counted"
    text = path.read_text() if path.exists() else ""
    return [
        (int(line.split()[0]), int(line.split()[1])) for line in text.splitlines(keepends=True) if line.endswith("\n")
    ]


def beyond(number: int, run: Run) -> Callable[[State], bool]:
    return lambda state: len(counted(run)) > number


def finished(state: State) -> bool:
    return state.status == "finished"


@pytest.mark.slurm
def test_a_run_is_submitted_once_without_a_pickle_and_finishes(store):
    run = submit(store)
    with run.locked():
        assert slurm.launcher().start(run.folder, run.spec)["job"] == run.state.job  # nothing is submitted again
    until(run, finished)
    assert counted(run) == list(range(COUNT))
    scripts = list((run.folder / "slurm").iterdir())
    assert (run.folder / "slurm").stat().st_mode & 0o777 == 0o700
    assert scripts and all(path.suffix == ".sh" for path in scripts)  # no pickle that somebody could exchange
    assert f"--comment={run.id}" in scripts[0].read_text()


@pytest.mark.slurm
def test_what_the_cluster_does_not_have_is_one_sentence(store):
    for more, why in (({"partition": "nope"}, "Invalid partition"), ({"gpus": 1}, "generic resource")):
        with pytest.raises(slurm.SlurmRefused, match=f"Slurm did not take the job: .*{why}"):
            submit(store, cluster=more)
    assert all(run.state.status == "failed" and "Slurm did not take" in run.state.message for run in store.runs())


@pytest.mark.slurm
def test_cancel_saves_and_reaches_a_waiting_run_too(store, cluster):
    holds = submit(store, limit=10_000, cluster={"nodes": 2}, processes=2, threads=2)
    waits = submit(store, threads=2)
    state = until(waits, lambda state: "Resources" in state.message or "Priority" in state.message)
    assert state.status == "queued"
    waits.cancel()
    until(holds, beyond(3, holds))
    began = time.monotonic()
    holds.cancel()
    until(holds, lambda state: state.status == "cancelled")
    until(waits, lambda state: state.status == "cancelled")
    assert time.monotonic() - began < SOON and not counted(waits)
    assert list((holds.folder / "checkpoints").iterdir())
    cluster.wait("empty queue", lambda: not cluster.jobs())


@pytest.mark.slurm
def test_a_job_cancelled_in_slurm_is_a_cancelled_run_and_plain_sacct_would_never_know(store, cluster, monkeypatch):
    from submitit import SlurmJob

    run = submit(store, limit=10_000)
    until(run, beyond(3, run))
    cluster.ask("scancel", run.state.job)

    def of_submitit(id: str, number: str) -> JobStatus:
        job = SlurmJob(run.folder / "slurm", number)
        job.watcher.update()
        return JobStatus("cancelled" if job.state == "CANCELLED" else "unknown", job.state)

    cluster.wait("end of the job", lambda: not cluster.jobs())
    with monkeypatch.context() as planted:
        planted.setattr(slurm_commands, "job_status", of_submitit)
        with pytest.raises(AssertionError, match="running"):
            until(run, lambda state: state.status == "cancelled", seconds=2)
    state = until(run, lambda state: state.status == "cancelled")
    assert "was cancelled in Slurm" in state.message
    assert slurm_commands.completion_facts(state.job, f"explorer-{run.id}")["JobState"] == "CANCELLED"


@pytest.mark.slurm
def test_a_run_outlives_the_controller_and_is_found_again(store, cluster, monkeypatch):
    run = submit(store, limit=6 * COUNT)
    until(run, beyond(3, run))
    number = run.state.job
    cluster.remember()
    cluster.kill_controller()
    with monkeypatch.context() as hurried:
        hurried.setattr(slurm_commands, "COMMAND_TIMEOUT_S", 0.5)
        assert Slurm().status(run.folder, run.state).status == "unknown" and run.refresh().status in (
            "running",
            "finished",
        )
    cluster.start_controller()
    until(run, finished)
    assert run.state.job == number and counted(run) == list(range(6 * COUNT))


@pytest.mark.slurm
def test_a_lost_job_is_submitted_again_and_a_strangers_number_is_not_taken_for_it(store, cluster):
    runs = submit(store, limit=10_000, cluster={"nodes": 2}, processes=2, threads=2)
    lost = submit(store)
    until(runs, beyond(3, runs))
    numbers = (runs.state.job, lost.state.job)
    cluster.kill_controller()
    cluster.start_controller(fresh=True)
    while cluster.ask("sbatch", "--parsable", "--hold", "--wrap=true") not in (*numbers, ""):
        assert int(cluster.jobs()[-1]) < int(numbers[1])  # a stranger's jobs get these numbers
    until(lost, finished, seconds=2 * SOON)
    assert counted(lost) == list(range(COUNT))  # once
    state = until(runs, lambda state: state.status == "interrupted", seconds=2 * SOON)  # its node was told to end it
    assert "knows no job" in state.message
    (runs.folder / "spec.json").write_text(
        (runs.folder / "spec.json").read_text().replace("10000", str(len(counted(runs)) + 5))
    )
    runs.resume()
    until(runs, finished, seconds=2 * SOON)
    (first, then) = [list(group) for _, group in groupby(lines(runs), key=lambda line: line[0])]  # one after the other
    assert len(first) - then[0][1] <= 10 and set(counted(runs)) == set(
        range(then[-1][1] + 1)
    )  # from the last checkpoint


@pytest.mark.slurm
def test_a_second_job_of_the_same_run_computes_nothing(store, cluster):
    run = submit(store, limit=3 * COUNT)
    until(run, beyond(1, run))
    twin = slurm._submit(run.folder, Options(), run.spec, slurm.launcher().command)
    cluster.wait("end of the twin", lambda: twin not in cluster.jobs())
    assert f"Job {twin}: job {run.state.job} has run" in run.log()
    until(run, finished)
    assert counted(run) == list(range(3 * COUNT))


@pytest.mark.slurm
@pytest.mark.parametrize("how", ["requeue", "time limit"])
def test_a_run_that_must_leave_its_node_goes_on_from_where_it_was(how, store, cluster):
    run = submit(store, limit=3 * COUNT)
    until(run, beyond(5, run))
    number = run.state.job
    if how == "requeue":
        cluster.ask("scontrol", "requeue", number)
    else:
        cluster.ask("scancel", "--signal=USR2", number)  # what Slurm sends before the limit
    until(run, lambda state: state.status == "queued")
    assert counted(run)[-1] < 3 * COUNT - 1
    until(run, finished, seconds=2 * SOON)
    assert run.state.job == number and counted(run) == list(range(3 * COUNT))


@pytest.mark.slurm
def test_the_command_line_submits_shows_and_cancels(store, monkeypatch, capsys):
    monkeypatch.setenv("EXPLORER_RUNS", str(store.root))
    monkeypatch.setattr("explorer.data.loading.check", lambda *_: None)
    assert (
        main(
            ["jobs", "submit", "baseline", "--slurm", "--nodes", "2", "--time", "10", "--limit", "10000", "--json", "-"]
        )
        == 0
    )
    made = json.loads(capsys.readouterr().out)
    run = store.run(made["id"])
    assert made["spec"]["processes"] == 2 and made["spec"]["cluster"]["nodes"] == 2 and made["state"]["job"]
    assert "--time=10" in next((run.folder / "slurm").iterdir()).read_text()
    until(run, beyond(1, run))
    assert main(["jobs", "list"]) == 0 and f"job {made['state']['job']}" in capsys.readouterr().out
    assert main(["jobs", "cancel", run.id]) == 0
    until(run, lambda state: state.status == "cancelled")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--nodes", "2"], "--nodes is asked of a cluster: say --slurm"),
        (["--slurm", "--time", "1"], "time must be a time limit of at least 5 minutes"),
        (["--slurm", "--gpus", "many"], "gpus must be a whole number"),
    ],
)
def test_the_command_line_refuses_in_a_sentence(words, why, capsys):
    assert main(["jobs", "submit", "baseline", *words]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.slurm
def test_two_processes_on_two_nodes_train_one_model(store, monkeypatch):
    monkeypatch.setenv("EXPLORER_TEST_TRAINS", "1")
    hyper = {"epochs": 1, "batch": 32, "width": 4}
    run = submit(store, smoke=True, hyper=hyper, limit=64, processes=2, cluster={"nodes": 2}, precision="float32")
    state = until(run, lambda state: state.status not in ("queued", "running"), seconds=120)
    assert state.status == "finished", run.log()
    assert run.environment["processes"] == 2 and run.published()
    updates = [line["update"] for line in run.metrics()[0] if line["kind"] == "update"]
    assert updates == sorted(set(updates))
    assert re.search(r"Epoch 1 of 1", run.log())
