"""How a pursuit network's codes settle: answer, energy and reconstruction over the inference steps, for a picture and its attacked one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue
from explorer.engine.engine import Engine
from explorer.engine.request import AttackRequest
from explorer.engine.tracing import picture
from explorer.models import zoo
from explorer.models.pursuit import PursuitNet, with_iterations

ARCHITECTURE = "pursuit-net"
STEPS = 16  # looked at, 0 to 16


@dataclass(frozen=True, eq=False)
class Settling:
    """Of the picture [0] and the attacked one [1], after T = 0, 1, ... inference steps at test time."""

    trained: int  # inference steps that the network was trained with; the attack went through them
    classes: tuple[str, ...]
    label: int
    pictures: np.ndarray  # (2,C,H,W) float32 in [0,1]
    rebuilt: np.ndarray  # (T,2,C,H,W) float32, what the first code stands for; it may leave [0,1]
    probabilities: np.ndarray  # (T,2,K) float32
    energy: np.ndarray  # (T,2) float32

    @property
    def rebuilt_apart(self) -> np.ndarray:
        """(T,2) the root of the mean squared difference between a picture and its reconstruction, in pixel units."""
        return np.sqrt(np.square(self.rebuilt - self.pictures).mean((2, 3, 4)))


def settles(model: str) -> bool:
    """Whether the zoo's model of this name takes inference steps."""
    return zoo.card(model).architecture == ARCHITECTURE


def settling_work(
    engine: Engine, request: AttackRequest, adversarial: np.ndarray, label: int
) -> Callable[[], Iterator[Settling | None]]:
    """What to give to `engine.submit`: one Settling. `adversarial` (C,H,W) is what the attack made of the request's picture.

    Raises InvalidValue at once for a model without inference steps.
    """
    if not settles(request.model):
        raise InvalidValue(f"{request.model} takes no inference steps; a pursuit network does.")
    x = torch.stack([picture(engine, request)[0].cpu(), torch.from_numpy(adversarial.copy())])
    return lambda: _work(engine, request, x, label)


def _work(engine: Engine, request: AttackRequest, x: Tensor, label: int) -> Iterator[Settling | None]:
    trained = engine.model(request.model)
    assert isinstance(trained, PursuitNet)
    shown, rebuilt, probabilities, energy = x.to(trained.device), [], [], []
    for steps in range(STEPS + 1):
        model = with_iterations(trained, steps)
        with torch.no_grad():
            rebuilt.append(model.reconstruction(shown).cpu().numpy())
            probabilities.append(model(shown).float().softmax(1).cpu().numpy())
            energy.append(model.energy(shown).cpu().numpy())
        yield None
    arrays = (np.stack(rebuilt), np.stack(probabilities), np.stack(energy))
    yield Settling(trained.iterations, request.classes, label, x.numpy(), *arrays)
