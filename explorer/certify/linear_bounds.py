"""CROWN: linear bounds of a network's logits, for proofs that no picture within eps in Linf has another class.

Zhang et al., arXiv:1811.00866: every ReLU between its bounds is enclosed by two lines, and a linear function of the logits is
pulled back through all layers to the pixels, where its least value in a box is plain. The bounds of each layer are the tighter
of these and of interval bounds (arXiv:1810.12715), so that interval <= CROWN <= exact. A lower line has slope 1 or 0, whichever
cuts less ("adaptive", section 3 of the paper); the paper's alternatives are not tried.
differs: a maximum (pooling) is at least its candidate with the largest lower bound, and at most that one if no other can
exceed it, else at most the largest upper bound of all.
Only chains of layers can be read (`explorer.models.intervals`). Computed in float64 and rounded to nearest, not outward: a bound
is off by about 1e-12 of the logits' size, and the network itself, in float32, by far more; whoever needs a proof about the
rounded network has to allow for that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue
from explorer.models.intervals import layers_of, past

ROWS = 512  # linear functions that are pulled back at a time
LINEAR = (nn.Linear, nn.Conv2d, nn.AvgPool2d, nn.Flatten, nn.Identity)


@dataclass(frozen=True, eq=False)
class Bounded:
    """A layer with the bounds of what enters it (N,*shape)."""

    module: nn.Module
    low: Tensor
    high: Tensor


class LinearBounds:
    """A network read for boxes of pixels.

    Raises InvalidValue for a network that is no chain of layers, or has a layer that cannot be read, which is named.
    """

    def __init__(self, model: Classifier):
        own = copy.deepcopy(model).double().eval().requires_grad_(False)
        self._layers = layers_of(own)
        self.mean, self.std = own.mean, own.std
        head = self._layers[-1]
        if not isinstance(head, nn.Linear):
            raise InvalidValue(
                f"bounds of margins need a linear last layer; {type(model).__name__} ends in {type(head).__name__}."
            )
        self.num_classes = head.out_features
        for place, layer in enumerate(self._layers, 1):
            if not isinstance(layer, (*LINEAR, nn.ReLU, nn.MaxPool2d)):
                raise InvalidValue(
                    f"linear bounds pass linear layers, convolutions, ReLU, pooling and flattening; layer {place} of "
                    f"{type(model).__name__} is a {type(layer).__name__}."
                )

    def margins(self, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
        """(N,K) float64 lower bounds of z_y - z_k, the lead of class y (N,) over each, over all pixels between `low` and
        `high` (N,C,H,W); 0 for y itself."""
        found = [self._margins(a[None], b[None], int(k)) for a, b, k in zip(low, high, y, strict=True)]
        return torch.stack(found) if found else torch.zeros(0, self.num_classes, dtype=torch.float64)

    def _margins(self, low: Tensor, high: Tensor, y: int) -> Tensor:
        with torch.no_grad():
            chain = self.bounded(low, high)
            classes = torch.eye(self.num_classes, dtype=torch.float64, device=low.device)
            apart = classes[y] - classes
            return torch.maximum(self._least(chain, apart), self._least(chain[-1:], apart))

    def bounded(self, low: Tensor, high: Tensor) -> list[Bounded]:
        """Each layer with bounds of what enters it, for one box of pixels (1,C,H,W)."""
        low, high = ((edge.double() - self.mean) / self.std for edge in (low, high))
        chain: list[Bounded] = []
        for layer in self._layers:
            if isinstance(layer, nn.ReLU) and any(isinstance(before.module, nn.ReLU) for before in chain):
                low, high = self._tightened(chain, low, high)
            chain.append(Bounded(layer, low, high))
            centre, radius = past(layer, (low + high) / 2, (high - low) / 2)
            low, high = centre - radius, centre + radius
        return chain

    def _tightened(self, chain: list[Bounded], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of what leaves the chain: the tighter of those given and CROWN's, which is asked where the sign is open."""
        open_ = ((low < 0) & (high > 0)).flatten().nonzero().squeeze(1)
        low, high = low.clone(), high.clone()
        for rows in torch.split(open_, ROWS):
            pick = torch.zeros(len(rows), low.numel(), dtype=torch.float64, device=low.device)
            pick[torch.arange(len(rows), device=low.device), rows] = 1
            least, most = self._least(chain, pick), -self._least(chain, -pick)
            low.view(-1)[rows] = torch.maximum(low.view(-1)[rows], least)
            high.view(-1)[rows] = torch.minimum(high.view(-1)[rows], most)
        return low, torch.maximum(low, high)  # rounding must not turn them around

    def _least(self, chain: list[Bounded], functions: Tensor) -> Tensor:
        """(R,) the least value that each of the linear functions (R,D) of the chain's output can take."""
        slopes, offset = functions, torch.zeros(len(functions), dtype=torch.float64, device=functions.device)
        for layer in reversed(chain):
            slopes, shift = _back(layer, slopes)
            offset = offset + shift
        first = chain[0]
        flat = slopes.flatten(1)
        low, high = first.low.flatten(), first.high.flatten()
        return offset + flat.clamp(min=0) @ low + flat.clamp(max=0) @ high


