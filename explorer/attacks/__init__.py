"""Attacks, one file each. `ATTACKS["pgd"](steps=20).walk(model, x0, goal, ball, rng)` yields its steps."""

from explorer.core import Registry

ATTACKS = Registry("attack", "explorer.attacks")

__all__ = ["ATTACKS"]
