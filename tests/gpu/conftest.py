"""An impersonated GPU (tests/fakecuda) with a zoo of tiny networks; `EVERYTHING` asks for all that can be run on it."""

import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from explorer.core import Classifier, Goal
from explorer.engine import AttackRequest, Engine
from explorer.models import zoo
from tests.cli.conftest import cli  # noqa: F401  # fixtures
from tests.engine.conftest import small_reference, tiny_zoo  # noqa: F401
from tests.fakecuda.conftest import gpu  # noqa: F401
from tests.training.conftest import training_images  # noqa: F401

EVERYTHING = os.environ.get("FAKECUDA") == "all"  # python -m tests.fakecuda.all
DEVICES = ("cuda", "cuda:1") if EVERYTHING else ("cuda:1",)


@dataclass
class Attacked:
    """A network on the device, one image that it gets right, and what to ask of them."""

    model: Classifier
    x: torch.Tensor
    goal: Goal


@pytest.fixture
def attacked(gpu):  # noqa: F811
    def made(name="cifar10/tiny", device="cuda", images=1):
        model = zoo.load(name, device)
        x = torch.rand(images, *model.input_shape, generator=torch.Generator().manual_seed(0)).to(device)
        return Attacked(model, x, Goal.untargeted(model(x).argmax(1)))

    return made


@pytest.fixture
def engine(gpu, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path))
    made = Engine("cuda", threads=1)
    yield made
    made.close()


def request(**changes: Any) -> AttackRequest:
    facts = {"dataset": "cifar10", "image": 17, "model": "cifar10/tiny", "attack": "pgd", "hyper": {"steps": 3}}
    return AttackRequest(**facts | changes)
