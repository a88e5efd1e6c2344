"""Functions for scripts: `attack` images, measure a model's `robustness`; both are reached as `explorer.attack` and so on."""

from explorer.api.attacking import AttackResult, attack
from explorer.api.measuring import Robustness, robustness

__all__ = ["AttackResult", "Robustness", "attack", "robustness"]
