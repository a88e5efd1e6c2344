"""TensorBoard event files say what the metrics say; a run does without them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from explorer.training.tensorboard import TensorBoard


def events_of(path):
    """The events of a file: length, its checksum, the event, its checksum, again and again."""
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        yield Event.FromString(data[12 : 12 + length])
        data = data[12 + length + 4 :]


def scalars(events):
    return [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]


def test_event_files_say_the_same(tmp_path):
    pytest.importorskip("tensorboardX")
    said = []
    board = TensorBoard(tmp_path, said.append)
    board.start(4)
    board.add(5, {"loss": 0.5, "learning_rate": 0.1})
    board.add(6, {"loss": 0.25})
    board.close()
    (file,) = tmp_path.iterdir()
    found = list(events_of(file))
    assert said == [] and found[0].file_version == "brain.Event:2"
    assert found[1].session_log.status == found[1].session_log.START and found[1].step == 5  # older words on 5 are void
    assert scalars(found) == [(5, "loss", 0.5), (5, "learning_rate", pytest.approx(0.1)), (6, "loss", 0.25)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_what_a_full_disk_refuses_is_left_out_and_what_follows_begins_a_new_file(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    said = []
    board = TensorBoard(tmp_path, said.append)

    def full(path):
        return open("/dev/full", "wb")

    with monkeypatch.context() as disk:
        disk.setattr("tensorboardX.record_writer.open_file", full)
        for update in (1, 2):
            board.add(update, {"loss": 1.0})
            board.flush()  # refused
    board.add(3, {"loss": 0.5})
    board.close()
    (file,) = tmp_path.iterdir()
    found = list(events_of(file))
    assert scalars(found) == [(3, "loss", 0.5)] and found[1].step == 3
    assert len(said) == 1 and "No space left on device" in said[0] and "metrics.jsonl has everything" in said[0]


def test_without_the_library_there_are_no_event_files_and_it_is_said_once(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    said = []
    board = TensorBoard(tmp_path / "tensorboard", said.append)
    board.start(0)
    for n in range(1, 4):
        board.add(n, {"loss": 1.0})
    board.flush()
    board.close()
    assert len(said) == 1 and "tensorboardX is not installed" in said[0] and not (tmp_path / "tensorboard").exists()
