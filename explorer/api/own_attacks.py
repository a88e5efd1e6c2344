"""An attack of one's own on a model of the zoo: run confined, recorded as a Trace, judged outside by the true model in float32."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.api.recording import BatchRecorder
from explorer.attacks.gradient import Recorder, forward
from explorer.attacks.pgd import PGD
from explorer.core import Ball, Goal, Trace, seeded
from explorer.core.ball import Norm
from explorer.data import dataset
from explorer.engine.adding import CODE_KB, File, check_file, check_pages
from explorer.engine.aside import Aside, Work
from explorer.engine.certifying import predicted_without_noise
from explorer.evaluation import verify
from explorer.evaluation.outcome import Ending, classified_right, endings
from explorer.evaluation.verdict import Verdict
from explorer.models import zoo
from explorer.testing.clinic import Fault, examine
from explorer.testing.own_attack import Walked, own_attack, unrounded


@dataclass(frozen=True, eq=False)
class OwnResult:
    """What an attack of one's own did to images x0 (N,C,H,W): its end, the verdict on it, and each image's walk."""

    walked: Walked
    verdict: Verdict
    traces: tuple[Trace, ...]
    endings: tuple[Ending, ...]  # what came of each image, in one word
    left_at: int | None  # the first step at which an image leaves the ball or [0,1]; None: never


def attack_file(
    file: str | Path,
    model: str,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm = "linf",
    eps: float = 8 / 255,
    seed: int = 0,
    function: str | None = None,
) -> OwnResult:
    """Run the attack in `file`, `attack(model, x, y, eps)` or a class of ours, on a copy of the zoo's `model`, confined.

    x (N,C,H,W), pixels in [0,1], of classes y (N,). Its steps are the inputs at which it asked the copy; the last step is what
    it returned. Logits and verdict are the true model's, in float32. Raises InvalidValue, UnknownName and BadCheckpoint.
    """
    net, ball = zoo.load(model), Ball(norm, eps)
    with own_attack(Path(file), model, function) as attack:
        walked = attack.walk(x, y, norm, eps, seed)
        name = attack.name
    goal, rng, region = Goal.untargeted(y), seeded(seed), ball.around(x)
    points = [unrounded(point, region) for point in (*walked.frames, walked.end) if bool(torch.isfinite(point).all())]
    steps, watched = Recorder(PGD(), goal, region, len(points) - 1), BatchRecorder(net, x, y, goal, PGD(), ball, seed)
    for point in points:
        watched.add(steps.step(point, forward(net, point, goal, "ce", 1, rng)))
    inside = [bool(region.contains(point).all()) for point in points]
    about: dict[str, Any] = {
        "model": model, "attack": f"{Path(file).name}:{name}", "hyper": {}, "norm": norm, "eps": eps, "budget": "fixed",
        "seed": seed, "precision": "float32",
    }  # fmt: skip
    traces = watched.traces(dataset(zoo.card(model).dataset).classes, about)
    verdict = verify(net, unrounded(walked.end.nan_to_num(0.0), region), x, goal, ball, rng)
    wrong_before = ~classified_right(verify(net, x, x, goal, ball, rng), y)
    came_of = tuple(endings(verdict, y, None, wrong_before))
    return OwnResult(walked, verdict, traces, came_of, inside.index(False) if False in inside else None)


@dataclass(frozen=True, eq=False)
class OwnRun:
    """What an uploaded attack did to one image, and the clinic's faults, None while it still examines it."""

    result: OwnResult
    stochastic: bool  # whether the model draws at random
    faults: tuple[Fault, ...] | None = None


def own_attack_work(
    file: File, model: str, x: Tensor, y: int | None, *, norm: Norm, eps: float, seed: int, function: str = ""
) -> Work[OwnRun]:
    """For a page (`engine/aside.py`): run an uploaded attack on the image x (1,C,H,W) of class y, then examine it.

    y None: what the model takes it for. Raises InvalidValue at once for a file or a setting that cannot be.
    """
    check_file(file, (".py",), CODE_KB << 10)
    check_pages()
    Ball(norm, eps)

    def work(aside: Aside[OwnRun]) -> None:
        with tempfile.TemporaryDirectory() as room:
            place = Path(room) / file.plain
            place.write_bytes(file.data)
            aside.say("Running it on this picture")
            net = zoo.load(model)
            label = torch.tensor([y]) if y is not None else torch.from_numpy(predicted_without_noise(net, x))
            name = function or None
            result = attack_file(place, model, x, label, norm=norm, eps=eps, seed=seed, function=name)
            aside.give(OwnRun(result, net.stochastic))
            aside.say("Examining it on a small network")
            aside.give(OwnRun(result, net.stochastic, tuple(examine(place, norm, name))))

    return work
