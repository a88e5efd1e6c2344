"""Frames carry arrays as they are, and whatever is no frame ends in one sentence, in time."""

import json
import os
import threading
import time

import numpy as np
import pytest

from explorer.core.frames import Broken, Channel


@pytest.fixture
def ends():
    (a, b), (c, d) = os.pipe(), os.pipe()
    yield Channel(a, d), Channel(c, b, patient=True)
    for end in (a, b, c, d):
        try:
            os.close(end)
        except OSError:
            continue


def test_arrays_arrive_as_they_left_large_and_empty_ones_too(ends):
    ours, theirs = ends
    arrays = {
        "x": np.random.default_rng(0).random((3, 700, 700)).astype(np.float32)[:, ::2],
        "none": np.zeros((0, 3), np.int64),
        "number": np.array(5),
        "yes": np.array([True, False]),
    }
    sender = threading.Thread(target=theirs.send, args=({"number": 1, "words": "ü"}, arrays))
    sender.start()
    header, found = ours.receive(10)
    sender.join()
    assert header == {"number": 1, "words": "ü"}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert np.array_equal(found[name], array)


def frame(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(4, "little") + text + data


WRONG = {
    "no JSON": frame(b"nothing"),
    "no object": frame([1]),
    "no arrays": frame({"number": 1}),
    "objects": frame({"arrays": [["x", "object", [1]]]}, bytes(8)),
    "a negative length": frame({"arrays": [["x", "float32", [-1]]]}),
    "two negative lengths": frame({"arrays": [["x", "float32", [-4, -4]]]}, bytes(64)),
    "too many bytes": frame({"arrays": [["x", "float32", [2**40]]]}),
    "a header without end": (2**31).to_bytes(4, "little"),
    "deep JSON": frame(b"[" * 100_000),
    "a pickle": b"\x80\x04\x95\x00\x00\x00\x00",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_frame_is_not_believed(ends, what):
    ours, theirs = ends
    os.write(theirs.write, WRONG[what][:60000]) if len(WRONG[what]) < 60000 else threading.Thread(
        target=os.write, args=(theirs.write, WRONG[what]), daemon=True
    ).start()
    with pytest.raises(Broken, match="no answer"):
        ours.receive(5)


def test_silence_and_an_end_are_noticed(ends):
    ours, theirs = ends
    began = time.monotonic()
    with pytest.raises(Broken, match="too long"):
        ours.receive(0.1)
    with pytest.raises(Broken, match="too long"):
        ours.send({}, {"x": np.zeros(1 << 20)}, 0.1)  # nobody takes it
    assert time.monotonic() - began < 5
    os.close(theirs.write)
    with pytest.raises(Broken, match="ended"):
        ours.receive(1)
