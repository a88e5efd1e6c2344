"""Conditional flow matching (Lipman et al., arXiv:2210.02747): a U-Net learns the velocity that carries noise to images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.core import InvalidValue, param
from explorer.core.device import computes_bfloat16
from explorer.defenses.recipe import one_cycle
from explorer.models.untrained import initial_weights
from explorer.models.zoo import fill
from explorer.proxies import GENERATORS
from explorer.proxies.fitting import Fit
from explorer.proxies.generator import Generator, Progress, Real
from explorer.proxies.unet import PATCH, UNet

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # of points (N,C,H,W), times (N,), classes (N,)
DRAWN = 250  # images drawn at a time
CHANNELS_LAST = torch.channels_last


@GENERATORS.register(
    "flow",
    title="Class-conditional flow matching",
    paper="arXiv:2210.02747",
    summary="A small U-Net that carries noise to images along nearly straight lines; the class is told to it.",
)
@dataclass(frozen=True)
class Flow(Generator):
    """Squared error of the velocity at x_t = (1-t) z + t x against x - z (eq. 23 with sigma_min 0), averaged weights, Adam.

    Times are logit-normal (Esser et al., arXiv:2403.03206); the class is left out for a tenth of the images, for
    classifier-free guidance (Ho and Salimans, arXiv:2207.12598). Images are drawn by Euler's method.
    differs: a U-Net on squares of 2 x 2 pixels, a twentieth as large; one cycle of the rate.
    """

    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1, "width": 8, "steps": 2}

    epochs: int = param(12, "epochs", lo=1, hi=1000, help="Passes over the real images.")
    batch: int = param(128, "batch size", lo=1, hi=4096, unit="images", help="Images per update.")
    lr: float = param(2e-3, "peak learning rate", lo=1e-6, hi=1.0, help="Highest point of the one-cycle schedule.")
    width: int = param(32, "width", lo=8, hi=256, step=8, help="Channels of the first level; a multiple of 8.")
    ema: float = param(0.999, "weight averaging", lo=0.0, hi=0.99999, help="Decay of the averaged weights (EMA).")
    drop: float = param(0.1, "classes left out", lo=0.0, hi=0.9, help="Share of images whose class is not told.")
    steps: int = param(20, "Euler steps", lo=1, hi=1000, help="From noise to image, when drawing.")
    guidance: float = param(1.0, "guidance", lo=0.0, hi=10.0, help="1: the class as learned; more: exaggerated.")

    def network(self, channels: int, classes: int) -> UNet:
        with initial_weights(self.seed):
            return UNet(channels, classes, self.width)

    def fit(self, real: Real, device: torch.device, work: Path, progress: Progress) -> dict[str, Tensor]:
        """The averaged weights of the network. Goes on from the newest checkpoint in `work`.

        Raises BadCheckpoint for one of another fit, InvalidValue for images with an odd number of pixels a side.
        """
        if any(side % PATCH for side in real.pixels.shape[2:]):
            height, width = real.pixels.shape[2:]
            raise InvalidValue(f"flow needs images with an even number of pixels a side; got {width} x {height}.")
        network = self.network(real.pixels.shape[1], real.classes).to(device).to(memory_format=CHANNELS_LAST)
        pixels, labels = real.pixels.to(device), real.labels.to(device)
        facts = {"generator": "flow", "dataset": real.dataset, "images": len(real), "device": device.type}
        facts |= self.to_dict()
        with Fit(network, self.ema, self.seed, work, facts) as fit:
            updates = self.epochs * -(-len(real) // self.batch)
            while fit.done < updates:
                rows = torch.randint(len(real), (self.batch,), generator=fit.rng, device=device)
                x = (pixels[rows].float() / 127.5 - 1).contiguous(memory_format=CHANNELS_LAST)
                with torch.autocast(device.type, torch.bfloat16, enabled=computes_bfloat16(device)):
                    losses = self.losses(network, x, labels[rows], real.classes, fit.rng)
                fit.update(losses.mean(), one_cycle(fit.done, updates, self.lr, 0.1))
                progress(fit.done, updates)
            return {name: value.detach().cpu().contiguous() for name, value in fit.averaged.state_dict().items()}

    def losses(self, velocity: Velocity, x: Tensor, y: Tensor, unknown: int, rng: torch.Generator) -> Tensor:
        """(N,) of images x (N,C,H,W) in [-1,1]; `unknown` stands for a class that is left out."""
        z = torch.randn(x.shape, generator=rng, device=x.device)
        t = torch.randn(len(x), generator=rng, device=x.device).sigmoid()
        left_out = torch.rand(len(x), generator=rng, device=x.device) < self.drop
        return flow_losses(velocity, x, y.masked_fill(left_out, unknown), z, t)

    def draw(
        self, learned: Mapping[str, Tensor], labels: Tensor, shape: tuple[int, ...], rng: torch.Generator
    ) -> Tensor:
        classes = len(learned["of_class.weight"]) - 1
        network = self.network(shape[0], classes)
        fill(network, dict(learned), "this generator")
        network.eval().requires_grad_(False).to(rng.device).to(memory_format=CHANNELS_LAST)
        drawn = []
        for y in labels.to(rng.device).split(DRAWN):
            z = torch.randn(len(y), *shape, generator=rng, device=rng.device)
            drawn.append(euler(network, z, y, classes, self.steps, self.guidance))
        return (torch.cat(drawn) + 1).div(2).clamp(0, 1)


def flow_losses(velocity: Velocity, x: Tensor, y: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """(N,) mean squared error over an image's pixels of the velocity at (1-t) z + t x, against x - z."""
    at = t.view(-1, 1, 1, 1)
    return (velocity((1 - at) * z + at * x, t, y).float() - (x - z)).square().flatten(1).mean(1)


@torch.no_grad()
def euler(velocity: Velocity, z: Tensor, y: Tensor, unknown: int, steps: int, guidance: float = 1.0) -> Tensor:
    """(N,C,H,W) where noise z is carried from time 0 to 1 by Euler's method.

    With a `guidance` w other than 1 along v(no class) + w (v(class) - v(no class)).
    """
    x = z
    for step in range(steps):
        t = torch.full((len(z),), step / steps, device=z.device)
        v = velocity(x, t, y)
        if guidance != 1.0:
            plain = velocity(x, t, torch.full_like(y, unknown))
            v = plain + guidance * (v - plain)
        x = x + v / steps
    return x
