"""Dropout that draws from the generator handed in."""

from __future__ import annotations

from torch import Tensor, nn

from explorer.core import current_rng, sample_like


class Dropout(nn.Module):
    """In training each feature of (N,D) is 0 with probability `share` and the others grow to make up for it; else as it is.

    Srivastava et al., JMLR 15 (2014). As `nn.Dropout`, whose draws would come from torch's global generator.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        u = sample_like(x, lambda room: room.uniform_(generator=current_rng(x.device)))
        return x * (u >= self.share) / (1 - self.share)
