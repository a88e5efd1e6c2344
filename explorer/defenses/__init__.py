"""Training recipes, one file each: `RECIPES["baseline"]()` says what to train and how."""

from explorer.core import Registry

RECIPES = Registry("recipe", "explorer.defenses")

__all__ = ["RECIPES"]
