"""Runs on a Slurm cluster: the same run directory, on storage that all nodes see, its process started by Slurm.

submitit writes the batch script and calls sbatch; nothing else of it is used. Nothing is pickled: what a job runs is this
file's `main` with the run's folder, and that becomes `explorer.jobs.runner`.

What a job has come to is asked of `scontrol show job`, then of the cluster's completion file (`sacct -c`). Plain sacct is
never asked: without an accounting database it fails, and a job that it does not know would never end. Nothing that Slurm
says makes a run finished: only the runner itself writes that.

A controller that dies may forget the newest jobs, give their numbers away again, and forget what was cancelled. So a run
is known by its own id, which is the job's comment and in its name; a number is believed only together with the comment;
and whoever submits first looks for a job of this run. Should two jobs of one run come to exist nevertheless, one computes:
the state names the job that has the run, every other ends at once, and the change of hands is made under the store's lock.
Across nodes that needs a file system that passes flock on (NFS 4, Lustre mounted with -o flock, GPFS). Where locks stay
on one node, what is left is the heartbeat: a job waits until the one before it has been silent for a minute.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from explorer.core.errors import ExplorerError, InvalidValue
from explorer.core.params import Hyper, param
from explorer.jobs.launch import PROJECT
from explorer.jobs.spec import Spec
from explorer.jobs.state import LIVE, SILENT, State

if TYPE_CHECKING:
    from explorer.jobs.store import Run

PATIENCE = 5.0  # seconds until a command of Slurm's must have answered
ASK_EVERY = 10.0  # seconds between two questions about one job
SILENT_FOR = 60.0  # seconds between them while Slurm does not answer
GRACE = 90  # seconds before the time limit that the run is told to save and go
LEAST_MINUTES = 5  # of a time limit: Slurm's warning may come a minute early
SKEW = 60.0  # seconds by which the clocks of a node and of the storage may differ
PORTS = range(15000, 30000)  # where the processes of one job meet: below the ports that a kernel hands out

TIME = re.compile(r"(\d+-)?\d+(:\d\d){0,2}")
WORD = re.compile(r"[\w.,:=+@&|*\[\]()-]*", re.ASCII)


class SlurmRefused(ExplorerError):
    """Slurm does not take the job, or cannot be used from this computer; the message says why."""


class SlurmSilent(ExplorerError):
    """Slurm could not be asked; nothing is known, and nothing may be concluded."""


@dataclass(frozen=True)
class Options(Hyper):
    """What to ask Slurm for. Empty or 0: what the cluster does by itself."""

    partition: str = param("", "partition", help="Which of the cluster's partitions (queues) the job goes to.")
    time: str = param("", "time limit", help=f"Minutes, hours:minutes:seconds or days-hours; at least {LEAST_MINUTES} minutes. "
                      "A run that needs longer saves, is queued again and goes on.")  # fmt: skip
    nodes: int = param(1, "nodes", lo=1, hi=64, help="Computers that work on the run together.")
    gpus: int = param(0, "GPUs per node", lo=0, hi=16, help="One process uses one GPU.")
    memory: str = param("", "memory per node", help="For instance 32G.")
    account: str = param("", "account", help="Who pays, where the cluster asks for it.")
    qos: str = param("", "quality of service")

    def __post_init__(self) -> None:
        super().__post_init__()
        for p in self.params():
            value = getattr(self, p.name)
            if p.kind is str and not WORD.fullmatch(value):  # it becomes a line of a shell script
                raise InvalidValue(f"{p.name} must be one plain word, as sbatch takes it; got {value!r}.")
        if self.time and not (TIME.fullmatch(self.time) and minutes(self.time) >= LEAST_MINUTES):
            raise InvalidValue(
                f"time must be a time limit of at least {LEAST_MINUTES} minutes: minutes (90), hours:minutes:seconds (1:30:00) "
                f"or days-hours (1-12); got {self.time!r}."
            )


@dataclass(frozen=True)
class Look:
    """What Slurm makes of a run's job."""

    status: Literal["queued", "running", "cancelled", "failed", "interrupted", "lost", "unknown"]
    message: str

    @property
    def over(self) -> bool:
        """Whether no process of the job is left."""
        return self.status not in ("queued", "running", "unknown")


WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
ALIVE = ("RUNNING", "COMPLETING", "SIGNALING", "RESIZING", "STAGE_OUT", "SUSPENDED", "STOPPED")
ENDS: Mapping[str, tuple[Any, str]] = {
    "CANCELLED": ("cancelled", "was cancelled in Slurm"),
    "FAILED": ("failed", "ended with exit code {code}; the log says more"),
    "OUT_OF_MEMORY": ("failed", "was given too little memory; ask for more"),
    "TIMEOUT": ("interrupted", "came to its time limit"),
    "DEADLINE": ("interrupted", "came to its deadline"),
    "NODE_FAIL": ("interrupted", "lost its node"),
    "BOOT_FAIL": ("interrupted", "lost its node, which did not start"),
    "PREEMPTED": ("interrupted", "had to make room for another"),
    "REVOKED": ("interrupted", "was moved to another cluster"),
    "COMPLETED": ("interrupted", "ended before the run had"),
}


@dataclass(frozen=True)
class Slurm:
    """The launcher of runs whose place is "slurm" (see `explorer.jobs.launch.Launcher`)."""

    command: Sequence[str] = (sys.executable, "-u", "-m", "explorer.jobs.slurm")  # and the folder: what srun starts

    def start(self, folder: Path, spec: Spec) -> dict[str, Any]:
        """Submit the run's job, unless one waits or runs already. Raises SlurmRefused, SlurmSilent, InvalidValue."""
        options = check(spec)
        _looks.pop(folder, None)
        number = _find(folder.name)
        return {"job": number or _submit(folder, options, spec, self.command), "process": None}

    def alive(self, folder: Path, state: State) -> bool:
        """Whether the job waits or runs, or a process of it still gives a sign of life; true if that cannot be told."""
        process = state.process
        if process is not None and process.here and process.alive(folder):
            return True
        look = self.look(folder, state)
        if look.status == "lost" and process is not None:  # the controller forgot it; the node may not have
            return process.alive(folder)
        return not look.over

    def note(self, folder: Path, state: State) -> dict[str, Any]:
        """What to write into the state of a run that is alive: why it waits, and that it waits again."""
        if state.process is not None and state.process.alive(folder):
            return {}
        look = self.look(folder, state)
        return {"status": "queued", "message": look.message} if look.status == "queued" else {}

    def ending(self, folder: Path, state: State) -> tuple[str, str]:
        """Status and message of a run that is not alive and has not said itself how it ended."""
        look = self.look(folder, state)
        if not look.over:
            return state.status, look.message
        status = "interrupted" if look.status == "lost" else look.status
        return status, f"{look.message[:1].upper()}{look.message[1:]}; resume submits it again, to go on from the last checkpoint."

    def stop(self, folder: Path, state: State, hard: bool) -> None:
        """SIGTERM to the job's processes, and SIGKILL after the cluster's KillWait; `hard`: again, and SIGKILL at once.

        Raises SlurmSilent, but not if `hard`, which is asked for until the job is gone: a controller that died may have
        forgotten what it was told.
        """
        name = f"--name={_name(folder.name)}"  # by name: a number may be another job's by now
        if not hard:
            try:
                _ask("scancel", name)
            except SlurmSilent as error:
                raise SlurmSilent(f"{error}. The run itself is told, and Slurm again once it answers.") from error
        elif time.monotonic() - _stops.get(folder, -ASK_EVERY) >= ASK_EVERY:
            _stops[folder] = time.monotonic()
            with suppress(SlurmSilent):
                _ask("scancel", "--signal=KILL", name)
                _ask("scancel", name)
        _looks.pop(folder, None)

    def look(self, folder: Path, state: State) -> Look:
        """What has become of the job; at most ten seconds old."""
        then, known = _looks.get(folder, (0.0, None))
        wait = SILENT_FOR if known is not None and known.status == "unknown" else ASK_EVERY
        if known is None or time.monotonic() - then >= wait:
            try:
                known = _look(folder.name, state.job)
            except (SlurmSilent, SlurmRefused) as error:
                known = Look("unknown", str(error))
            _looks[folder] = (time.monotonic(), known)
        return known


def launcher() -> Slurm:
    return Slurm()


def _name(run: str) -> str:
    return f"explorer-{run}"


def _find(run: str) -> str | None:
    """The number of a job of this run that waits or runs. Raises SlurmSilent, SlurmRefused."""
    lines = _ask("squeue", "--noheader", f"--name={_name(run)}", "--states=all", "--format=%i %T %k").splitlines()
    for number, state, comment in (line.split(maxsplit=2) for line in lines if len(line.split(maxsplit=2)) == 3):
        if comment.strip() == run and (state in WAITING or state in ALIVE):
            return number
    return None


