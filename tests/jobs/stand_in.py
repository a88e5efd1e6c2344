"""What Slurm starts in tests in place of `explorer.jobs.slurm`: the same, but that the training is a count, without torch.

With EXPLORER_TEST_TRAINS set it trains indeed, on the bundled sample. Each number counted is a line of the file `counted`,
after the process that did: two at work on one run, or work done twice, would show there.
"""

from __future__ import annotations

import os
import sys

from explorer.core.errors import Cancelled
from explorer.jobs import run_process, runner, slurm
from explorer.jobs import train as training

PACE = 0.03  # seconds a number


def count(process: run_process.RunProcess) -> None:
    """Up to the spec's `limit`; a stop saves how far it came, and the next attempt goes on from there."""
    folder = process.run.folder
    while not process.is_first:  # the other processes keep it company
        if process.stop.wait(PACE):
            raise Cancelled("It was stopped; it can go on.")
        if process.run.state.status == "finished":
            return
    saved = [int(path.stem) for path in (folder / "checkpoints").glob("*.safetensors")]
    for number in range(max(saved, default=0), process.run.spec.limit or 1):
        stop = process.stop.wait(PACE)
        if stop or number % 10 == 0:
            (folder / "checkpoints").mkdir(exist_ok=True)
            (folder / "checkpoints" / f"{number}.safetensors").touch()
        if stop:
            raise Cancelled("It was stopped; it can go on.")
        with open(folder / "counted", "a") as file:
            file.write(f"{os.getpid()} {number}\n")
    process.set(status="finished", message="Counted.")


def train(process: run_process.RunProcess) -> None:
    """The real work, but for the training images and for what takes long at the end."""
    from explorer.training import export, trainer
    from tests.training.runs import sample

    trainer.as_needed = sample
    export.CAST_IMAGES = 20
    training.measure = lambda *_: None
    training.train(process)


def become_the_runner(program: str, words: list[str]) -> None:
    sys.exit(runner.main(words[-1:], train if os.environ.get("EXPLORER_TEST_TRAINS") else count))


if __name__ == "__main__":
    os.execv = become_the_runner
    sys.exit(slurm.main())
