"""Public contracts: `check_attack(MyAttack())` raises with the step at which an attack does what no attack may.

Examples:
    >>> from dataclasses import replace
    >>> from explorer.attacks import ATTACKS
    >>> from explorer.testing import check_attack
    >>> check_attack(ATTACKS["fgsm"]())  # nothing is said: it keeps the contract
    >>> class Lies(ATTACKS["fgsm"]):
    ...     def walk(self, model, x0, goal, threat, rng):
    ...         for step in super().walk(model, x0, goal, threat, rng):
    ...             yield replace(step, loss=step.loss + 1)
    >>> check_attack(Lies())
    Traceback (most recent call last):
        ...
    explorer.testing.contract.BrokenContract: step 0 of 1: ...
"""

from explorer.testing.contract import CLAUSES, BrokenContract, check_attack, threat_for
from explorer.testing.networks import Case, SmallNet, small_case

__all__ = ["CLAUSES", "BrokenContract", "Case", "SmallNet", "check_attack", "small_case", "threat_for"]
