"""Seven device faults of kinds that people make, planted into the running program: each turns the harness red."""

import dataclasses

import pytest
import torch

from explorer.attacks import ATTACKS, gradient
from explorer.certify import certify
from explorer.certify.votes import VoteSampler
from explorer.core import Ball, Goal, run
from explorer.engine import tracing
from explorer.models import _lwta
from explorer.training import train, trainer
from tests.fakecuda import watching
from tests.gpu.conftest import request
from tests.gpu.test_work import small, trains  # noqa: F401


def walk(on):
    run(
        ATTACKS["pgd"](steps=2).walk(on.model, on.x, on.goal, Ball("linf", 0.1), torch.Generator().manual_seed(0)),
        on.goal,
    )


def test_a_generator_of_another_device(attacked, monkeypatch):
    walk(attacked())
    monkeypatch.setattr(
        gradient, "gaussian", lambda x, rng: torch.randn(x.shape, generator=torch.Generator(), device=x.device)
    )
    with pytest.raises(RuntimeError, match="generator device"):
        walk(attacked())


def test_a_generator_not_moved_to_a_stochastic_layers_device(attacked, monkeypatch):
    on = attacked("cifar10/tiny-lwta")
    monkeypatch.setattr(_lwta, "current_rng", lambda device: torch.Generator())
    with pytest.raises(RuntimeError, match="generator device"):
        walk(on)


def test_mixed_devices(attacked, monkeypatch):
    on, winners = attacked(), VoteSampler.winners
    certify(on.model, on.x[0], 0.25, n0=4, n=8, alpha=0.4, seed=1)
    monkeypatch.setattr(VoteSampler, "winners", lambda self, *given: winners(self, *given).cpu())
    with pytest.raises(RuntimeError, match="two devices"):
        certify(on.model, on.x[0], 0.25, n0=4, n=8, alpha=0.4, seed=1)


def test_an_index_on_the_wrong_device(attacked, monkeypatch):
    monkeypatch.setattr(Goal, "margin", lambda self, logits: logits.gather(1, self.labels.cpu()[:, None])[:, 0])
    with pytest.raises(RuntimeError, match="two devices"):
        walk(attacked())


def test_numpy_of_what_lies_on_the_device(engine, monkeypatch):
    fetched = tracing._fetched
    monkeypatch.setattr(
        tracing, "_fetched", lambda x, *rest, **more: x.detach().numpy() is not None and fetched(x, *rest, **more)
    )
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
        list(tracing.attack_work(engine, request())())


def test_an_item_a_step(attacked, monkeypatch):
    degenerate = gradient.degenerate
    monkeypatch.setattr(gradient, "degenerate", lambda g: degenerate(g) if g.abs().max().item() >= 0 else None)
    with watching() as log:
        walk(attacked())
    assert log.waited >= 4  # tests/gpu/test_waits.py allows none


def test_labels_left_on_the_cpu(trains, tmp_path, monkeypatch):  # noqa: F811
    split = trainer.split
    monkeypatch.setattr(
        trainer, "split", lambda *a, **k: dataclasses.replace(made := split(*a, **k), labels=made.labels.cpu())
    )
    with pytest.raises(RuntimeError, match=r"two devices|same device"):
        train(small("baseline"), tmp_path, device="cuda", limit=16, bf16=True)
