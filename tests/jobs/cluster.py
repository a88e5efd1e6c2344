"""A real Slurm on this computer for tests: munged, slurmctld and two slurmd, as root, without systemd or cgroups.

Everything the daemons read or write lies in one private folder (SLURM_CONF, munge's socket and key, ports of its own), so
that a cluster this computer may belong to is never touched. Needs Debian's slurm-wlm and munge; nothing else is set up.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

NODES = ("one", "two")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sacct")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=5
JobRequeue=1
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""  # cred_expire: after so many seconds (by itself 120) a requeued job starts again; told to start earlier, it may fail


def why_not() -> str | None:
    """Why no such cluster can be started here, in one sentence; None if it can."""
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root"
    missing = [name for name in PROGRAMS if _which(name) is None]
    return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else None


class Cluster:
    """Two nodes of two CPUs each, on this computer. `environment` points a command to it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket's path has 107 letters
        self.folder.chmod(0o755)
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """All daemons, until both nodes are idle. Raises TimeoutError with the daemons' last words."""
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        controller_port, *ports = _free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(folder=self.folder, host=host, controller_port=controller_port)
        for name, port in zip(NODES, ports, strict=True):
            text += f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 State=UNKNOWN\n"
        (self.folder / "slurm.conf").write_text(text)
        files = {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")}
        self._run("munged", "--foreground", f"--socket={self.folder}/munge.socket", *files.values())
        self.wait("munge's socket", (self.folder / "munge.socket").exists)
        self.start_controller()
        for name in NODES:
            self._run("slurmd", "-D", "-N", name, tag=name)
        self.wait("idle nodes", lambda: self.ask("sinfo", "--noheader", "--format=%D %t") == f"{len(NODES)} idle")

    def stop(self) -> None:
        """End the jobs, the daemons and whatever they have started; remove the folder."""
        for daemon in self._daemons.values():  # first, so that they start nothing more
            daemon.kill()
            daemon.wait()
        self.wait("end of all jobs", lambda: not [_killed(process) for process in self._everything()])
        shutil.rmtree(self.folder)

    def start_controller(self, fresh: bool = False) -> None:
        """slurmctld, until it answers; `fresh`: it has forgotten all jobs, and gives their ids away again."""
        if fresh:
            shutil.rmtree(self.folder / "state")
            (self.folder / "state").mkdir()
        self._run("slurmctld", "-D")
        self.wait("controller", lambda: self.ask("scontrol", "ping").endswith("UP"))

    def kill_controller(self) -> None:
        """kill -9."""
        daemon = self._daemons.pop("slurmctld")
        daemon.kill()
        daemon.wait()

    def remember(self) -> None:
        """Wait until the controller has saved all that it knows by now of its jobs, as it does every five seconds."""
        path, mark = self.folder / "state" / "job_state", secrets.token_hex(8)
        self.ask("sbatch", "--hold", f"--job-name={mark}", "--wrap=true")
        self.wait("saved jobs", lambda: path.exists() and mark.encode() in path.read_bytes())

    def ask(self, *command: str) -> str:
        """What a command says; "" if it fails."""
        program = _which(command[0]) or command[0]
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, env=self.environment, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""

    def jobs(self) -> list[str]:
        """The ids of the jobs that wait or run."""
        return self.ask("squeue", "--noheader", "--format=%i").split()

    def wait(self, what: str, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until `done()`. Raises TimeoutError with the daemons' last words."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"no {what} within {seconds:.0f} s.\n{self._last_words()}")
            time.sleep(0.1)

    def _run(self, name: str, *options: str, tag: str = "") -> None:
        with open(self.folder / f"{name}{tag}.out", "ab") as out:
            self._daemons[name + tag] = subprocess.Popen(
                [_which(name) or name, *options], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment
            )

    def _everything(self) -> list[psutil.Process]:
        """Every process with this cluster's environment, the daemons and this one excepted."""
        own = {os.getpid(), *(daemon.pid for daemon in self._daemons.values())}
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if ours and process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # gone, or not to be read
                continue
        return found

    def _last_words(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-600:]}" for path in sorted(self.folder.glob("*.out")))


def _killed(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it may end by itself meanwhile
        process.kill()


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()
