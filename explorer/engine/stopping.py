"""Cancellation of work in the middle: between any two layers of a network, forward or backward.

The engine's own models (`Engine.model`) all look here between their layers, so whatever uses them inside work ends soon
after it was cancelled, however long it computes between two items. Work that computes for long without them calls
`stop_if_unwanted` itself, from time to time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from torch import Tensor, nn

from explorer.core import Cancelled

Model = TypeVar("Model", bound=nn.Module)

wanted: ContextVar[Callable[[], bool] | None] = ContextVar("explorer_wanted", default=None)  # the engine's, one a job


def stop_if_unwanted() -> None:
    """Raise Cancelled in work that was cancelled or that nobody waits for any more. Outside of work: nothing."""
    is_wanted = wanted.get()
    if is_wanted is not None and not is_wanted():
        raise Cancelled("The work was cancelled.")


def stops_between_layers(model: Model) -> Model:
    """The same model, whose every layer first asks `stop_if_unwanted`, in backward passes, too (on the CPU; a GPU's run
    in threads of their own, which know nothing of the work, and are short)."""
    for module in model.modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(_ask)
    return model


def _ask(module: nn.Module, inputs: object, output: object) -> None:
    stop_if_unwanted()
    if isinstance(output, Tensor) and output.requires_grad and output.device.type == "cpu":
        output.register_hook(_ask_backward)


def _ask_backward(gradient: Tensor) -> None:
    stop_if_unwanted()
