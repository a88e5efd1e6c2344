"""Submissions in processes of their own: each answers for itself, with gradients, and nothing it tries gets out."""

import os
import socket
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, confinement, run, seeded, use_generator
from explorer.core.confinement import Ended
from explorer.models import confined
from explorer.models.confined import ConfinedClassifier, Pool, Submission
from tests.confining import confining
from tests.models import hostile_acts

NET = """
import torch
from torch import nn
from utils import bend

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3072, 10)

    def forward(self, x):
        {noise}
        return torch.log_softmax(self.fc(bend(x.flatten(1))), 1)
"""
ALL = (
    os.environ.get("EXPLORER_HOSTILE") == "all"
)  # each takes a process of its own: EXPLORER_HOSTILE=all pytest THIS FILE
pytestmark = confining


def folder_of(place, number, noise=""):
    """A submission whose utils.py raises pixels to the power `number`, and its weights."""
    folder = place / f"group{number}"
    (folder / "models").mkdir(parents=True)
    (folder / "model.py").write_text(NET.format(noise=noise))
    (folder / "utils.py").write_text(f"def bend(x):\n    return x ** {number}\n")
    torch.manual_seed(number)
    fc = nn.Linear(3072, 10)
    save_file({"module.fc.weight": fc.weight.data, "module.fc.bias": fc.bias.data}, folder / "models" / "w.safetensors")
    return folder, fc


@pytest.fixture
def pool(monkeypatch):
    found = Pool(2)
    monkeypatch.setattr(confined, "pool", found)
    yield found
    found.end()


