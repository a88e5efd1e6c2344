"""Attacks, one file each. `ATTACKS["pgd"](steps=20).walk(model, x0, goal, ball, rng)` yields its steps."""

from explorer.core import Registry

ATTACKS = Registry("attack", "explorer.attacks")

GROUPS = ("single step", "iterated", "minimal", "black-box", "ensemble", "baseline")  # in the order choosers show them
BLACK_BOX = ("black-box", "baseline")  # these see the model's answers only, never its gradients

__all__ = ["ATTACKS", "BLACK_BOX", "GROUPS"]
