"""As the platform did beside as the field does: other images, other counts, and one sentence where training images lack."""

from contextlib import contextmanager

import pytest
import torch

from explorer.core import DataUnavailable, InvalidValue, wilson
from explorer.data import load
from explorer.evaluation import course
from explorer.models import zoo

N = 40


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(course, "TESTS", course.TESTS[:2])
    monkeypatch.setattr(course, "load", lambda name, n: load(name, n=n, source="sample"))


def test_both_protocols_with_intervals_and_why_they_differ(few, monkeypatch, tmp_path):
    images = load("cifar10", n=200, source="sample")
    (tmp_path / "train.parquet").write_bytes(b"pixels")

    @contextmanager
    def as_needed(name, split):
        assert split == "train"
        yield (images.x * 255).to(torch.uint8), images.y

    monkeypatch.setattr(course, "as_needed", as_needed)
    monkeypatch.setattr(course, "files_of", lambda name, split: ("parquet", (tmp_path / "train.parquet",)))
    report = course.course_report("cifar10/lenet", n=N, samples=3)
    natural, linf = report.rows
    with torch.no_grad():
        right = zoo.load("cifar10/lenet")(images.x[:N]).argmax(1) == images.y[:N]
    assert (natural.platform.correct, natural.platform.n) == (3 * int(right.sum()), 3 * N)
    assert (natural.last_batch.correct, natural.last_batch.n) == (3 * int(right[-32:].sum()), 3 * 32)
    facts = natural.field.facts
    assert (facts["low"], facts["high"]) == wilson(natural.field.correct, N)
    assert linf.platform.correct < natural.platform.correct and linf.field.correct < natural.field.correct
    said = " ".join(report.notes)
    assert "train.parquet, sha256" in said and "shuffled" in said and "training images" in said and "last batch" in said


def test_without_training_images_one_sentence(few, monkeypatch):
    def missing(name, split):
        raise DataUnavailable("The full train set of CIFAR-10 is needed.")

    monkeypatch.setattr(course, "as_needed", missing)
    report = course.course_report("cifar10/lenet", n=N)
    assert all(row.platform is None and row.last_batch is None for row in report.rows)
    assert "not measured. The full train set" in report.notes[0]
    assert report.to_dict()["rows"][0]["platform"] is None
    with pytest.raises(InvalidValue, match="samples must be"):
        course.course_report("cifar10/lenet", samples=0)
