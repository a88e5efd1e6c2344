"""Rival classes by distance: which boundary is nearest by the slopes at the untouched image, and which to try next."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from explorer.attacks.boundary import BoundarySearch, nearest


class RivalsBySlope:
    """How far an L2 search's boundaries are by the slopes at the images, of the classes that it has not tried."""

    def __init__(self, search: BoundarySearch, count: int):
        rivals, lead, slopes = search.from_images(count)
        plane = nearest(lead + search.kappa, slopes, "l2")
        lengths = plane.lengths.to(lead)
        self.promised = torch.full_like(search.logits, math.inf).scatter(1, rivals, lengths)  # (N,K)
        self.nearest = lengths.amin(1).nan_to_num(posinf=0.0)  # (N,), 0 where no slope is of use
        self.slope = plane.size.to(lead)  # (N,) of the nearest

    def nearer(self, search: BoundarySearch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) bool: those of `rows` (N,) to which another class promises to be nearer than what was found; (N,) that class,
        which is tried from now on. None with a target.
        """
        if not search.goal.is_targeted:
            tried = self.promised.scatter(1, search.goal.rivals(search.best_logits, 1), math.inf)
            self.promised = torch.where(search.found[:, None], tried, self.promised)
        length, rival = self.promised.min(1)
        turns = rows & (length < search.best_distance) & (not search.goal.is_targeted)
        used = torch.where(turns, math.inf, length)[:, None]
        self.promised = self.promised.scatter(1, rival[:, None], used)
        return turns, rival