@contextmanager
def listening():
    """A port of this computer that would answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_each_submission_answers_for_itself_and_attacks_work_as_on_any_network(tmp_path, pool):
    x = torch.rand(4, 3, 32, 32, generator=seeded(0))
    nets = {}
    for number in (2, 3):
        folder, fc = folder_of(tmp_path, number, noise="x = x + 0.1 * torch.randn_like(x)" if number == 3 else "")
        nets[number] = ConfinedClassifier(Submission(f"cifar10/{number}", folder, (3, 32, 32), 10), number == 3), fc
    (plain, fc), (noisy, _) = nets[2], nets[3]
    leaf = x.clone().requires_grad_(True)
    wanted = torch.log_softmax(fc(leaf.flatten(1) ** 2), 1)
    (slope,) = torch.autograd.grad(wanted[:, 3].sum(), leaf)
    logits, features = plain.both(leaf)
    assert torch.equal(logits, wanted.detach()) and torch.equal(features, leaf.detach().flatten(1) ** 2)
    (found,) = torch.autograd.grad(logits[:, 3].sum(), leaf)
    torch.testing.assert_close(found, slope)
    goal, ball = Goal.untargeted(wanted.argmax(1)), Ball("linf", 8 / 255)
    outcome = run(ATTACKS["pgd"](steps=3).walk(plain, x, goal, ball, seeded(0)), goal)
    with torch.no_grad():
        assert bool((goal.loss(plain(outcome.x), "ce") > goal.loss(plain(x), "ce")).all())
    first = plain.both(leaf)[
        0
    ]  # a gradient that is asked for after other passes: the graph is gone, the pass made again
    for _ in range(3):
        plain(x.clone().requires_grad_(True))
    torch.testing.assert_close(torch.autograd.grad(first[:, 3].sum(), leaf)[0], slope)

    def answer(seed, shared=False):
        with torch.no_grad(), use_generator(seeded(seed), shared):
            return noisy(x)

    assert torch.equal(answer(1), answer(1)) and not torch.equal(answer(1), answer(2))
    with torch.no_grad(), use_generator(seeded(1), True):
        assert torch.allclose(noisy(x[2:3]), answer(1, shared=True)[2:3])
    assert torch.equal(plain(x), wanted.detach()) and len(pool.live) == 2
    before = {process.pid for process in pool.live}
    again = ConfinedClassifier(Submission("cifar10/again", plain.submission.folder, (3, 32, 32), 10))
    assert torch.equal(again(x), wanted.detach()) and len(pool.live) == 2  # the longest unused has ended
    assert len(before & {process.pid for process in pool.live}) == 1


def test_nothing_a_hostile_submission_tries_gets_out_and_its_process_goes_on(tmp_path, pool, monkeypatch):
    monkeypatch.setenv("HOSTILE_SECRET", "a password")
    outside, folder = tmp_path / "outside", tmp_path / "group"
    outside.mkdir()
    folder.mkdir()
    (outside / "secret.txt").write_text("another group's")
    with listening() as port:
        (folder / "model.py").write_text(hostile_acts.model(hostile_acts.SURVIVED, str(outside), port))
        net = ConfinedClassifier(Submission("cifar10/group", folder, (3, 32, 32), 10))
        assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    with pool.lease(net.submission) as entry:
        _, state = entry.process.ask("state")
    assert int(state["asked"]) == len(hostile_acts.SURVIVED) and bytes(state["got"]).decode() == ""
    assert sorted(p.name for p in outside.iterdir()) == ["secret.txt"]
    assert sorted(p.name for p in folder.iterdir()) == ["model.py"]


def after_the_act(folder, body):
    """A submission that does this when it is asked about one image."""
    folder.mkdir()
    lines = ["if len(x) == 1:", *(f"    {line}" for line in body.splitlines()), "return self.fc(x.flatten(1))"]
    text = hostile_acts.model({}, str(folder.parent), 1)
    (folder / "model.py").write_text(text.replace("return self.fc(x.flatten(1))", "\n        ".join(lines)))
    return ConfinedClassifier(Submission("cifar10/group", folder, (3, 32, 32), 10))


@pytest.mark.parametrize("act", hostile_acts.DEADLY if ALL else ["answers of its own"])
def test_a_process_that_dies_is_one_sentence(tmp_path, pool, act, monkeypatch):
    monkeypatch.setattr(confined, "REQUEST_SECONDS", 2.0)
    net = after_the_act(tmp_path / "group", hostile_acts.DEADLY[act])
    with pytest.raises(Ended, match=r"^cifar10/group stopped answering: [^\n]*\.$"):
        net(torch.zeros(1, 3, 32, 32))
    assert pool.live == []


@pytest.mark.parametrize("act", hostile_acts.SPOILING if ALL else ["monkey-patched torch"])
def test_a_process_that_spoils_its_answers_is_one_sentence_and_nobody_elses(tmp_path, pool, act):
    net = after_the_act(tmp_path / "group", hostile_acts.SPOILING[act])
    with pytest.raises(Ended, match=r"^cifar10/group: [^\n]*\.$"):
        net(torch.zeros(1, 3, 32, 32))
    assert torch.equal(torch.cat([torch.zeros(1), torch.ones(1)]), torch.tensor([0.0, 1.0])) and len(pool.live) == 1


def test_the_hostile_acts_are_many():
    assert len(hostile_acts.SURVIVED) + len(hostile_acts.DEADLY) + len(hostile_acts.SPOILING) >= 50


def test_without_bwrap_it_is_said_what_is_not_prevented_and_pages_refuse(monkeypatch):
    monkeypatch.setattr(confinement, "bwrap", lambda: None)
    assert "read every file" in confinement.not_prevented()
    assert "--unconfined" in confinement.refused_on_pages()
    monkeypatch.setenv(confinement.ALLOWED, "1")
    assert confinement.refused_on_pages() is None


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not ALL, reason="thirty processes, one after another: EXPLORER_HOSTILE=all")
def test_thirty_submissions_of_one_module_name_in_any_order(tmp_path, pool):
    x = torch.rand(2, 3, 32, 32, generator=seeded(0))
    nets = {n: folder_of(tmp_path, n) for n in range(1, 31)}
    for number in torch.randperm(30, generator=seeded(1)).add(1).tolist():
        folder, fc = nets[number]
        found = ConfinedClassifier(Submission(f"cifar10/{number}", folder, (3, 32, 32), 10))(x)
        assert torch.equal(found, torch.log_softmax(fc(x.flatten(1) ** number), 1).detach())
        assert len(pool.live) <= 2
