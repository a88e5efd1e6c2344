"""The words everyone shares.

What needs torch is imported when it is first asked for: a process that only waits for its turn does without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from explorer.core.errors import (
    BadCheckpoint,
    BadImage,
    Cancelled,
    DataUnavailable,
    ExplorerError,
    InvalidValue,
    UnknownName,
)
from explorer.core.params import Hyper, Param, fixed, param, parse_eps, parse_number
from explorer.core.registry import Entry, Registry
from explorer.core.statistics import wilson

if TYPE_CHECKING:
    from explorer.core.attack import Attack
    from explorer.core.ball import L0, L1, L2, NORMS, USUAL_EPS, Ball, Linf
    from explorer.core.classifier import Classifier, as_classifier, eval_mode
    from explorer.core.goal import LOSSES, Goal, LossName
    from explorer.core.rng import (
        batch_shard,
        current_rng,
        derived_seed,
        sample_batch,
        sample_like,
        seeded,
        use_generator,
    )
    from explorer.core.steps import Best, Outcome, Step, run
    from explorer.core.threat import Region, ThreatModel
    from explorer.core.trace import FeaturePath, Trace
    from explorer.core.transform import Corruption, RotationShift

_LATER = {
    "attack": ("Attack",),
    "ball": ("NORMS", "USUAL_EPS", "Ball", "L0", "L1", "L2", "Linf"),
    "classifier": ("Classifier", "as_classifier", "eval_mode"),
    "goal": ("LOSSES", "Goal", "LossName"),
    "rng": ("batch_shard", "current_rng", "derived_seed", "sample_batch", "sample_like", "seeded", "use_generator"),
    "steps": ("Best", "Outcome", "Step", "run"),
    "threat": ("Region", "ThreatModel"),
    "trace": ("Trace", "FeaturePath"),
    "transform": ("Corruption", "RotationShift"),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


__all__ = [
    "L0",
    "L1",
    "L2",
    "LOSSES",
    "NORMS",
    "USUAL_EPS",
    "Attack",
    "BadCheckpoint",
    "BadImage",
    "Ball",
    "Best",
    "Cancelled",
    "Classifier",
    "Corruption",
    "DataUnavailable",
    "Entry",
    "ExplorerError",
    "FeaturePath",
    "Goal",
    "Hyper",
    "InvalidValue",
    "Linf",
    "LossName",
    "Outcome",
    "Param",
    "Region",
    "Registry",
    "RotationShift",
    "Step",
    "ThreatModel",
    "Trace",
    "UnknownName",
    "as_classifier",
    "batch_shard",
    "current_rng",
    "derived_seed",
    "eval_mode",
    "fixed",
    "param",
    "parse_eps",
    "parse_number",
    "run",
    "sample_batch",
    "sample_like",
    "seeded",
    "use_generator",
    "wilson",
]
