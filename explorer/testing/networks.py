"""What attacks are tested on: a small network that was really trained, and versions of it that are noisy or broken."""

from __future__ import annotations

import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import Classifier, current_rng, seeded

Case = tuple[Classifier, Tensor, Tensor]  # a network, images (N,C,H,W) and labels (N,), all of which it gets right


class SmallNet(Classifier):
    """Convolution, batch norm, dropout: everything that an attack could disturb."""

    def __init__(self) -> None:
        super().__init__([0.5], [0.25], (1, 8, 8), 4)
        self.conv, self.norm, self.drop = nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Dropout(0.2)
        self.hidden, self.head = nn.Linear(128, 32), nn.Linear(32, 4)

    def embed(self, normalised: Tensor) -> Tensor:
        return torch.relu(self.hidden(self.drop(torch.relu(self.norm(self.conv(normalised))).flatten(1))))


def blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n images (1,8,8) of four classes: a bright quarter in noise."""
    y = torch.arange(n) % 4
    x = 0.35 + 0.12 * torch.randn(n, 1, 8, 8, generator=seeded(seed))
    for i, label in enumerate(y.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        x[i, 0, row : row + 4, column : column + 4] += 0.12
    return x.clamp(0, 1), y


@cache
def small_case() -> Case:
    """A small network, and 48 images, all of which it gets right, some of them near the boundary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallNet().train()
        x, y = blobs(512, seed=1)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.zero_grad(set_to_none=True)
    model.freeze()
    x, y = blobs(256, seed=2)
    right = (classes_of(model, x) == y).nonzero()[:48, 0]
    return model, x[right], y[right]


class WithNoise(nn.Module):
    """A network whose input is noisy at every pass: two passes differ."""

    stochastic = True

    def __init__(self, inner: Classifier):
        super().__init__()
        self.inner = inner

    def forward(self, pixels: Tensor) -> Tensor:
        rng = current_rng(pixels.device)
        logits: Tensor = self.inner(pixels + 0.05 * torch.randn(pixels.shape, generator=rng, device=pixels.device))
        return logits


class Broken(nn.Module):
    """A network whose logits of what is nearest to the first of the images are NaN, to the second infinite; to the third,
    that of the last class is -inf."""

    stochastic = False

    def __init__(self, inner: Classifier, images: Tensor):
        super().__init__()
        self.inner, self.images = inner, images

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.inner(pixels)
        nearest = torch.cdist(pixels.detach().flatten(1), self.images.flatten(1)).argmin(1)
        logits = logits.masked_fill((nearest == 0)[:, None], torch.nan).masked_fill((nearest == 1)[:, None], torch.inf)
        last = torch.arange(logits.shape[1], device=logits.device) == logits.shape[1] - 1
        return logits.masked_fill((nearest == 2)[:, None] & last, -torch.inf)


def in_training(model: Classifier, x: Tensor, y: Tensor) -> Classifier:
    """A copy in a mixed state, whose weights ask for gradients and have some."""
    busy = copy.deepcopy(model).requires_grad_(True)
    with torch.enable_grad():
        F.cross_entropy(busy(x), y).backward()
    busy.train()
    next(busy.children()).eval()  # which a blanket .train() afterwards would destroy
    return busy


def classes_of(model: nn.Module, x: Tensor) -> Tensor:
    """(N,) the model's answers."""
    with torch.no_grad():
        classes: Tensor = model(x).argmax(1)
    return classes
