"""What a run measured can be read at any moment, in parts, and after any kill."""

from __future__ import annotations

import json

from explorer.training import newest, read_metrics
from explorer.training.metrics import Metrics


def update(n, loss=1.0):
    return {"kind": "update", "update": n, "epoch": 1, "loss": loss}


def test_records_come_back_and_reading_goes_on_where_it_ended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == ([], 0)
    metrics = Metrics(path)
    metrics.add(update(1))
    first, offset = read_metrics(path)
    metrics.add(update(2))
    metrics.add(update(3))
    rest, end = read_metrics(path, offset)
    metrics.close()
    assert [one["update"] for one in first + rest] == [1, 2, 3] and end == path.stat().st_size
    assert read_metrics(path, end) == ([], end)


def test_a_line_in_the_making_waits_and_a_torn_one_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(json.dumps(update(1)).encode() + b'\n{"kind": "upda')
    found, offset = read_metrics(path)
    assert [one["update"] for one in found] == [1] and offset < path.stat().st_size
    metrics = Metrics(path)  # the next process
    metrics.add(update(2))
    metrics.add(update(3))
    metrics.close()
    assert [one["update"] for one in read_metrics(path, offset)[0]] == [2, 3]
    assert [one["update"] for one in read_metrics(path)[0]] == [1, 2, 3]


def test_another_file_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(update(1)) + "\n")
    assert [one["update"] for one in read_metrics(path, 10_000)[0]] == [1]


def test_of_what_was_recorded_twice_the_last_counts():
    epoch = {"kind": "epoch", "update": 3, "epoch": 1, "loss": 2.0}
    again = [
        {"kind": "start", "update": 0, "epoch": 0},
        update(1),
        update(2),
        update(3),
        epoch,
        update(4, 9.0),
        update(5, 9.0),
    ]
    again += [{"kind": "start", "update": 3, "epoch": 1}, update(4, 0.5)]
    assert newest(again) == [update(1), update(2), update(3), epoch, update(4, 0.5)]  # 5 has not happened yet
    assert newest([*again, update(5, 0.25)])[-1] == update(5, 0.25)
    unscored = [*again[:5], {"kind": "start", "update": 3, "epoch": 0}]
    assert newest(unscored) == [update(1), update(2), update(3)]  # killed after the scoring, before the checkpoint
