"""What an attempt of a run computes with: device, threads, precision, and the versions of everything (environment.json).

A later attempt keeps the first one's threads and precision, so that a run that went on is the same as one never stopped.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from explorer.core import threads
from explorer.core.errors import InvalidValue
from explorer.core.files import write_atomically
from explorer.jobs.launch import PROJECT
from explorer.jobs.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

PRECISION_WORDS = {"float32": "float32", "bfloat16": "bfloat16 autocast"}  # as a spec says it: as a card says it
LOG = logging.getLogger("explorer.jobs")


def settle(run: RunFolder) -> dict[str, Any]:
    """Device, threads and precision of this attempt (those of the first one, if it said), with all versions.

    Raises InvalidValue where environment.json makes no sense, or for a device that is not there.
    """
    from explorer.core.device import choose, cores, hardware_name

    spec, before = run.spec, run.environment
    held = (run.state.device or "").split(",")[0]
    device = choose("cuda" if spec.processes > 1 and held.startswith("cuda") else held or spec.device)
    share = threads.asked() or max(cores() // spec.processes, 1)
    number = spec.threads or before.get("threads") or share
    hardware = hardware_name(device, threads=number if isinstance(number, int) else None)
    facts = {
        "device": str(device),
        "hardware": hardware if spec.processes == 1 else f"{spec.processes} processes, each on {hardware}",
        "threads": number,
        "processes": spec.processes,
        "precision": before.get("precision", precision_of(spec.precision, device)),
        "host": platform.node(),
        "commit": commit(),
        "versions": versions(),
    }
    if not isinstance(facts["threads"], int) or facts["precision"] not in PRECISION_WORDS:
        raise InvalidValue(f"{run.folder / 'environment.json'} makes no sense; delete it to go on.")
    return facts


def record(run: RunFolder, facts: dict[str, Any]) -> None:
    """Write them down, and into the log what differs from the attempt before. Raises OSError."""
    before = run.environment
    for key in ("hardware", "versions", "commit"):
        if before and before.get(key) != facts[key]:
            LOG.info("%s differs from the attempt before: %s, now %s", key, before.get(key), facts[key])
    write_atomically(run.folder / "environment.json", json.dumps(facts, indent=1).encode())


def precision_of(asked: str, device: torch.device) -> str:
    """auto: bfloat16 where the device computes in it, else float32."""
    from explorer.core.device import computes_bfloat16

    if asked != "auto":
        return asked
    return "bfloat16" if computes_bfloat16(device) else "float32"


def versions() -> dict[str, str]:
    import numpy
    import torch

    import explorer

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "explorer": explorer.__version__,
    }


def commit() -> str | None:
    """The project's commit, with a plus where files were changed since; None where git does not know."""
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        return None
    say = [git, "-C", str(PROJECT), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(say, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
