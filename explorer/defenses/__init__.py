"""Training recipes, one file each: `RECIPES["baseline"]()` says what to train and how."""

from explorer.core import Registry

RECIPES = Registry("recipe", "explorer.defenses")

GROUPS = (  # in the order choosers show them
    "no defence",
    "adversarial training",
    "several norms",
    "in feature space",
    "random networks",
    "smoothing",
    "certified",
    "small nets",
    "Fashion-MNIST",
)

__all__ = ["GROUPS", "RECIPES"]
