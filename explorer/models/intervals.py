"""Interval bounds: what a network's logits can be at most and at least, if each pixel lies between two values.

Interval bound propagation, Gowal et al., arXiv:1810.12715. Only networks that are a chain of layers can be read: those
whose `chain()` names them in order, from the normalised pixels to the logits. Computed in the model's own precision
(float32, whatever autocast says), rounded to nearest: bounds are as exact as the network's own outputs, not more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, InvalidValue

MONOTONE = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, nn.Identity)  # larger inputs never give a smaller output


def around(x: Tensor, eps: float | Tensor) -> tuple[Tensor, Tensor]:
    """The least and largest pixels of [0,1] within eps of x (N,C,H,W); eps a number, or one for each image (N,1,1,1)."""
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)


def bounds(model: Classifier, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The logits' lower and upper bounds (N,K), over all pixels between low and high (N,C,H,W).

    Raises InvalidValue for a network that is no chain of layers, or has a layer that cannot be read, which is named.
    """
    centre, radius = _through(model, layers_of(model), low, high)
    return centre - radius, centre + radius


def margins(model: Classifier, low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """(N,K) lower bounds of z_y - z_k, the lead of class y (N,) over each, over all pixels between low and high; 0 for y.

    The last layer and the difference are read as one ("elision of the last layer", section 3 of the paper), which is
    never looser than the difference of two `bounds`. If all leads are positive, no picture in between has another class.
    Raises InvalidValue as `bounds` does, and if the last layer is not linear.
    """
    *layers, last = layers_of(model)
    if not isinstance(last, nn.Linear):
        raise InvalidValue(f"margins need a linear last layer; {type(model).__name__} ends in {type(last).__name__}.")
    centre, radius = _through(model, layers, low, high)  # (N, D)
    with _float32(centre):
        apart = last.weight[y][:, None] - last.weight  # (N, K, D)
        lead = (apart * centre[:, None] - apart.abs() * radius[:, None]).sum(-1)
        return lead if last.bias is None else lead + (last.bias[y][:, None] - last.bias)


def layers_of(model: Classifier) -> list[nn.Module]:
    """The layers of `model` in order, from normalised pixels to logits. Raises InvalidValue if it is no chain of layers."""
    chain = getattr(model, "chain", None)
    if chain is None:
        raise InvalidValue(
            f"interval bounds are read off a chain of layers (an mlp, a lenet, a plain-conv); {type(model).__name__} is none."
        )
    return list(_flat(chain()))


def _flat(parts: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for part in parts:
        if isinstance(part, nn.Sequential):
            yield from _flat(part)
        else:
            yield part


def _through(model: Classifier, layers: list[nn.Module], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius of what comes out of the layers."""
    with _float32(low):
        centre, radius = ((low + high) / 2 - model.mean) / model.std, (high - low) / 2 / model.std
        for place, layer in enumerate(layers, 1):
            if not _readable(layer):
                raise InvalidValue(
                    f"interval bounds pass linear layers, convolutions padded with zeros, ReLU, pooling and flattening; layer "
                    f"{place} of {type(model).__name__} is a {type(layer).__name__}."
                )
            centre, radius = past(layer, centre, radius)
        return centre, radius


def _readable(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, *MONOTONE)) or (isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros")


def past(layer: nn.Module, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius of what comes out of one layer, whose input is given by the same."""
    if isinstance(layer, nn.Linear):
        return layer(centre), F.linear(radius, layer.weight.abs())
    if isinstance(layer, nn.Conv2d):
        stride, padding, dilation, groups = layer.stride, layer.padding, layer.dilation, layer.groups
        return layer(centre), F.conv2d(radius, layer.weight.abs(), None, stride, padding, dilation, groups)
    low, high = layer(centre - radius), layer(centre + radius)
    return (low + high) / 2, (high - low) / 2


def _float32(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)
