"""What somebody uploads becomes a model or one sentence, within limits, aside from the device's queue; nothing stays behind."""

import io
import zipfile
from pathlib import Path

import pytest
import torch

from explorer.core import BadCheckpoint, InvalidValue, UnknownName, confinement
from explorer.core.paths import runs
from explorer.engine import adding
from explorer.engine.adding import File, WeightsUpload, accept_work, check_work, weights_work, zip_work
from explorer.engine.aside import Aside, Asides
from explorer.engine.scheduler import Busy
from explorer.evaluation.checking import remove
from explorer.models import confined, own_code, zoo
from tests.confining import confining

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed({seed})
        self.fc = nn.Linear(3072, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))
"""
CODE = """
from torch import nn

def make(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(48 * 48 * 3, num_classes))

def tuple_of():
    return 1, 2
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    confined.pool.end()


def ran(work) -> Aside:
    job = Aside("a test", work)
    assert job.wait(120)
    return job


def packed(files) -> bytes:
    room = io.BytesIO()
    with zipfile.ZipFile(room, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return room.getvalue()


def saved(state) -> bytes:
    room = io.BytesIO()
    torch.save(state, room)
    return room.getvalue()


def left() -> list[Path]:
    """What lies in the runs' folder, but for the log of who did what."""
    return [file for file in runs().rglob("*") if file.is_file() and file.name != "audit.jsonl"]


@confining
def test_weights_of_any_form_become_a_model_that_is_built_as_one_here():
    state = zoo.load("cifar10/lenet").state_dict()
    file = File(
        "C:\\weights\\best.pth", saved({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3})
    )
    (one,) = ran(weights_work(WeightsUpload("cifar10/mine", file, "cifar10/lenet", title="Mine"))).found
    card = zoo.card("cifar10/mine")
    assert one.card == card and (card.architecture, card.arguments) == ("lenet", {"halves": True})
    assert card.training["weights"] == "best.pth" and "stripped the prefix 'module.'" in card.training["notes"]
    assert "of 200 sample images right" in card.training["sample"]
    x = torch.rand(3, 3, 32, 32)
    assert torch.equal(zoo.load("cifar10/mine")(x), zoo.load("cifar10/lenet")(x))
    assert own_code._entries() == []
    remove("cifar10/mine")
    assert left() == []


@confining
def test_uploaded_code_runs_confined_on_the_pixels_it_wants():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 48 * 3, 10))
    upload = WeightsUpload(
        "cifar10/mine", File("w.bin", saved(net.state_dict())), code=File("model.py", CODE.encode()), factory="make",
        mean=[0.5], std=[0.25], size=48,
    )  # fmt: skip
    (one,) = ran(weights_work(upload)).found
    assert one.card is not None, one.said
    x = torch.rand(2, 3, 32, 32)
    large = torch.nn.functional.interpolate(x, (48, 48), mode="bilinear")
    torch.testing.assert_close(zoo.load("cifar10/mine")(x), net((large - 0.5) / 0.25), rtol=1e-4, atol=1e-4)
    assert "make of an uploaded model.py" in one.card.summary and "runs confined" in one.card.summary
    bad = WeightsUpload("cifar10/bad", upload.file, code=upload.code, factory="tuple_of")
    (one,) = ran(weights_work(bad)).found
    assert one.card is None and "tuple" in one.said and "cifar10/bad" not in {card.name for card in zoo.cards()}
    remove("cifar10/mine")
    assert left() == []


@confining
def test_a_class_comes_in_is_checked_and_accepted_and_may_come_again():
    file = File(
        "class.zip", packed({"class/a/model.py": MODEL.format(seed=1), "class/b/model.py": "import sys; sys.exit()"})
    )
    said = []
    job = ran(lambda aside: zip_work("cifar10", file)(_Noting(aside, said)))
    assert [(one.name, one.card is not None) for one in job.found] == [("cifar10/a", True), ("cifar10/b", False)]
    assert "1 of 2, cifar10/a: Probing it" in said and "SystemExit" in job.found[1].said
    (found,) = ran(check_work("cifar10/a")).found
    assert "of 200 sample images right" in found.said
    model, card, x = zoo.load("cifar10/a"), zoo.card("cifar10/a"), torch.rand(1, 3, 32, 32)
    before = model(x)
    with open(Path(card.training["folder"]) / "model.py", "a") as code:
        code.write("\nclass Net(Net):\n    def forward(self, x):\n        return 2 * super().forward(x)\n")
    confined.pool.end()
    with pytest.raises(BadCheckpoint, match="changed since it was added"):  # also where it was loaded before
        model(x)
    accepted = ran(accept_work("cifar10/a")).found[0].card
    assert accepted.sha256 == card.sha256 and accepted.identity != card.identity  # the same weights, another code
    torch.testing.assert_close(zoo.load("cifar10/a")(x), 2 * before)
    assert ran(zip_work("cifar10", file)).error.startswith("class.zip was added before")
    remove("cifar10/a")
    assert confined.pool.live == [] and left() == [] and not list((runs() / "submissions").iterdir())


class _Noting:
    """An Aside that notes what is said."""

    def __init__(self, aside, said):
        self.aside, self.said = aside, said

    def say(self, doing):
        self.said.append(doing)
        self.aside.say(doing)

    def give(self, item):
        self.aside.give(item)


