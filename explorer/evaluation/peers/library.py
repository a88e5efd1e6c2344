"""Library of attacks beside ours: which there are, whether they are here, and a model that counts their passes."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import time
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Peer:
    """A library: the name it goes by here, its package on PyPI, and the module to import."""

    name: str
    package: str
    module: str

    @property
    def version(self) -> str:
        return metadata.version(self.package)

    def missing(self) -> str | None:
        """Why it cannot be used here, in words; None if it can. Imports it."""
        if self.module == "adv_lib.attacks":
            _stand_in_for_visdom()
        try:
            with quiet():
                importlib.import_module(self.module)
        except ImportError as error:
            return str(error)
        return None


PEERS = (
    Peer("torchattacks", "torchattacks", "torchattacks"),
    Peer("foolbox", "foolbox", "foolbox"),
    Peer("art", "adversarial-robustness-toolbox", "art.attacks.evasion"),
    Peer("adv-lib", "adv-lib", "adv_lib.attacks"),
    Peer("pyautoattack", "pyautoattack", "pyautoattack"),
)


def _stand_in_for_visdom() -> None:
    """adv-lib imports visdom, which draws curves in a browser and is hard to install; none of its attacks needs it."""
    if "visdom" not in sys.modules and importlib.util.find_spec("visdom") is None:
        sys.modules["visdom"] = types.ModuleType("visdom")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the libraries print and warn about would mix with the result."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


class Counted(nn.Module):
    """A model that counts the images in its passes: `forwards`, and `backwards` to its input.

    A pass over half of a batch counts half; which image is which is not known. After so many `minutes` (None: never) a
    forward pass raises TimeoutError, since no library can be asked to stop. Gradients arrive in torch's usual layout,
    whatever the model's: torchattacks' L2 attacks fail with any other.
    """

    def __init__(self, model: nn.Module, minutes: float | None = None):
        super().__init__()
        self.model, self.minutes, self.began = model, minutes, time.monotonic()
        self.reset()
        self.eval()

    def reset(self) -> None:
        self.forwards = self.backwards = 0

    def forward(self, pixels: Tensor) -> Tensor:
        if self.minutes is not None and time.monotonic() - self.began > 60 * self.minutes:
            raise TimeoutError(f"it was not done after {self.minutes:g} minutes")
        self.forwards += len(pixels)
        return self.model(_Watched.apply(pixels, self) if pixels.requires_grad else pixels)


class _Watched(torch.autograd.Function):
    """The identity; a gradient that comes through it is counted."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, counter: Counted) -> Tensor:
        ctx.counter = counter
        return pixels.view_as(pixels)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counter.backwards += len(gradient)
        return gradient.contiguous(), None
