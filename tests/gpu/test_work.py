"""The engine's works, the commands and training on a GPU."""

from functools import partial

import pytest
import torch

from explorer.core import Cancelled
from explorer.defenses import RECIPES
from explorer.engine import attack_work
from explorer.engine.attacking_smoothed import SmoothedAttack, attack_smoothed_work
from explorer.engine.batch_request import ManyRequest
from explorer.engine.certifying import CertifyRequest, certify_work
from explorer.engine.certifying_set import CertifySetRequest, certify_set_work
from explorer.engine.compare import CompareRequest, compare_work
from explorer.engine.featurespace import CloudRequest, cloud_work
from explorer.engine.many import many_work
from explorer.engine.slices import Plan, slice_work
from explorer.engine.smallest import smallest_work
from explorer.engine.transfer import transfer_work
from explorer.evaluation.throughput import throughput
from explorer.training import train
from tests.gpu.conftest import DEVICES, EVERYTHING, request

MANY = {"dataset": "cifar10", "model": "cifar10/tiny", "count": 3, "hyper": {"steps": 2}}
CERTIFY = {"dataset": "cifar10", "model": "cifar10/tiny", "sigma": 0.25, "n0": 10, "n": 130, "alpha": 0.01}
LANES = ("cifar10/tiny", "cifar10/tiny-lwta")


def slices(engine):
    asked = request().checked()
    result = [item for item in attack_work(engine, asked)() if item is not None][-1]
    return slice_work(engine, asked, result.trace.frames[-1], int(result.trace.label), Plan(size=31))


def transferred(engine):
    asked = ManyRequest(**MANY | {"attack": "universal", "pick": "right"}).checked()
    made = [item for item in many_work(engine, asked)() if item is not None][-1]
    return transfer_work(engine, made, None, n=10)


WORKS = {
    "attack": lambda e: attack_work(e, request(hyper={"steps": 2, "draws": 2}, norm="l2")),
    "compare": lambda e: compare_work(e, CompareRequest(request(), LANES).checked()),
    "transfer frames": lambda e: compare_work(e, CompareRequest(request(), LANES, "transfer").checked()),
    "many": lambda e: many_work(e, ManyRequest(**MANY).checked()),
    "transfer": transferred,
    "clouds": lambda e: cloud_work(e, CloudRequest(ManyRequest(**MANY | {"pick": "right"})).checked()),
    "smallest": lambda e: smallest_work(e, request(), width=0.5),
    "slice": slices,
    "certify": lambda e: certify_work(e, CertifyRequest(image=3, **CERTIFY, sound=True)),
    "certify set": lambda e: certify_set_work(e, CertifySetRequest(**CERTIFY, count=2)),
    "attack smoothed": lambda e: attack_smoothed_work(
        e, CertifyRequest(image=3, **CERTIFY), SmoothedAttack(steps=1, draws=2, n=20, width=0.5)
    ),
}


@pytest.mark.parametrize("name", WORKS if EVERYTHING else ["attack", "many", "certify"])
def test_the_work_runs_to_its_end(engine, name):
    future = engine.submit("me", WORKS[name](engine))
    items = list(future.events())
    assert future.state == "done" and items[-1] is not None


CERTIFYING = "--images 1 --sigma 0.25 --n0 10 --n 130 --alpha 0.01 --seed 1"
COMMANDS = (
    "evaluate cifar10/tiny --n 4 --attack pgd --set steps=2",
    f"certify cifar10/tiny {CERTIFYING}",
)
MORE = (
    "attack --model cifar10/tiny --image 17 --set steps=3",
    "attack --model cifar10/tiny-lwta --image 17 --set steps=2 --set draws=2 --norm l2",
    "attack --model cifar10/tiny --attack deepfool --image 3",
    "evaluate cifar10/tiny --clean --n 16",
    "evaluate cifar10/tiny --n 8 --attack pgd --set steps=2 --precision bfloat16",
    "evaluate cifar10/tiny-lwta --n 4 --attack pgd --set steps=2 --craft-on cifar10/tiny",
    "evaluate cifar10/tiny --n 4 --attack universal",
    "evaluate cifar10/tiny --n 4",
    "evaluate cifar10/tiny-lwta --adaptive --n 2 --twin cifar10/tiny",
    f"certify cifar10/tiny {CERTIFYING} --sound",
    f"certify cifar10/tiny-lwta {CERTIFYING} --precision bfloat16",
    "certify cifar10/tiny --images 1 --predict --sigma 0.25 --n 70 --seed 1",
)


@pytest.mark.parametrize("words", [*COMMANDS, *(MORE if EVERYTHING else ())])
def test_the_command_runs_in_float32(gpu, cli, words, monkeypatch):
    """TF32, PyTorch's default in convolutions, has 10 bits of mantissa: what a card calls float32 would not be."""
    seen, forward = set(), torch.nn.Conv2d._conv_forward

    def spy(self, *args):
        seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))
        return forward(self, *args)

    monkeypatch.setattr(torch.nn.Conv2d, "_conv_forward", spy)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    said = cli(*words.split(), "--device", "cuda")
    assert said.code == 0, said.err
    assert seen == {(False, True)}


@pytest.fixture
def trains(gpu, training_images, monkeypatch):
    """Weights lie as on a CPU: it computes here, and channels last, as on a GPU, breaks its backward pass (`layout_of`)."""
    monkeypatch.setattr("explorer.training.state.layout_of", lambda model: torch.contiguous_format)


def small(key):
    cls = RECIPES[key]
    least = {
        "epochs": 1,
        "width": 4,
        "batch": 8,
        "selection_steps": 1,
        "steps": 1,
        "start": "",
        "copies": 2,
        "finish_steps": 1,
    }
    lowest = {p.name: getattr(p, "lo", None) for p in cls.params()}
    chosen = {n: v if lowest[n] is None else max(v, lowest[n]) for n, v in least.items() if n in lowest}
    return cls(**cls.smoke | chosen)


@pytest.mark.skipif(not EVERYTHING, reason="python -m tests.fakecuda.all")
def test_bench_training_runs(trains, cli, monkeypatch):
    """One update of 4 images each: its own 20 of 128 would take an hour here."""
    monkeypatch.setattr("explorer.evaluation.throughput.layout_of", lambda model: torch.contiguous_format)
    monkeypatch.setattr("explorer.cli.bench.throughput", partial(throughput, updates=1, batch=4))
    said = cli("bench", "training", "--repeats", "1", "--device", "cuda")
    assert said.code == 0, said.err


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", RECIPES.keys() if EVERYTHING else ["baseline"])
def test_the_recipe_trains_in_bfloat16(trains, tmp_path, key, device):
    result = train(small(key), tmp_path, device=device, limit=16, bf16=True)
    assert {p.device.type for p in result.model.parameters()} == {"cuda"}


@pytest.mark.parametrize("key", ["pgd-linf", "free", "lwta"] if EVERYTHING else ["baseline"])
@pytest.mark.parametrize(
    ("first", "then"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")][: 3 if EVERYTHING else 2]
)
def test_a_run_goes_on_on_another_kind_of_device_and_says_so(trains, tmp_path, key, first, then):
    said, passes = [], iter(range(3))
    options = {"limit": 24, "bf16": False}
    with pytest.raises(Cancelled):
        train(small(key), tmp_path, device=first, should_stop=lambda: next(passes, None) is None, **options)
    result = train(small(key), tmp_path, device=then, say=said.append, **options)
    assert len(result.history) == 1 and any("another kind of device" in line for line in said) == (first != then)
