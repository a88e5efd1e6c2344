"""Attacks, one file each. `ATTACKS["pgd"](steps=20).walk(model, x0, goal, threat, rng)` yields its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core import Registry

if TYPE_CHECKING:  # without torch, as long as nobody asks for an attack
    from explorer.core import Attack

ATTACKS: Registry[Attack] = Registry("attack", "explorer.attacks")

GROUPS = ("single step", "iterated", "minimal", "black-box", "ensemble", "baseline")  # in the order choosers show them
BLACK_BOX = ("black-box", "baseline")  # these see the model's answers only, never its gradients

__all__ = ["ATTACKS", "BLACK_BOX", "GROUPS"]
