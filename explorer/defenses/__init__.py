"""Training recipes, one file each: `RECIPES["baseline"]()` says what to train and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core import Registry

if TYPE_CHECKING:  # without torch, as long as nobody asks for a recipe
    from explorer.defenses.recipe import Recipe

RECIPES: Registry[Recipe] = Registry("recipe", "explorer.defenses")

GROUPS = (  # in the order choosers show them
    "no defence",
    "adversarial training",
    "several norms",
    "in feature space",
    "by architecture",
    "random networks",
    "smoothing",
    "certified",
    "small nets",
    "Fashion-MNIST",
)

__all__ = ["GROUPS", "RECIPES"]
