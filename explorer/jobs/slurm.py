"""Slurm launcher: runs on a cluster, in the same folders, on storage that all nodes see, their processes started by Slurm.

submitit writes the batch script and calls sbatch; nothing else of it is used. Nothing is pickled: what a job runs is this
file's `main` with the run's folder, and that becomes `explorer.jobs.runner`.

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
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.core.errors import InvalidValue
from explorer.core.params import Hyper, param
from explorer.jobs import slurm_commands as commands
from explorer.jobs.launch import PROJECT
from explorer.jobs.slurm_commands import JobStatus, SlurmRefused, SlurmSilent, last_line
from explorer.jobs.spec import Spec
from explorer.jobs.state import LIVE, SILENT_AFTER_S, State

if TYPE_CHECKING:
    from explorer.jobs.store import Run

ASK_EVERY_S = 10.0  # seconds between two questions about one job
ASK_SILENT_EVERY_S = 60.0  # seconds between them while Slurm does not answer
WARNING_S = 90  # seconds before the time limit that the run is told to save and go
MIN_MINUTES = 5  # of a time limit: Slurm's warning may come a minute early
CLOCK_SKEW_S = 60.0  # seconds by which the clocks of a node and of the storage may differ
PORTS = range(15000, 30000)  # where the processes of one job meet: below the ports that a kernel hands out

TIME = re.compile(r"(\d+-)?\d+(:\d\d){0,2}")
WORD = re.compile(r"[\w.,:=+@&|*\[\]()-]*", re.ASCII)


@dataclass(frozen=True)
class Options(Hyper):
    """What to ask Slurm for. Empty or 0: what the cluster does by itself."""

    partition: str = param("", "partition", help="Which of the cluster's partitions (queues) the job goes to.")
    time: str = param("", "time limit", help=f"Minutes, hours:minutes:seconds or days-hours; at least {MIN_MINUTES} minutes. "
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
        if self.time and not (TIME.fullmatch(self.time) and minutes(self.time) >= MIN_MINUTES):
            raise InvalidValue(
                f"time must be a time limit of at least {MIN_MINUTES} minutes: minutes (90), hours:minutes:seconds (1:30:00) "
                f"or days-hours (1-12); got {self.time!r}."
            )


@dataclass(frozen=True)
class Slurm:
    """The launcher of runs whose place is "slurm" (see `explorer.jobs.launch.Launcher`)."""

    command: Sequence[str] = (sys.executable, "-u", "-m", "explorer.jobs.slurm")  # and the folder: what srun starts

    def check(self, spec: Spec) -> None:
        check(spec)

    def start(self, folder: Path, spec: Spec) -> dict[str, Any]:
        """Submit the run's job, unless one waits or runs already. Raises SlurmRefused, SlurmSilent, InvalidValue."""
        options = check(spec)
        _statuses.pop(folder, None)
        number = commands.find_job(folder.name)
        return {"job": number or _submit(folder, options, spec, self.command), "process": None}

    def alive(self, folder: Path, state: State) -> bool:
        """Whether the job waits or runs, or a process of it still gives a sign of life; true if that cannot be told."""
        process = state.process
        if process is not None and process.here and process.alive(folder):
            return True
        found = self.status(folder, state)
        if found.status == "lost" and process is not None:  # the controller forgot it; the node may not have
            return process.alive(folder)
        return not found.over

    def note(self, folder: Path, state: State) -> dict[str, Any]:
        """What to write into the state of a run that is alive: why it waits, and that it waits again."""
        if state.process is not None and state.process.alive(folder):
            return {}
        found = self.status(folder, state)
        return {"status": "queued", "message": found.message} if found.status == "queued" else {}

    def ending(self, folder: Path, state: State) -> tuple[str, str]:
        """Status and message of a run that is not alive and has not said itself how it ended."""
        found = self.status(folder, state)
        if not found.over:
            return state.status, found.message
        status = "interrupted" if found.status == "lost" else found.status
        return (
            status,
            f"{found.message[:1].upper()}{found.message[1:]}; resume submits it again, to go on from the last checkpoint.",
        )

    def stop(self, folder: Path, state: State, hard: bool) -> None:
        """SIGTERM to the job's processes, and SIGKILL after the cluster's KillWait; `hard`: again, and SIGKILL at once.

        Raises SlurmSilent, but not if `hard`, which is asked for until the job is gone: a controller that died may have
        forgotten what it was told.
        """
        name = f"--name={commands.job_name(folder.name)}"  # by name: a number may be another job's by now
        if not hard:
            try:
                commands.ask("scancel", name)
            except SlurmSilent as error:
                raise SlurmSilent(f"{error}. The run itself is told, and Slurm again once it answers.") from error
        elif time.monotonic() - _stops.get(folder, -ASK_EVERY_S) >= ASK_EVERY_S:
            _stops[folder] = time.monotonic()
            with suppress(SlurmSilent):
                commands.ask("scancel", "--signal=KILL", name)
                commands.ask("scancel", name)
        _statuses.pop(folder, None)

    def status(self, folder: Path, state: State) -> JobStatus:
        """What has become of the job; at most ten seconds old."""
        then, known = _statuses.get(folder, (0.0, None))
        wait = ASK_SILENT_EVERY_S if known is not None and known.status == "unknown" else ASK_EVERY_S
        if known is None or time.monotonic() - then >= wait:
            try:
                known = commands.job_status(folder.name, state.job)
            except (SlurmSilent, SlurmRefused) as error:
                known = JobStatus("unknown", str(error))
            _statuses[folder] = (time.monotonic(), known)
        return known


