"""Certified radii of a 1-Lipschitz network: the smallest lead over a rival, divided by how fast that lead can shrink.

Tsuzuku et al., arXiv:1802.04034; with the rows of the last layer as in Singla et al., arXiv:2108.04062.
In exact arithmetic, but for `rounding`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def radii(logits: Tensor, slopes: Tensor, rounding: float = 0.0) -> Tensor:
    """(N,) float64: no change of the pixels that is shorter in L2 turns the answer, the largest of the logits (N,K).

    min over k of (z_c - z_k) / slopes[c, k], c the answer; `slopes` (K,K) bounds how much z_c - z_k changes for a change of
    length 1; `rounding` how far a computed lead may be from the exact one, taken off each. Infinite where no lead can shrink.
    """
    logits = logits.double()
    answer = logits.argmax(1, keepdim=True)
    lead = logits.gather(1, answer) - logits - rounding  # (N, K)
    found = (
        lead / slopes[answer.squeeze(1)]
    )  # 0 / 0 for the answer itself, and perhaps for a rival that ties with it for ever
    found = torch.where(lead > 0, found, 0.0)
    return found.scatter(1, answer, torch.inf).amin(1)
