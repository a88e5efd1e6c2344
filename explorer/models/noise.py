"""Gaussian noise that a network adds to its own input, at test time as in training."""

from __future__ import annotations

from torch import Tensor, nn

from explorer.core import current_rng, sample_like


class InputNoise(nn.Module):
    """pixels + sigma * N(0, 1), not clipped; the same in training and evaluation. With `sigma` 0 it does nothing.

    It has no weights, so a network with it takes the weights of the same network without.
    """

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = sigma

    def forward(self, pixels: Tensor) -> Tensor:
        if not self.sigma:
            return pixels
        noise = sample_like(pixels, lambda room: room.normal_(generator=current_rng(pixels.device)))
        return pixels + self.sigma * noise.to(pixels.dtype)
