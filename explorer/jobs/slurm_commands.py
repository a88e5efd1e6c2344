"""Slurm's commands (squeue, scontrol, sacct, scancel): what they are asked about a run's job, and what their words mean.

What a job has come to is asked of `scontrol show job`, then of the cluster's completion file (`sacct -c`). Plain sacct is
never asked: without an accounting database it fails, and a job that it does not know would never end. Nothing that Slurm
says makes a run finished: only the runner itself writes that.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from explorer.core.errors import ExplorerError

COMMAND_TIMEOUT_S = 5.0  # until a command of Slurm's must have answered


class SlurmRefused(ExplorerError):
    """Slurm does not take the job, or cannot be used from this computer; the message says why."""


class SlurmSilent(ExplorerError):
    """Slurm could not be asked; nothing is known, and nothing may be concluded."""


@dataclass(frozen=True)
class JobStatus:
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


def job_name(run: str) -> str:
    """How the job of the run with this id is called."""
    return f"explorer-{run}"


def find_job(run: str) -> str | None:
    """The number of a job of this run that waits or runs. Raises SlurmSilent, SlurmRefused."""
    lines = ask("squeue", "--noheader", f"--name={job_name(run)}", "--states=all", "--format=%i %T %k").splitlines()
    for number, state, comment in (line.split(maxsplit=2) for line in lines if len(line.split(maxsplit=2)) == 3):
        if comment.strip() == run and (state in WAITING or state in ALIVE):
            return number
    return None


def job_status(run: str, number: str | None) -> JobStatus:
    """What has become of the run's job, whose number may be another job's by now. Raises SlurmSilent, SlurmRefused."""
    facts = controller_facts(number, run) or completion_facts(number, job_name(run))
    if facts is None or facts["JobState"] not in (*ENDS, *WAITING, *ALIVE):
        number = find_job(run) or number
        facts = controller_facts(number, run) or facts
    if facts is None:
        return JobStatus("lost", f"Slurm knows no job {number}" if number else "Slurm was never given a job")
    return status_of(number, facts)


def ask(*command: str) -> str:
    """What one of Slurm's commands says. Raises SlurmRefused where there is no Slurm, else SlurmSilent."""
    program = shutil.which(command[0])
    if program is None:
        raise SlurmRefused(
            f"{command[0]} is not installed here: runs are submitted and looked after where Slurm's commands are."
        )
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmSilent(f"Slurm has not answered within {COMMAND_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise SlurmSilent(f"Slurm does not answer: {last_line(done.stderr)}")
    return done.stdout


def controller_facts(number: str | None, comment: str) -> dict[str, str] | None:
    """What the controller knows of a job; None if it knows none of this number with this comment. Raises SlurmSilent."""
    if number is None:
        return None
    try:
        text = ask("scontrol", "show", "job", number)
    except SlurmSilent as error:
        if "Invalid job id" in str(error):
            return None
        raise
    facts = dict(re.findall(r"(?:^|\s)(Comment|JobState|Reason|ExitCode)=(\S*)", text))
    return facts if facts.get("Comment") == comment and "JobState" in facts else None


def completion_facts(number: str | None, name: str) -> dict[str, str] | None:
    """What the cluster's completion file says last of a job with this number and name; None if nothing or there is none."""
    if number is None:
        return None
    try:
        text = ask(
            "sacct", "--completion", "--noheader", "--parsable2", f"--jobs={number}", "--format=JobName,State,ExitCode"
        )
    except (SlurmSilent, SlurmRefused):  # the cluster keeps no such file, or not here
        return None
    lines = [line.split("|") for line in text.splitlines()]
    mine = [(state, code) for job, state, code in (line for line in lines if len(line) == 3) if job == name]
    if not mine or (state := mine[-1][0].split()[0]) not in ENDS:  # not the end: it was queued again
        return None
    return {"JobState": state, "ExitCode": mine[-1][1]}


def status_of(number: str | None, facts: Mapping[str, str]) -> JobStatus:
    state, reason = facts["JobState"], facts.get("Reason", "None")
    if state in WAITING:
        why = "" if reason in ("None", "") else f" ({reason})"
        if "held" in reason.lower():
            why += f": it is held back until somebody says scontrol release {number}, or cancels and resumes the run"
        return JobStatus("queued", f"job {number} waits in Slurm{why}")
    if state in ALIVE:
        return JobStatus("running", f"job {number}" + ("" if state == "RUNNING" else f" is {state.lower()} in Slurm"))
    if state in ENDS:
        status, words = ENDS[state]
        return JobStatus(status, f"job {number} {words.format(code=facts.get('ExitCode', '?').partition(':')[0])}")
    return JobStatus("unknown", f"job {number} is {state} in Slurm")  # a word that a later Slurm may bring


def last_line(text: str) -> str:
    """The last line of what a command complained about, without the command's name."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return re.sub(r"^\w+: (error: )?", "", lines[-1]) if lines else "it gives no reason"
