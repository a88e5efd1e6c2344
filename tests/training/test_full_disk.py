"""A full disk makes a run wait; nothing is lost, and nothing half-written stays."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from explorer.core import Cancelled, ExplorerError
from explorer.training import METRICS, log, preview_epochs, train
from explorer.training import metrics as metrics_module
from tests.training.runs import OPTIONS, numbers, small, weights


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """Every third write finds the disk full, and a line of the metrics is then cut in the middle."""

    def __init__(self, monkeypatch):
        self.writes, self.refused = 0, 0
        for module, name in (
            (log, "write_preview"),
            (log.Checkpoints, "save"),
            (metrics_module, "_write"),
        ):
            monkeypatch.setattr(module, name, self.sometimes(getattr(module, name)))

    def sometimes(self, write):
        def wrapped(*given):
            self.writes += 1
            if self.writes % 3 == 0:
                self.refused += 1
                if write.__name__ == "_write":
                    os.write(given[0], given[1][:7])
                full()
            return write(*given)

        wrapped.__name__ = write.__name__
        return wrapped


def test_a_full_disk_is_waited_for_and_the_run_is_the_same(tmp_path, monkeypatch):
    whole = train(small("baseline"), tmp_path / "whole", **OPTIONS)
    waits = []
    disk = Disk(monkeypatch)
    patient = train(small("baseline"), tmp_path / "patient", on_full=waits.append, every=0.0, **OPTIONS)
    assert len(waits) == disk.refused > 5 and all(error.errno == errno.ENOSPC for error in waits)
    one, other = weights(whole), weights(patient)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert numbers(tmp_path / "patient") == numbers(tmp_path / "whole")
    lines = (tmp_path / "patient" / METRICS).read_text().splitlines()
    assert all(json.loads(line) for line in lines)  # none is torn
    assert preview_epochs(tmp_path / "patient") == [0, 1, 2]
    assert len(list((tmp_path / "patient" / "checkpoints").iterdir())) == 2


def test_giving_up_while_the_disk_is_full_is_a_cancel(tmp_path, monkeypatch):
    def give_up(error):
        raise Cancelled("enough")

    monkeypatch.setattr(log.Checkpoints, "save", full)
    with pytest.raises(Cancelled, match="enough"):
        train(small("baseline"), tmp_path, on_full=give_up, **OPTIONS)


def test_without_anyone_to_wait_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(log.Checkpoints, "save", full)
    with pytest.raises(
        ExplorerError, match=r"cannot be written \(No space left on device\); the run can go on"
    ) as refusal:
        train(small("baseline"), tmp_path, **OPTIONS)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 8 MiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs Linux and the right to mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk_pauses_the_run_until_there_is_room(tiny_disk, tmp_path):
    whole = train(small("baseline"), tmp_path / "whole", **OPTIONS)
    run, filler, waits = tiny_disk / "run", tiny_disk / "filler", []

    def fill(now):
        if now.update == 2 and now.held_out is None:
            with open(filler, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError as error:
                    assert error.errno == errno.ENOSPC

    def make_room(error):
        waits.append(error)
        assert not list((run / "checkpoints").glob(".*.tmp"))  # nothing half-written stays
        if len(waits) == 3:
            filler.unlink()

    result = train(small("baseline"), run, progress=fill, on_full=make_room, every=0.0, **OPTIONS)
    assert len(waits) == 3
    one, other = weights(whole), weights(result)
    assert all(torch.equal(one[key], other[key]) for key in one) and numbers(run) == numbers(tmp_path / "whole")