def _back(layer: Bounded, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """A function of what leaves the layer (R,*out) as one of what enters it (R,*in) that is never larger, and what it adds (R,)."""
    module, shape = layer.module, layer.low.shape[1:]
    if isinstance(module, nn.ReLU):
        return _back_relu(slopes.reshape(len(slopes), *shape), layer.low, layer.high)
    if isinstance(module, nn.MaxPool2d):
        return _back_maximum(slopes, layer)
    return _back_linear(module, slopes, shape)


def _back_linear(module: nn.Module, slopes: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Exactly: the transpose, which is the gradient of a linear layer; the bias is what the layer makes of zero."""
    zero = torch.zeros(1, *shape, dtype=torch.float64, device=slopes.device)
    out, pull = _vjp(module, zero.expand(len(slopes), *shape))
    slopes = slopes.reshape(out.shape)
    return pull(slopes), (slopes * out).flatten(1).sum(1)


def _vjp(module: nn.Module, at: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    with torch.enable_grad():
        start = at.detach().clone().requires_grad_()
        out = module(start)
    return out.detach(), lambda slopes: torch.autograd.grad(out, start, slopes)[0]


def _back_relu(slopes: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """relu(z) >= a z and relu(z) <= u (z - l) / (u - l), for l <= z <= u; exact where the sign is known."""
    open_ = (low < 0) & (high > 0)
    width = torch.where(open_, high - low, 1.0)
    upper = torch.where(open_, high / width, (low >= 0).double())
    lower = torch.where(open_, (high > -low).double(), (low >= 0).double())
    rise = torch.where(open_, -upper * low, 0.0)
    plus, minus = slopes.clamp(min=0), slopes.clamp(max=0)
    return plus * lower + minus * upper, (minus * rise).flatten(1).sum(1)


def _back_maximum(slopes: Tensor, layer: Bounded) -> tuple[Tensor, Tensor]:
    """max(z) >= the candidate with the largest lower bound; it is that one, or at most the largest upper bound."""
    module = layer.module
    assert isinstance(module, nn.MaxPool2d)
    settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
    best_low, place = F.max_pool2d(layer.low, *settings, return_indices=True)  # (1,C,h,w)
    rest = layer.high.flatten(2).clone()
    most = F.max_pool2d(layer.high, *settings)
    settled = _largest_without(layer.high, place, settings) <= best_low
    slopes = slopes.reshape(len(slopes), *best_low.shape[1:])
    plus, minus = slopes.clamp(min=0), slopes.clamp(max=0)
    kept = torch.where(settled, slopes, plus).flatten(2)
    out = torch.zeros(len(slopes), *rest.shape[1:], dtype=torch.float64, device=slopes.device)
    out.scatter_add_(2, place.flatten(2).expand(len(slopes), -1, -1), kept)
    shift = torch.where(settled, 0.0, minus * most).flatten(1).sum(1)
    return out.reshape(len(slopes), *layer.low.shape[1:]), shift


def _largest_without(high: Tensor, place: Tensor, settings: tuple[Any, ...]) -> Tensor:
    """(1,C,h,w) the largest upper bound in each window but for that of the chosen candidate, whose index `place` holds.

    Windows that overlap would leave out a candidate in all of them: taken as never settled, which is sound.
    """
    kernel, stride, padding, dilation, ceil = settings
    pair = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
    steps = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if any(k > s for k, s in zip(pair, steps, strict=True)):
        return torch.full_like(place, torch.inf, dtype=high.dtype)
    without = high.flatten(2).scatter(2, place.flatten(2), -torch.inf).reshape(high.shape)
    return F.max_pool2d(without, kernel, stride, padding, dilation, ceil)