def _look(run: str, number: str | None) -> Look:
    facts = _facts(number, run) or _completed(number, _name(run))
    if facts is None or facts["JobState"] not in (*ENDS, *WAITING, *ALIVE):
        number = _find(run) or number
        facts = _facts(number, run) or facts
    if facts is None:
        return Look("lost", f"Slurm knows no job {number}" if number else "Slurm was never given a job")
    return _judge(number, facts)


def _submit(folder: Path, options: Options, spec: Spec, command: Sequence[str]) -> str:
    """Let submitit write the script and call sbatch; the job's number. Raises SlurmRefused, InvalidValue."""
    submitit = _submitit()
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    own = folder / "slurm"  # the scripts; nobody else may write here
    own.mkdir(mode=0o700, exist_ok=True)
    own.chmod(0o700)
    log = str(folder / "log.txt").replace("%", "%%")
    srun = [f"--output={log}", "--open-mode=append", "--kill-on-bad-exit=1"]
    if spec.threads:
        srun.append(f"--cpus-per-task={spec.threads}")  # since 22.05 srun does not take it over from sbatch
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    try:
        with redirect_stderr(io.StringIO()):  # submitit prints what it raises
            executor = submitit.SlurmExecutor(own)
            executor.update_parameters(
                job_name=_name(folder.name), comment=folder.name, partition=options.partition or None,
                time=options.time or None, nodes=options.nodes, ntasks_per_node=spec.processes // options.nodes,
                cpus_per_task=spec.threads, gpus_per_node=options.gpus or None, mem=options.memory or None,
                account=options.account or None, qos=options.qos or None, wckey=None, signal_delay_s=GRACE,
                stderr_to_stdout=True, srun_args=srun,
                setup=[f"export PYTHONPATH={shlex.quote(path)}", "export EXPLORER_JOB_BEGAN=$(date +%s)"],
                teardown=[shlex.join([*command, "--after", str(folder)])],
                additional_parameters={"output": log, "requeue": True},
            )  # fmt: skip
            # The underscore is submitit's warning that its own Job would then know no result; its Job is not used here.
            return str(executor._submit_command(shlex.join([*command, str(folder)])).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        raise SlurmRefused(f"Slurm did not take the job: {_sentence(str(error))}.") from error
    except RuntimeError as error:  # no srun here
        raise SlurmRefused(f"Slurm cannot be used from this computer: {error}") from error


def check(spec: Spec) -> Options:
    """What is asked of the cluster for this run. Raises UnknownName, InvalidValue."""
    options = Options.from_dict(spec.cluster)
    if spec.processes % options.nodes:
        raise InvalidValue(f"processes must be the same number on each of {options.nodes} nodes; got {spec.processes} in all.")
    return options


def minutes(limit: str) -> float:
    """A time limit as Slurm writes it, in minutes: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = (*parts, 0, 0)[:3]
        return int(days) * 1440 + hours * 60 + mins + seconds / 60
    hours, mins, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    return hours * 60 + mins + seconds / 60


_stops: dict[Path, float] = {}  # when a job that does not stop was last killed
_looks: dict[Path, tuple[float, Look]] = {}  # when Slurm was last asked about a run, and what it said


def _ask(*command: str) -> str:
    """What one of Slurm's commands says. Raises SlurmRefused where there is no Slurm, else SlurmSilent."""
    program = shutil.which(command[0])
    if program is None:
        raise SlurmRefused(f"{command[0]} is not installed here: runs are submitted and looked after where Slurm's commands are.")
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise SlurmSilent(f"Slurm has not answered within {PATIENCE:.0f} s") from error
    if done.returncode != 0:
        raise SlurmSilent(f"Slurm does not answer: {_sentence(done.stderr)}")
    return done.stdout


def _facts(number: str | None, comment: str) -> dict[str, str] | None:
    """What the controller knows of a job; None if it knows none of this number with this comment. Raises SlurmSilent."""
    if number is None:
        return None
    try:
        text = _ask("scontrol", "show", "job", number)
    except SlurmSilent as error:
        if "Invalid job id" in str(error):
            return None
        raise
    facts = dict(re.findall(r"(?:^|\s)(Comment|JobState|Reason|ExitCode)=(\S*)", text))
    return facts if facts.get("Comment") == comment and "JobState" in facts else None


def _completed(number: str | None, name: str) -> dict[str, str] | None:
    """What the cluster's completion file says last of a job with this number and name; None if nothing or there is none."""
    if number is None:
        return None
    try:
        text = _ask("sacct", "--completion", "--noheader", "--parsable2", f"--jobs={number}", "--format=JobName,State,ExitCode")
    except (SlurmSilent, SlurmRefused):  # the cluster keeps no such file, or not here
        return None
    lines = [line.split("|") for line in text.splitlines()]
    mine = [(state, code) for job, state, code in (line for line in lines if len(line) == 3) if job == name]
    if not mine or (state := mine[-1][0].split()[0]) not in ENDS:  # not the end: it was queued again
        return None
    return {"JobState": state, "ExitCode": mine[-1][1]}


def _judge(number: str | None, facts: Mapping[str, str]) -> Look:
    state, reason = facts["JobState"], facts.get("Reason", "None")
    if state in WAITING:
        why = "" if reason in ("None", "") else f" ({reason})"
        if "held" in reason.lower():
            why += f": it is held back until somebody says scontrol release {number}, or cancels and resumes the run"
        return Look("queued", f"job {number} waits in Slurm{why}")
    if state in ALIVE:
        return Look("running", f"job {number}" + ("" if state == "RUNNING" else f" is {state.lower()} in Slurm"))
    if state in ENDS:
        status, words = ENDS[state]
        return Look(status, f"job {number} {words.format(code=facts.get('ExitCode', '?').partition(':')[0])}")
    return Look("unknown", f"job {number} is {state} in Slurm")  # a word that a later Slurm may bring


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SlurmRefused("Submitting to Slurm needs submitit: pip install -r requirements-slurm.txt") from error
    return submitit


def _sentence(text: str) -> str:
    """The last line of what a command complained about, without the command's name."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return re.sub(r"^\w+: (error: )?", "", lines[-1]) if lines else "it gives no reason"


# -- on the nodes


def main(argv: list[str] | None = None) -> int:
    """`python -m explorer.jobs.slurm FOLDER`, as srun starts it for every process of the job: it becomes the runner.

    With --after, what the batch script does in the end. Returns 0 where there is nothing (more) to do, 3 where the run is
    not this job's.
    """
    *flags, folder = sys.argv[1:] if argv is None else argv
    from explorer.jobs.runner import opened

    run, number = opened(Path(folder)), os.environ["SLURM_JOB_ID"]
    if flags == ["--after"]:
        return after(run, number)
    world, rank = int(os.environ.get("SLURM_NTASKS", 1)), int(os.environ.get("SLURM_PROCID", 0))
    if rank == 0:
        refusal = take(run, number)
        if refusal:
            sys.stdout.write(f"Job {number}: {refusal}\n")
            return 3 if world > 1 else 0  # not 0, so that srun ends the other processes
    if world > 1:
        os.environ |= {
            "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": os.environ["SLURM_LOCALID"],
            "MASTER_ADDR": os.environ["SLURM_LAUNCH_NODE_IPADDR"], "MASTER_PORT": str(PORTS[int(number) % len(PORTS)]),
        }  # fmt: skip
    os.execv(sys.executable, [sys.executable, "-u", "-m", "explorer.jobs.runner", str(run.folder)])


def take(run: Run, number: str, patience: float = SILENT + 30) -> str | None:
    """Make this job the run's, once no other process is alive. Returns why not, or None.

    A job that Slurm queued again goes on with a run that was interrupted, not with one that has ended otherwise.
    """
    end = time.monotonic() + patience
    while True:
        with run.locked():
            state = run._stored()
            if state.job not in (None, number):
                return f"job {state.job} has run {run.id} by now."
            if run.stopping or state.status not in (*LIVE, "interrupted"):
                return f"run {run.id} is {'cancelled' if run.stopping else state.status}."
            if state.process is None or not state.process.alive(run.folder):
                run.write(state, status="queued", message="", job=number, process=None)
                return None
        if time.monotonic() > end:
            return f"run {run.id} still has a live process, {state.process.pid} on {state.process.host}."
        time.sleep(1)


def after(run: Run, number: str) -> int:
    """Have the job queued again if its run saved itself before the time limit; but not where it came no further."""
    state = run.state
    if run.stopping or state.status != "queued" or state.job != number:
        return 0
    began = float(os.environ.get("EXPLORER_JOB_BEGAN", 0)) - SKEW
    if not any(path.stat().st_mtime > began for path in (run.folder / "checkpoints").glob("*.safetensors")):
        run.update(status="failed", message="The time limit is too short to come to a checkpoint: ask for more time.")
        return 0
    try:
        _ask("scontrol", "requeue", number)
    except (SlurmSilent, SlurmRefused) as error:  # whoever looks at the run next submits it again
        sys.stdout.write(f"Job {number} could not be queued again: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
