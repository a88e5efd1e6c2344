"""Public contracts: `check_attack(MyAttack())` raises with the step at which an attack does what no attack may."""

from explorer.testing.contract import CLAUSES, BrokenContract, check_attack, threat_for
from explorer.testing.networks import Case, SmallNet, small_case

__all__ = ["CLAUSES", "BrokenContract", "Case", "SmallNet", "check_attack", "small_case", "threat_for"]
