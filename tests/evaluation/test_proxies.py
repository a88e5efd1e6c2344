"""The measures of proxies beside their control, and the experiment: same updates, same images, taken up where it stopped."""

import math

import pytest
import torch

from explorer.core import InvalidValue
from explorer.data import raw
from explorer.data.samples import write_samples
from explorer.evaluation import proxies, proxy_experiment
from explorer.evaluation.measure import packed
from explorer.evaluation.proxy_experiment import Plan
from explorer.models import zoo
from explorer.proxies.measures import Discriminators
from tests.training.runs import sample

CPU = torch.device("cpu")
BAD, GOOD = "fashion_mnist/bad", "fashion_mnist/good"
QUICK = Discriminators((0.0, 0.05), updates=30, batch=32, inner_steps=1, attack_steps=3)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """The bundled sample as training and test set, and two kinds of samples."""
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    for module in ("explorer.proxies.generator", "explorer.evaluation.proxies"):
        monkeypatch.setattr(f"{module}.raw", lambda name, split: raw(name, "test", "sample"))
    monkeypatch.setattr(proxy_experiment, "as_needed", sample)
    pixels, labels, _ = raw("fashion_mnist", "test", "sample")
    for name, drawn in ((BAD, 255 - pixels), (GOOD, pixels)):
        write_samples(name, drawn[:200], labels[:200], {"name": name, "dataset": "fashion_mnist"})


def plan(**changed):
    usual = {
        "recipe": "proxy-fashion", "samples": (BAD,), "real": (40,), "updates": 3, "seeds": 2, "images": 30, "steps": 2,
        "changed": {"channels": "4-4", "hidden": 8, "batch": 20},
    }  # fmt: skip
    return Plan(**(usual | changed))


def test_a_negative_is_farther_from_real_than_the_control():
    from explorer.data.samples import read_samples

    told = []
    found = proxies.measure(
        [read_samples(BAD)],
        zoo.load("fashion_mnist/fashion-mlp"),
        "m",
        "fashion_mnist",
        100,
        2,
        QUICK,
        lambda: told.append(1),
    )
    control, bad = found
    assert control.frechet < bad.frechet and control.labels > 0.7 > bad.labels and len(told) == 8
    assert bad.arc[0] == pytest.approx(sum(bad.areas) / 2) and bad.arc[0] > control.arc[0] + 0.003
    with pytest.raises(InvalidValue, match="n must be at most"):
        proxies.measure([], zoo.load("fashion_mnist/fashion-mlp"), "m", "fashion_mnist", 10**6, 1, QUICK)


def test_as_many_updates_with_a_proxy_as_without(monkeypatch, tmp_path):
    counted = []
    update = proxy_experiment.Trainer.update
    monkeypatch.setattr(proxy_experiment.Trainer, "update", lambda *args: counted.append(len(args[1])) or update(*args))
    one = plan(seeds=1)
    gains = one.run(tmp_path / "log.jsonl", CPU)
    assert counted == [20] * 8  # twice two epochs of two updates: 3 rounded up
    assert [(g.real, g.samples) for g in gains] == [(40, ""), (40, BAD)]
    assert gains[0].gain == 0 and gains[1].gain == pytest.approx(gains[1].robust - gains[0].robust)
    again = one.run(tmp_path / "log.jsonl", CPU)
    assert again == gains and len(counted) == 8  # read, not trained again
    with pytest.raises(InvalidValue, match="another run"):
        plan(seeds=1, steps=3).run(tmp_path / "log.jsonl", CPU)


def test_gains_are_paired_on_images_and_seeds():
    one = plan(images=4)
    robust = {("", 0): [1, 0, 0, 0], ("", 1): [1, 1, 0, 0], (BAD, 0): [1, 1, 0, 0], (BAD, 1): [1, 1, 1, 1]}
    made = [
        {"cell": list(cell), "clean": 0.5, "robust": sum(robust[cell[1:]]) / 4, "verdicts": packed(robust[cell[1:]])}
        for cell in one.cells
    ]
    without, bad = one.gains(made)
    assert without.gain == 0 == without.high and bad.each == (0.25, 0.5) and bad.gain == 0.375
    spread = torch.tensor([0.0, 0.5, 0.5, 0.5]).std().item()  # of an image's mean change over the seeds
    assert bad.high - bad.gain == pytest.approx(1.959964 * spread / math.sqrt(4))
    assert bad.robust == 0.75 and bad.seeds[0] == pytest.approx(0.375)


def test_plans_that_cannot_be_are_refused():
    for changed, message in (
        ({"recipe": "nfgsm", "changed": {}}, "recipe must train with samples, proxy, proxy-fashion"),
        ({"real": (10**6,)}, "real must be numbers of images"),
        ({"changed": {"epochs": 3}}, "sets epochs itself"),
    ):
        with pytest.raises(InvalidValue, match=message):
            plan(**changed)