def launcher() -> Slurm:
    return Slurm()


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
                job_name=commands.job_name(folder.name), comment=folder.name, partition=options.partition or None,
                time=options.time or None, nodes=options.nodes, ntasks_per_node=spec.processes // options.nodes,
                cpus_per_task=spec.threads, gpus_per_node=options.gpus or None, mem=options.memory or None,
                account=options.account or None, qos=options.qos or None, wckey=None, signal_delay_s=WARNING_S,
                stderr_to_stdout=True, srun_args=srun,
                setup=[f"export PYTHONPATH={shlex.quote(path)}", "export EXPLORER_JOB_BEGAN=$(date +%s)"],
                teardown=[shlex.join([*command, "--after", str(folder)])],
                additional_parameters={"output": log, "requeue": True},
            )  # fmt: skip
            # The underscore is submitit's warning that its own Job would then know no result; its Job is not used here.
            return str(executor._submit_command(shlex.join([*command, str(folder)])).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        raise SlurmRefused(f"Slurm did not take the job: {last_line(str(error))}.") from error
    except RuntimeError as error:  # no srun here
        raise SlurmRefused(f"Slurm cannot be used from this computer: {error}") from error


def check(spec: Spec) -> Options:
    """What is asked of the cluster for this run. Raises UnknownName, InvalidValue."""
    options = Options.from_dict(spec.cluster)
    if spec.processes % options.nodes:
        raise InvalidValue(
            f"processes must be the same number on each of {options.nodes} nodes; got {spec.processes} in all."
        )
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
_statuses: dict[Path, tuple[float, JobStatus]] = {}  # when Slurm was last asked about a run, and what it said


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise SlurmRefused("Submitting to Slurm needs submitit: pip install -r requirements-slurm.txt") from error
    return submitit


# -- on the nodes


def main(argv: list[str] | None = None) -> int:
    """`python -m explorer.jobs.slurm FOLDER`, as srun starts it for every process of the job: it becomes the runner.

    With --after, what the batch script does in the end. Returns 0 where there is nothing (more) to do, 3 where the run is
    not this job's.
    """
    *flags, folder = sys.argv[1:] if argv is None else argv
    from explorer.jobs.store import open_run

    run, number = open_run(Path(folder)), os.environ["SLURM_JOB_ID"]
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


def take(run: Run, number: str, timeout: float = SILENT_AFTER_S + 30) -> str | None:
    """Make this job the run's, once no other process is alive. Returns why not, or None.

    A job that Slurm queued again goes on with a run that was interrupted, not with one that has ended otherwise.
    """
    end = time.monotonic() + timeout
    while True:
        with run.locked():
            state = run.stored_state()
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
    began = float(os.environ.get("EXPLORER_JOB_BEGAN", 0)) - CLOCK_SKEW_S
    saved = [*run.folder.glob("checkpoints/*.safetensors"), *run.folder.glob("cells/*.jsonl")]
    if not any(path.stat().st_mtime > began for path in saved):
        run.update(status="failed", message="The time limit is too short to come to a checkpoint: ask for more time.")
        return 0
    try:
        commands.ask("scontrol", "requeue", number)
    except (SlurmSilent, SlurmRefused) as error:  # whoever looks at the run next submits it again
        sys.stdout.write(f"Job {number} could not be queued again: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
