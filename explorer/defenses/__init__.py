"""Training recipes, one file each: `RECIPES["baseline"]()` says what to train and how."""

from explorer.core import Registry

RECIPES = Registry("recipe", "explorer.defenses")

GROUPS = ("no defence", "adversarial training", "random networks", "smoothing")  # in the order choosers show them

__all__ = ["GROUPS", "RECIPES"]
