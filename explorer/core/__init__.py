"""The words everyone shares."""

from explorer.core.ball import NORMS, USUAL_EPS, Ball, Region
from explorer.core.classifier import Classifier
from explorer.core.errors import (
    BadCheckpoint,
    BadImage,
    Cancelled,
    DataUnavailable,
    ExplorerError,
    InvalidValue,
    UnknownName,
)
from explorer.core.goal import LOSSES, Goal
from explorer.core.params import Hyper, Param, param, parse_number
from explorer.core.randomness import current_rng, draws_for, randomness, seeded
from explorer.core.registry import Entry, Registry
from explorer.core.statistics import wilson
from explorer.core.steps import Best, Outcome, Step, run
from explorer.core.trace import Trace, Walkway

__all__ = [
    "LOSSES",
    "NORMS",
    "USUAL_EPS",
    "BadCheckpoint",
    "BadImage",
    "Ball",
    "Best",
    "Cancelled",
    "Classifier",
    "DataUnavailable",
    "Entry",
    "ExplorerError",
    "Goal",
    "Hyper",
    "InvalidValue",
    "Outcome",
    "Param",
    "Region",
    "Registry",
    "Step",
    "Trace",
    "UnknownName",
    "Walkway",
    "current_rng",
    "draws_for",
    "param",
    "parse_number",
    "randomness",
    "run",
    "seeded",
    "wilson",
]
