"""Hyper-parameters that several attacks have in common: the draws of a stochastic model (EOT), the updates of an image, ..."""

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


def stop_when_fooled() -> Any:
    """The field of whether an image that has reached its goal is left as it is."""
    said = "An image that is fooled costs no more queries. Turn it off for a stochastic model, whose single answers are noise."
    return param(True, "stop when fooled", help=said)


def tries_for_a_start() -> Any:
    """The field of attacks that begin in another class."""
    return param(60, "tries for a start", lo=1, hi=1000, help="Random images at most until one is a success.")
