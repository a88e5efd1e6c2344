"""Speed benchmark of randomized smoothing: ours beside a plain re-implementation of the published procedure, in the same run."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from explorer.certify import Precision, Smoothed
from explorer.core import Classifier, seeded
from explorer.core.device import hardware_name
from explorer.evaluation.bench import load_average, seconds

PLAIN_BATCHES = (400, 1000)  # images at once, as the published code has been run
REPEATS = 3
N0 = 100


def plain_counts(
    model: Classifier, x: Tensor, sigma: float, n: int, batch: int, precision: Precision, rng: torch.Generator
) -> list[int]:
    """Votes (K,) of n draws as arXiv:1902.02918 describes it and its published code does: one batch at a time, noise made
    on the device, the batch's votes brought to the host and counted there."""
    counts = [0] * model.num_classes
    half = torch.autocast(x.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with torch.no_grad(), half:
        for start in range(0, n, batch):
            copies = x.repeat((min(batch, n - start), 1, 1, 1))
            noise = torch.randn(copies.shape, device=x.device, generator=rng) * sigma
            for vote in model(copies + noise).argmax(1).cpu().numpy():
                counts[vote] += 1
    return counts


def bench_certify(
    model: Classifier,
    sigma: float,
    n: int,
    alpha: float,
    *,
    precision: Precision = "float32",
    repeats: int = REPEATS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Noisy images per second of `Smoothed.certify` and of the plain procedure at equal n and precision, on one gray picture.

    The plain one is given the weights in torch's usual layout, as whoever loads a model by hand has them.

    They take turns, each round in another order; `ratio` is ours over theirs, from the medians, and `cpu_ratio` the same of
    the processor time that this process used (of all its threads; None on a GPU), which others' work disturbs less.
    `grown_mib`: by how much the peak of this process's memory grew from a certificate of n / 10 draws to one of n (0 where
    the peak was higher before).
    """
    x = torch.full(model.input_shape, 0.5, device=model.device)
    total = N0 + n
    certify = partial(Smoothed(model, sigma, precision=precision).certify, x, n0=N0, alpha=alpha, seed=0)
    ways: dict[str, Callable[[], object]] = {"ours": partial(certify, n=n)}
    usual = deepcopy(model).to(memory_format=torch.contiguous_format)
    for batch in PLAIN_BATCHES:
        rng = seeded(0, model.device)
        ways[f"plain, {batch} at once"] = partial(plain_counts, usual, x, sigma, total, batch, precision, rng)
    before, load = _peak(model), load_average()
    certify(n=max(10, n // 10))  # also warms up
    first = _peak(model)
    certify(n=n)
    grown = _peak(model) - max(first, before)
    plain_counts(usual, x, sigma, PLAIN_BATCHES[-1], PLAIN_BATCHES[-1], precision, seeded(0, model.device))
    times, used = _in_turn(ways, model.device, repeats, progress)
    on_cpu = model.device.type == "cpu"
    rows = [
        {
            "what": name,
            "images_per_second": total / median(times[name]),
            "ratio": median(times[name]) / median(times["ours"]),
            "cpu_ratio": median(used[name]) / median(used["ours"]) if on_cpu else None,
            "seconds": times[name],
        }
        for name in ways
    ]
    return {
        "n": n,
        "precision": precision,
        "device": hardware_name(model.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
        "grown_mib": grown / 2**20,
        "load": [load, load_average()],
    }


def _in_turn(
    ways: Mapping[str, Callable[[], object]],
    device: torch.device,
    repeats: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds, and seconds of the processor, of each way in each round; every round begins with another one."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        names = list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)]
        for name in names:
            began = time.process_time()
            times[name].append(seconds(ways[name], device))
            used[name].append(time.process_time() - began)
        if progress is not None:
            progress(turn + 1, repeats)
    return times, used


def _peak(model: Classifier) -> int:
    """Bytes at the peak so far, of the GPU or of this process."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