@confining
def test_a_cancelled_class_leaves_only_what_was_added():
    files = {f"{k}/model.py": MODEL.format(seed=k) for k in range(3)}

    def work(aside):
        zip_work("cifar10/g", File("class.zip", packed(files)))(_CancelsAfterOne(aside))

    job = ran(work)
    assert job.state == "cancelled" and [one.name for one in job.found] == ["cifar10/g-0"]
    assert [file.parent.name for file in left() if file.name == "model.py"] == ["0"]
    remove("cifar10/g-0")
    assert left() == []


class _CancelsAfterOne(_Noting):
    def __init__(self, aside):
        super().__init__(aside, [])

    def give(self, item):
        self.aside.give(item)
        self.aside.cancel()


def zero(name="w.pth", data=b"x"):
    return File(name, data)


REFUSED_AT_ONCE = {
    "a name of two folders": (lambda: weights_work(WeightsUpload("cifar10/../x", zero())), "name must be"),
    "a name that is taken": (lambda: weights_work(WeightsUpload("cifar10/lenet", zero())), "is there already"),
    "another kind of file": (lambda: weights_work(WeightsUpload("cifar10/x", zero("w.exe"))), "must be a file of the kind"),
    "an empty file": (lambda: weights_work(WeightsUpload("cifar10/x", zero(data=b""))), "is empty"),
    "no architecture": (lambda: weights_work(WeightsUpload("cifar10/x", zero())), "a page takes"),
    "code of the app's own": (lambda: weights_work(WeightsUpload("cifar10/x", zero(), "os:system")), "a page takes"),
    "a std of zero": (lambda: weights_work(WeightsUpload("cifar10/x", zero(), "timm:a", std=[0])), "std must be above 0"),
    "two means": (lambda: weights_work(WeightsUpload("cifar10/x", zero(), "timm:a", mean=[0, 0])), "one number, or 3"),
    "a size of a wall": (lambda: weights_work(WeightsUpload("cifar10/x", zero(), "timm:a", size=9999)), "size must be"),
    "a factory that is code": (
        lambda: weights_work(WeightsUpload("cifar10/x", zero(), code=File("a.py", b"x"), factory="f();g")),
        "the factory must be",
    ),
    "code that is no Python file": (
        lambda: weights_work(WeightsUpload("cifar10/x", zero(), code=File("a.txt", b"x"), factory="f")),
        "must be a file of the kind .py",
    ),
    "no zip": (lambda: zip_work("cifar10", File("class.rar", b"x")), "must be a file of the kind .zip"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED_AT_ONCE)
def test_what_cannot_be_is_refused_before_anything_starts(what):
    make, words = REFUSED_AT_ONCE[what]
    with pytest.raises(InvalidValue, match=words) as refusal:
        make()
    assert "\n" not in str(refusal.value) and not runs().exists()


REFUSED = {
    "no weights": (lambda: weights_work(WeightsUpload("cifar10/x", zero(), "cifar10/lenet")), "damaged or no file of weights"),
    "a web page": (
        lambda: weights_work(WeightsUpload("cifar10/x", zero(data=b"<!doctype html>"), "cifar10/lenet")), "is a web page"
    ),
    "weights of another": (
        lambda: weights_work(WeightsUpload("cifar10/x", zero(data=saved({"a": torch.zeros(1)})), "cifar10/lenet")), "missing"
    ),
    "built for other images": (
        lambda: weights_work(WeightsUpload("cifar10/x", zero(), "fashion_mnist/fashion-mlp")), "can be built as one of"
    ),
    "no such network": (lambda: weights_work(WeightsUpload("cifar10/x", zero(), "torchvision:none")), "no classifier 'none'"),
    "no zip inside": (lambda: zip_work("cifar10", File("a.zip", b"nothing")), "damaged, locked by a password, or no zip"),
    "a zip of nothing": (lambda: zip_work("cifar10", File("a.zip", packed({"readme": ""}))), "holds no submission"),
    "a zip that leads out": (lambda: zip_work("cifar10", File("a.zip", packed({"../x/model.py": ""}))), "lead out of its folder"),
}  # fmt: skip


@confining
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_found_out_on_the_way_is_one_sentence_and_leaves_nothing(what):
    make, words = REFUSED[what]
    job = ran(make())
    said = job.error or job.found[0].said
    assert words in said and "\n" not in said, said
    assert left() == [] and own_code._entries() == []


def test_limits_and_an_unconfined_computer_are_said(monkeypatch):
    monkeypatch.setattr(adding, "MOST_MB", 0)
    with pytest.raises(InvalidValue, match="the most is 0 MB"):
        zip_work("cifar10", File("a.zip", b"x"))
    monkeypatch.undo()
    with pytest.raises(UnknownName):
        zip_work("imagenet", File("a.zip", b"x"))
    monkeypatch.setattr(confinement, "bwrap", lambda: None)
    for make in (lambda: zip_work("cifar10", File("a.zip", b"x")), lambda: check_work("cifar10/lenet")):
        with pytest.raises(InvalidValue, match="--unconfined"):
            make()


def test_one_piece_of_work_at_a_time_watched_and_stopped():
    def work(aside):
        aside.give("first")
        while True:
            aside.say("looping")

    many = Asides("Somebody works")
    job = many.start("one", work)
    with pytest.raises(Busy, match=r"Somebody works \(one\)"):
        many.start("two", work)
    job.cancel()
    assert job.wait(10) and (job.state, job.found, job.doing) == ("cancelled", ("first",), "looping")
    assert many.start("three", lambda aside: 1 / 0).wait(10)
    assert many.latest.state == "failed" and "ZeroDivisionError" in many.latest.error
