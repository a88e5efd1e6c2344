"""What a run records to be watched: slices of the decision boundary, and a tape of the held-out images; read without torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SIDE = 21  # points of a slice
ALONG = (-0.5, 1.5)  # of the first direction, in eps
ACROSS = (-1.0, 1.0)  # of the second


@dataclass(frozen=True, eq=False)
class BoundarySlice:
    """A plane through one picture at one update: the classes at x + a eps u + b eps v, and how sure the network is of them."""

    update: int
    eps: float  # Linf, pixel units
    label: int
    classes: np.ndarray  # (SIDE,SIDE) uint8 or uint16, rows b, columns a
    sure: np.ndarray  # (SIDE,SIDE) uint8, probability of that class times 255

    def record(self) -> dict[str, Any]:
        """As a line of the metrics."""
        facts = {"kind": "slice", "update": self.update, "eps": self.eps, "label": self.label}
        return facts | {"classes": _text(self.classes.astype("<u2")), "sure": _text(self.sure.astype("u1"))}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> BoundarySlice:
        """Raises KeyError, TypeError or ValueError for anything else."""
        classes = np.frombuffer(base64.b64decode(record["classes"]), "<u2").reshape(SIDE, SIDE)
        sure = np.frombuffer(base64.b64decode(record["sure"]), "u1").reshape(SIDE, SIDE)
        return cls(int(record["update"]), float(record["eps"]), int(record["label"]), classes, sure)


@dataclass(frozen=True, eq=False)
class TapeColumn:
    """Which held-out images were right after an epoch, and which of the first ones stayed so under the recipe's attack."""

    epoch: int
    right: np.ndarray  # (N,) bool
    robust: np.ndarray | None  # (M,) bool, M <= N; None where the recipe does not attack

    @property
    def shape(self) -> tuple[int, int]:
        """N and M; -1 for no M."""
        return len(self.right), -1 if self.robust is None else len(self.robust)

    def record(self, update: int) -> dict[str, Any]:
        """As a line of the metrics."""
        masks = {"right": self.right} | ({} if self.robust is None else {"robust": self.robust})
        bits = {name: [len(mask), _text(np.packbits(mask))] for name, mask in masks.items()}
        return {"kind": "tape", "update": update, "epoch": self.epoch, **bits}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> TapeColumn:
        """Raises KeyError, TypeError or ValueError for anything else."""
        robust = _mask(*record["robust"]) if "robust" in record else None
        return cls(int(record["epoch"]), _mask(*record["right"]), robust)


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _mask(n: int, text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(base64.b64decode(text), "u1"), count=n).astype(bool)
