"""A run's certificates in a file: what a stop leaves is gone on from, and nothing else is taken for it."""

import json

import pytest
import torch

from explorer.certify import RunLog, Smoothed, certify_many
from explorer.core import Cancelled, InvalidValue

ASKED = {"n0": 10, "n": 40, "alpha": 0.05, "seed": 7}
CONDITIONS = {"weights": "abc", "sigma": 0.5, **ASKED}


@pytest.fixture
def model(halfspace):
    return halfspace(0.5)


@pytest.fixture
def pictures():
    return torch.stack([torch.full((1, 2, 2), level) for level in (0.9, 0.7, 0.5, 0.1)])


def all_of(model, pictures, log=None, **options):
    return list(certify_many(Smoothed(model, 0.5), pictures, **ASKED, log=log, **options))


def test_a_stopped_run_goes_on_to_the_same_certificates(model, pictures, tmp_path):
    path, passes = tmp_path / "runs" / "run.jsonl", []
    with pytest.raises(Cancelled):
        all_of(model, pictures, RunLog(path, CONDITIONS), should_stop=lambda: passes.append(1) or len(passes) > 10)
    left = RunLog(path, CONDITIONS)
    assert 0 < len(left) < 4 and left.seconds > 0 and RunLog.seed_of(path) == 7
    model.seen.clear()
    found = all_of(model, pictures, left)
    assert len(model.inputs) == (4 - len(left)) * 50  # what was there is not drawn again
    assert found == all_of(model, pictures)
    assert len(RunLog(path, CONDITIONS)) == 4


def test_a_line_that_was_cut_off_is_made_anew(model, pictures, tmp_path):
    path = tmp_path / "run.jsonl"
    before = all_of(model, pictures, RunLog(path, CONDITIONS))
    whole = path.read_bytes()
    for cut in (len(whole) - 5, len(whole) - 1, whole.index(b"\n") - 3, 0):
        path.write_bytes(whole[:cut])
        assert all_of(model, pictures, RunLog(path, CONDITIONS)) == before
        assert path.read_bytes().startswith(whole[: whole.index(b"\n") + 1])
        assert len(RunLog(path, CONDITIONS)) == 4


@pytest.mark.parametrize("name", CONDITIONS)
def test_another_run_s_file_is_refused_by_what_differs(name, tmp_path):
    path = tmp_path / "run.jsonl"
    RunLog(path, CONDITIONS)
    before = path.read_bytes()
    with pytest.raises(InvalidValue, match=f"another run: {name} is"):
        RunLog(path, CONDITIONS | {name: 99})
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"a letter", b"a letter\n", b"[1, 2]\n", b"\x00\xff" * 50])
def test_somebody_s_file_is_left_as_it_is(data, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_bytes(data)
    with pytest.raises(InvalidValue, match="does not hold a run's certificates"):
        RunLog(path, CONDITIONS)
    assert path.read_bytes() == data


def test_certificates_that_nobody_made_are_refused(model, pictures, tmp_path):
    path = tmp_path / "run.jsonl"
    all_of(model, pictures, RunLog(path, CONDITIONS))
    first, *rows = path.read_text("utf-8").splitlines()
    better = json.loads(rows[0])
    better["certificate"]["radius"] = 3.0
    path.write_text("\n".join([first, json.dumps(better), *rows[1:]]) + "\n", "utf-8")
    with pytest.raises(InvalidValue, match="damaged in line 2 .*does not follow from its votes"):
        RunLog(path, CONDITIONS)
    path.write_text("\n".join([first, rows[0].replace('"index": 0', '"index": 1')]) + "\n", "utf-8")
    with pytest.raises(InvalidValue, match="certificate of image 1 in .* is of another run"):
        all_of(model, pictures, RunLog(path, CONDITIONS))


def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path):
    for path in (tmp_path, tmp_path / "file" / "run.jsonl"):
        (tmp_path / "file").touch()
        with pytest.raises(InvalidValue, match="cannot be used: "):
            RunLog(path, CONDITIONS)
