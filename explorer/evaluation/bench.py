"""What attacking costs here: PGD beside a bare loop of the passes it cannot do without, and one image's walk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.attacks.pgd import PGD
from explorer.core import USUAL_EPS, Ball, Cancelled, Classifier, Goal, InvalidValue, seeded
from explorer.core.device import hardware_name
from explorer.core.precision import climbing_precision, rounded
from explorer.data import dataset
from explorer.models import ARCHITECTURES, zoo

TARGETS = {1: 1.10, 128: 1.03}  # PGD-20's time over the bare loop's, by batch size
ROUNDED_TARGET = 0.5  # likewise, on gradients in bfloat16
BALL = Ball("linf", USUAL_EPS["linf"])
RANDOM = ("preact-resnet18", {"width": 32})  # stands in where no model is named


def bench(
    name: str | None = None,
    *,
    device: torch.device | str = "cpu",
    batches: tuple[int, ...] = tuple(TARGETS),
    repeats: int = 7,
    steps: int = 20,
    progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[dict[str, Any]]:
    """Time PGD with `steps` steps on the zoo's model `name` (None: a random PreAct ResNet-18 of width 32).

    One row a batch size, and one more where `precision="auto"` takes bfloat16 (the bare loop stays in float32): PGD and a
    bare loop in turn (on a CPU step by step), `repeats` times, `ratio` being that of their medians and `ratio_range` the
    extremes among the pairs; then one row for a single image's walk. `load` is the computer's load average before and after:
    where others compute at the same time, the seconds are theirs as much as ours.
    Raises UnknownName, BadCheckpoint, InvalidValue, Cancelled.
    """
    if repeats < 1 or any(size < 1 for size in batches):
        raise InvalidValue(f"repeats and batches must be at least 1; got {repeats!r} and {batches!r}.")
    model = zoo.load(name, device) if name else random_model(device)
    facts = {
        "model": name or f"{RANDOM[0]}, width {RANDOM[1]['width']}, random weights",
        "device": hardware_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": repeats,
        "steps": steps,
    }
    rows = []
    for size in batches:
        stage = f"batch {size}"
        attack = PGD(steps=steps)
        for precision in dict.fromkeys(("float32", climbing_precision("auto", attack, size, model))):
            guard = _guard(stage, repeats, progress, should_stop)
            rows.append(facts | _beside_bare_loop(model, size, repeats, attack, precision, guard))
    rows.append(facts | _one_walk(model, repeats, steps, _guard("one image", repeats, progress, should_stop)))
    return rows


def random_model(device: torch.device | str) -> Classifier:
    """Untrained, frozen; the process-wide generator is left as it was."""
    spec = dataset("cifar10")
    with torch.random.fork_rng(devices=[]):
        model = ARCHITECTURES[RANDOM[0]](spec.mean, spec.std, spec.shape, len(spec.classes), **RANDOM[1])
    model = model.freeze().to(device)
    return model.to(memory_format=model.layout)  # as the zoo loads its models


def bare_loop(model: Classifier, x: Tensor, y: Tensor, steps: int) -> Iterator[None]:
    """What no gradient attack can do without: `steps` times forward, and backward to the input alone."""
    for _ in range(steps):
        leaf = x.detach().requires_grad_(True)
        loss = F.cross_entropy(model(leaf), y, reduction="sum")
        torch.autograd.grad(loss, leaf)
        yield


def in_turn(
    first: Callable[[], Iterator[object]], second: Callable[[], Iterator[object]], device: torch.device, pieces: int
) -> tuple[float, float]:
    """Seconds that each of two loops takes from its start to its end, `pieces` steps of either at a time.

    They take turns, and turns in who goes first, so that what slows the computer for a while slows both.
    """
    loops, spent, turns = [first(), second()], [0.0, 0.0], 0
    going = [True, True]
    while any(going):
        for k in (0, 1) if turns % 2 == 0 else (1, 0):
            if going[k]:
                steps, time_taken = _advance(loops[k], pieces, device)
                spent[k] += time_taken
                going[k] = steps == pieces
        turns += 1
    return spent[0], spent[1]


def _advance(loop: Iterator[object], most: int, device: torch.device) -> tuple[int, float]:
    """How many steps the loop could still take, `most` at most, and in how many seconds."""
    taken = 0

    def work() -> None:
        nonlocal taken
        taken = sum(1 for _ in islice(loop, most))

    spent = seconds(work, device)
    return taken, spent


def _beside_bare_loop(
    model: Classifier, size: int, repeats: int, attack: PGD, precision: str, after_each: Callable[[int], None]
) -> dict[str, Any]:
    """The attack's passes in `precision`, the bare loop's in float32."""
    x, y = _images(model, size)
    goal, rng, seen, steps = Goal.untargeted(y), seeded(0), rounded(model, precision), attack.steps

    def pgd() -> Iterator[object]:
        return attack.walk(seen, x, goal, BALL, rng)

    def bare() -> Iterator[object]:
        return bare_loop(model, x, y, steps)

    # A GPU is waited for after each turn, which a loop by itself would not do: there a turn is a whole loop.
    pieces = 1 if model.device.type == "cpu" else steps + 2
    load = load_average()
    for loop in (bare(), pgd()):  # warm up
        _advance(loop, steps + 2, model.device)
    pairs = []
    for repeat in range(repeats):
        if repeat % 2 == 0:
            pairs.append(in_turn(bare, pgd, model.device, pieces))
        else:
            pairs.append(in_turn(pgd, bare, model.device, pieces)[::-1])
        after_each(repeat + 1)
    ratios = [slow / fast for fast, slow in pairs]
    return {
        "what": f"PGD-{steps} over a bare loop"
        if precision == "float32"
        else f"PGD-{steps}, gradients in bfloat16, over it",
        "batch": size,
        "bare_seconds": median(b for b, _ in pairs),
        "pgd_seconds": median(p for _, p in pairs),
        "ratio": median(p for _, p in pairs) / median(b for b, _ in pairs),
        "ratio_range": [min(ratios), max(ratios)],
        "target": TARGETS.get(size) if precision == "float32" else ROUNDED_TARGET,
        "images_per_second": size * steps / median(p for _, p in pairs),  # gradient steps of one image each
        "load": [load, load_average()],
    }


def _one_walk(model: Classifier, repeats: int, steps: int, after_each: Callable[[int], None]) -> dict[str, Any]:
    x, y = _images(model, 1)
    goal, attack, load = Goal.untargeted(y), PGD(steps=steps), load_average()
    firsts, wholes = [], []
    for repeat in range(-1, repeats):  # one to warm up
        began, first = time.perf_counter(), 0.0
        for step in attack.walk(model, x, goal, BALL, seeded(repeat + 1)):
            if step.index == 0:
                _wait(model.device)
                first = time.perf_counter() - began
        _wait(model.device)
        if repeat >= 0:
            firsts.append(first)
            wholes.append(time.perf_counter() - began)
            after_each(repeat + 1)
    return {
        "what": f"one image's walk, PGD-{steps}",
        "batch": 1,
        "first_step_seconds": median(firsts),
        "walk_seconds": median(wholes),
        "load": [load, load_average()],
    }


def _images(model: Classifier, size: int) -> tuple[Tensor, Tensor]:
    x = torch.rand((size, *model.input_shape), generator=seeded(0)).to(model.device)
    return x, torch.arange(size, device=model.device) % model.num_classes


def _guard(
    stage: str,
    repeats: int,
    progress: Callable[[str, int, int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> Callable[[int], None]:
    def after_each(done: int) -> None:
        if progress is not None:
            progress(stage, done, repeats)
        if should_stop is not None and should_stop():
            raise Cancelled("The benchmark was stopped before its end.")

    return after_each


def seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    """Until the device has done all that was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def load_average() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
