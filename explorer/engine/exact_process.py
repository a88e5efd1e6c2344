"""Exact verification in a process of its own: `python -m explorer.engine.exact_process FOLDER`, which can be stopped at any moment.

A solver holds Python's lock for as long as it runs, and may want much memory: here it has its own, with limits. Each answer is a
line of JSON: {"eps", "settled": "none" | "found" | "open", "distance", "seconds"}; `distance` is that of the picture found.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core import InvalidValue

PROJECT = Path(__file__).resolve().parents[2]
MEMORY = 6 << 30  # bytes of address space
LOOK = 0.1  # seconds between two looks


def narrowed(
    model: str, picture: np.ndarray, label: int, proven: float, attacked: float, seconds: float
) -> Iterator[dict[str, Any] | None]:
    """The answers for one picture (C,H,W) of a zoo's model as they come, None in between; closing the iterator ends the process.

    `seconds`: for each question. Raises InvalidValue if the process ends without having finished, with what it said last.
    """
    with (
        tempfile.TemporaryDirectory() as made,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as complaints,
    ):
        folder = Path(made)
        np.save(folder / "picture.npy", picture)
        asked = {"model": model, "label": label, "proven": proven, "attacked": attacked, "seconds": seconds}
        (folder / "question.json").write_text(json.dumps(asked), "utf-8")
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "explorer.engine.exact_process", made], stdin=subprocess.DEVNULL, stdout=said, stderr=complaints,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )  # fmt: skip
        try:
            read = 0
            while True:
                ended = process.poll() is not None  # before the last look
                *lines, _ = os.pread(said.fileno(), 1 << 20, 0).decode().split("\n")
                for line in lines[read:]:
                    yield json.loads(line)
                read = len(lines)
                if ended:
                    break
                yield None
                time.sleep(LOOK)
            if process.returncode:
                last = os.pread(complaints.fileno(), 1 << 16, 0).decode(errors="replace").strip().splitlines()
                reason = (
                    "it ran out of memory"
                    if any("MemoryError" in one for one in last[-1:])
                    else (last or ["no word"])[-1]
                )
                raise InvalidValue(f"the exact question could not be answered: {reason}.")
        finally:
            process.kill()
            process.wait()


def main() -> None:
    from explorer.certify.exact import narrow
    from explorer.models import zoo

    folder = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    asked = json.loads((folder / "question.json").read_text("utf-8"))
    import torch

    torch.set_num_threads(1)
    x = torch.from_numpy(np.load(folder / "picture.npy"))
    bracket = asked["proven"], asked["attacked"]
    for eps, answer in narrow(zoo.load(asked["model"]), x, asked["label"], *bracket, seconds=asked["seconds"]):
        distance = None if answer.picture is None else float((answer.picture - x).abs().max())
        told = {"eps": eps, "settled": answer.settled, "distance": distance, "seconds": answer.seconds}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
