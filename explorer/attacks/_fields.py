"""Hyper-parameters that several attacks have in common: the draws of a stochastic model (EOT), the updates of an image."""

from typing import Any

from explorer.core import param


def draws_per_step() -> Any:
    """The field of gradients that are averaged."""
    said = "Gradients averaged over this many passes of a stochastic model (EOT)."
    return param(1, "draws per step", lo=1, hi=512, help=said)


def draws_per_query() -> Any:
    """The field of outputs that are averaged."""
    said = "Outputs averaged over this many passes of a stochastic model (EOT)."
    return param(1, "draws per query", lo=1, hi=512, help=said)


def updates(default: int) -> Any:
    """The field of how often the image is updated."""
    return param(default, "steps", lo=1, hi=1000, help="How many times the image is updated.")
