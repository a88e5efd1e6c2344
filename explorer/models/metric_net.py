"""Metric learning's network: an embedding on the unit sphere, and the nearest class mean as its classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier
from explorer.models import ARCHITECTURES
from explorer.models.plain_conv import PlainConv

SCALE = 10.0  # of squared distances between unit vectors, at most 4, so that probabilities can be near 1


class NearestMean(nn.Linear):
    """Logits -SCALE |f - m_k|^2 of features f (N,D): `weight` holds the class means m_k (K,D) (Mensink et al., TPAMI 2013)."""

    def __init__(self, features: int, classes: int):
        super().__init__(features, classes, bias=False)
        nn.init.zeros_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        across = F.linear(features, 2 * self.weight)  # (N, K)
        return SCALE * (across - features.square().sum(1, keepdim=True) - self.weight.square().sum(1))


@ARCHITECTURES.register("metric-net", title="Embedding network", paper="arXiv:2102.07265")
class MetricNet(Classifier):
    """Convolutions and linear layers with ReLU (see PlainConv), then `embedding` numbers, divided by their length.

    Raises InvalidValue as PlainConv does.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        convolutions: Sequence[Sequence[int]] = ((32, 4, 2), (64, 4, 2)),
        hidden: Sequence[int] = (128,),
        embedding: int = 32,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        trunk = PlainConv(mean, std, input_shape, embedding, convolutions, hidden)
        self.layers = nn.Sequential(*trunk.layers, trunk.head)
        self.head = NearestMean(embedding, num_classes)

    def embed(self, normalised: Tensor) -> Tensor:
        return F.normalize(self.layers(normalised), dim=1)  # (N, D), each of length 1
