"""Small runs that tests compare."""

from __future__ import annotations

import os
from contextlib import nullcontext

from explorer.core import Cancelled
from explorer.data import raw
from explorer.defenses import RECIPES
from explorer.training import METRICS, newest, read_metrics, train
from explorer.training import trainer as the_loop

SMALL = {
    "baseline": {},
    "pgd-linf": {"start": "", "selection_steps": 2, "finish_steps": 2, "finish_share": 0.5},
    "lwta": {"selection_steps": 2},
    "smoothed-0.25": {"start": "", "copies": 2},
    "lipschitz": {"width": 16, "depths": "1-1"},  # by Adam
}
OPTIONS = {"limit": 20, "bf16": False}  # in batches of 8: 3 updates an epoch, the last of 4 images; 5 held out
SHARED = ("pgd-linf", "lwta")
CLOCK = ("seconds", "images_per_second", "memory")


def sample(name, split):
    """The bundled test sample in place of the training set, which needs a download."""
    assert split == "train"
    return nullcontext(raw(name, "test", source="sample")[:2])


def small(key, **more):
    return RECIPES[key](**({"epochs": 2, "width": 4, "batch": 8, "lr": 0.05} | SMALL[key] | more))


def records(folder):
    return newest(read_metrics(folder / METRICS)[0])


def numbers(folder):
    """What a run recorded, without what depends on the clock."""
    return [{key: value for key, value in one.items() if key not in CLOCK} for one in records(folder)]


def weights(result):
    return {key: value.clone() for key, value in result.model.state_dict().items()}


def short(key):
    """One epoch at a small rate: roundings grow slowly, so that two ways to compute the same stay close."""
    return small(key, epochs=1, lr=0.005)


def on_several(folder):
    """For processes that work as one: runs of several recipes, then one that the second process asks to stop."""
    the_loop.as_needed = sample
    runs = {}
    for key in SHARED:
        result = train(short(key), folder / key, **OPTIONS)
        arrays = {
            name: value.numpy() for name, value in weights(result).items()
        }  # tensors do not outlive their process
        runs[key] = result.history, arrays
    asked = []

    def ask():
        asked.append(1)
        return os.environ["RANK"] == "1" and len(asked) > 1

    try:
        train(small("baseline", lr=0.005), folder / "stopped", should_stop=ask, **OPTIONS)
    except Cancelled as stop:
        return runs, str(stop)
    return runs, None
