"""Deep pursuit: non-negative sparse codes of all layers, found together by unrolled proximal steps (after arXiv:2011.14427)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models import ARCHITECTURES
from explorer.models._spectral import SpectralConv2d

Inference = Literal["deep", "layered"]
MOST = 64  # inference steps
SIDE = 2  # of the grid of places that the last code is averaged on


class Dictionary(NamedTuple):
    """D_l of one layer for one size of picture: `up` is its transpose (a convolution), `down` is D_l itself."""

    kernel: Tensor  # (codes, signals, k, k), the linear map's norm at most 1
    stride: int
    pad: int
    size: tuple[int, int]  # of the signal

    def up(self, signal: Tensor) -> Tensor:
        return F.conv2d(signal, self.kernel, None, self.stride, self.pad)

    def down(self, code: Tensor) -> Tensor:
        k = self.kernel.shape[-1]
        left = [n - ((m - 1) * self.stride - 2 * self.pad + k) for n, m in zip(self.size, code.shape[-2:], strict=True)]
        return F.conv_transpose2d(code, self.kernel, None, self.stride, self.pad, left)


@ARCHITECTURES.register("pursuit-net", title="Deep pursuit network", paper="arXiv:2011.14427; arXiv:1806.00701")
class PursuitNet(Classifier):
    """Codes w_l >= 0 of dictionaries D_l, one for each of `dictionaries` (channels, kernel, stride); a linear layer reads the last.

    With w_0 = x the codes make the energy small,
        E(w) = sum_l 1/2 |w_{l-1} - D_l w_l|^2 + b_l . w_l,   b_l > 0.
    They start as a feed-forward network's, w_l = relu(D_l^T w_{l-1} - b_l), which is one proximal step from zero that looks at
    no other layer. Then `iterations` times, "deep", for l = 1..L in turn
        w_l <- relu(w_l + s_l (D_l^T (w_{l-1} - D_l w_l) - (w_l - D_{l+1} w_{l+1}) - b_l)),
    without the middle term in the last layer. Or, "layered", each layer alone takes its `iterations` steps before the next one
    begins, without the middle term. 0 iterations are the feed-forward network; all three have the same weights. |D_l| <= 1
    (power iteration, see SpectralConv2d), so s_l = 1/2, and 1 where the middle term is missing, make E smaller in every step.

    Reconstructed: the paper's text was not at hand; energy and steps are derived here from its abstract and from multi-layer
    sparse coding (ML-ISTA). differs: no shortcuts; bounded dictionaries instead of steps found for each.
    Raises InvalidValue for another inference, iterations outside [0, 64], or dictionaries that leave no place.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        dictionaries: Sequence[Sequence[int]] = ((32, 4, 2), (64, 4, 2), (128, 3, 1)),
        inference: Inference = "deep",
        iterations: int = 4,
        penalty: float = 0.01,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        if inference not in get_args(Inference):
            raise InvalidValue(f"inference must be one of {', '.join(get_args(Inference))}; got {inference!r}.")
        _check(iterations)
        self.inference, self.iterations = inference, iterations
        signals, height, width = input_shape
        layers = []
        for channels, kernel, stride in dictionaries:
            pad = (kernel - 1) // 2
            layers.append(SpectralConv2d(signals, channels, kernel, stride, pad, bias=False, bound=1.0))
            signals, height, width = channels, *((n + 2 * pad - kernel) // stride + 1 for n in (height, width))
        if not layers or min(height, width) < 1:
            raise InvalidValue(f"dictionaries must leave a place of {tuple(input_shape)}; got {dictionaries!r}.")
        self.layers = nn.ModuleList(layers)
        self.log_penalties = nn.ParameterList(torch.full((d[0],), math.log(penalty)) for d in dictionaries)
        self.head = nn.Linear(signals * SIDE**2, num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        """(N,D): the last code, averaged on a grid of 2 x 2 places."""
        return F.adaptive_avg_pool2d(self._settled(normalised)[0][-1], SIDE).flatten(1)

    def codes(self, pixels: Tensor) -> list[Tensor]:
        """The codes w_1..w_L (N,C_l,H_l,W_l) of pixels (N,C,H,W)."""
        return self._settled((pixels - self.mean) / self.std)[0]

    def reconstruction(self, pixels: Tensor) -> Tensor:
        """(N,C,H,W) the picture that the first code stands for, D_1 w_1 in pixels; it may leave [0,1]."""
        codes, dictionaries = self._settled((pixels - self.mean) / self.std)
        return dictionaries[0].down(codes[0]) * self.std + self.mean

    def energy(self, pixels: Tensor) -> Tensor:
        """(N,) E of the codes of pixels (N,C,H,W)."""
        below = (pixels - self.mean) / self.std
        total = below.new_zeros(len(below))
        for code, dictionary, b in zip(*self._settled(below), self._penalties(), strict=True):
            total = (
                total + (below - dictionary.down(code)).flatten(1).square().sum(1) / 2 + (b * code).flatten(1).sum(1)
            )
            below = code
        return total

    def _settled(self, x: Tensor) -> tuple[list[Tensor], list[Dictionary]]:
        """The codes of x, normalised (N,C,H,W), and the dictionaries they are of."""
        penalties, signals = self._penalties(), [x]  # signals[l] is w_l
        dictionaries: list[Dictionary] = []
        layered = self.inference == "layered"
        for layer, b in zip(self.layers, penalties, strict=True):
            assert isinstance(layer, SpectralConv2d)
            size = (int(signals[-1].shape[-2]), int(signals[-1].shape[-1]))
            dictionary = Dictionary(layer.kernel(size), int(layer.stride[0]), int(layer.padding[0]), size)
            code = F.relu(dictionary.up(signals[-1]) - b)
            for _ in range(self.iterations if layered else 0):
                code = F.relu(code + dictionary.up(signals[-1] - dictionary.down(code)) - b)
            dictionaries.append(dictionary)
            signals.append(code)
        for _ in range(0 if layered else self.iterations):
            for at, (dictionary, b) in enumerate(zip(dictionaries, penalties, strict=True), 1):
                code = signals[at]
                descent = dictionary.up(signals[at - 1] - dictionary.down(code)) - b
                if at < len(dictionaries):
                    descent = (descent - (code - dictionaries[at].down(signals[at + 1]))) / 2
                signals[at] = F.relu(code + descent)
        return signals[1:], dictionaries

    def _penalties(self) -> list[Tensor]:
        """b_l (C_l,1,1) of each layer."""
        return [log.exp()[:, None, None] for log in self.log_penalties]


def with_iterations(model: Classifier, iterations: int) -> PursuitNet:
    """A copy of a pursuit network that takes so many inference steps. Raises InvalidValue for another network or number."""
    if not isinstance(model, PursuitNet):
        raise InvalidValue("inference steps can be changed of a pursuit network only; this is another.")
    _check(iterations)
    other = copy.deepcopy(model)
    other.iterations = iterations
    return other


def _check(iterations: int) -> None:
    if not 0 <= iterations <= MOST:
        raise InvalidValue(f"iterations must be between 0 and {MOST}; got {iterations!r}.")
