"""Job runner: `python -m explorer.jobs.runner FOLDER` is the process of one run, however it was started.

It waits for its turn (without torch), then does the work of the run's kind: it trains, exports, measures and publishes
(`jobs/train.py`), or measures a model cell by cell (`jobs/measuring.py`). A stop (SIGTERM, the file `cancel`) lets a
training save a checkpoint, and a measurement end between two cells. Several processes are torchrun's: this one becomes
torchrun, which starts this module again as every rank; rank 0 owns the state.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explorer.core.errors import Cancelled, InvalidValue
from explorer.core.memory import keep_freed_memory
from explorer.jobs.kinds import TRAIN
from explorer.jobs.measuring import measure
from explorer.jobs.run_folder import Taken
from explorer.jobs.run_process import RunProcess, lower_priority
from explorer.jobs.store import Run, open_run
from explorer.jobs.train import train


def become_torchrun(run: Run) -> None:
    """Replace this process by torchrun, which starts one rank for each of the run's processes."""
    spec, devices = run.spec, run.state.devices
    if any(device.startswith("cuda") for device in devices):
        # Who has restricted this process to some GPUs (an administrator, Slurm, Docker) has numbered them anew.
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        numbers = sorted(int(device.partition(":")[2]) for device in devices)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[n] if visible else str(n) for n in numbers)
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={spec.processes}"]
    os.execv(sys.executable, [sys.executable, *words, "-m", "explorer.jobs.runner", str(run.folder)])


def work_of_kind(process: RunProcess) -> Any:
    """What the run is about."""
    return train(process) if process.run.spec.kind == TRAIN else measure(process)


def main(argv: list[str] | None = None, work: Callable[[RunProcess], Any] = work_of_kind) -> int:
    """Be the process of the run in the folder named; `work` is what it is about.

    Returns 0 when the run finished or was somebody else's, 1 when it failed, 130 when it was stopped."""
    words = sys.argv[1:] if argv is None else argv
    try:
        run = open_run(Path(words[0])) if len(words) == 1 else None
    except InvalidValue as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if run is None:
        sys.stderr.write("usage: python -m explorer.jobs.runner FOLDER\n")
        return 2
    with RunProcess(run) as process:
        try:
            with process.recording_outcome():
                if "RANK" not in os.environ or run.state.status == "queued" or run.spec.place != "local":
                    process.wait_for_turn()
                if run.spec.processes > 1 and "RANK" not in os.environ and run.spec.place == "local":
                    become_torchrun(run)
                process.registered = True  # by itself, or by the ranks' agent
                work(process)
        except Taken:
            return 0
        except Cancelled:
            return 130 if process.is_first else 0  # srun would end all processes with the first that fails
        except Exception:  # its state and its log say what
            return 1
    return 0


def work_in_background(process: RunProcess) -> Any:
    """The work of a run that nobody waits for in a terminal."""
    local = process.run.spec.place == "local"
    if local and not process.is_first:
        lower_priority()  # the first of several tells when the work is under way; the others wait for it anyway
    if process.run.spec.kind == TRAIN:
        return train(process, in_background=local)
    return measure(process, in_background=local)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main(work=work_in_background))
