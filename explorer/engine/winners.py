"""Which unit of each LWTA block won: for a picture, for another draw of it, and for the attacked one under the first draw."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from explorer.core import Classifier, InvalidValue, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.engine.engine import Engine
from explorer.engine.request import AttackRequest
from explorer.engine.tracing import picture
from explorer.models import zoo
from explorer.models.variants import lwta_layers

DRAWS = 16
STREAM = 21  # of randomness, beside the attack's own


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of B blocks of U units at H x W places."""

    units: int
    shown: np.ndarray  # (3,B,H,W) uint8 the winners: draw 1, draw 2, and of the attacked picture draw 1
    by_chance: (
        float  # share of blocks and places whose winner differs between two draws of the picture, mean over DRAWS
    )
    by_attack: float  # ... between the picture and the attacked one under the same draw, mean over DRAWS


@dataclass(frozen=True, eq=False)
class Winners:
    """All LWTA layers of a network, in the order of its passes."""

    layers: tuple[Layer, ...]
    classes: tuple[str, ...]
    answers: np.ndarray  # (3,) int64 the classes that the three looks shown see
    seed: int


def has_units(model: str) -> bool:
    """Whether units of the zoo's model of this name compete."""
    return bool(zoo.card(model).arguments.get("units"))


def winners_work(
    engine: Engine, request: AttackRequest, adversarial: np.ndarray
) -> Callable[[], Iterator[Winners | None]]:
    """What to give to `engine.submit`: one Winners. `adversarial` (C,H,W) is what the attack made of the request's picture.

    The same draw means the same noise in every block: what then differs is the picture's doing. Raises InvalidValue at once
    for a model without such units.
    """
    if not has_units(request.model):
        raise InvalidValue(f"no units of {request.model} compete; those of an LWTA network do.")
    x0, moved = picture(engine, request)[0].cpu(), torch.from_numpy(adversarial.copy())
    return lambda: _work(engine, request, x0[None], moved[None])


def _work(engine: Engine, request: AttackRequest, x0: Tensor, moved: Tensor) -> Iterator[Winners | None]:
    model = copy.deepcopy(engine.model(request.model))  # hooks belong to nobody else's network
    looks: dict[tuple[str, int], tuple[list[Tensor], int]] = {}
    for draw in range(DRAWS):
        for name, x in (("clean", x0), ("attacked", moved)):
            looks[name, draw] = look(model, x, derived_seed(request.seed, STREAM + draw))
        yield None
    layers = []
    for at, layer in enumerate(lwta_layers(model)):
        clean = [looks["clean", draw][0][at] for draw in range(DRAWS)]
        attacked = [looks["attacked", draw][0][at] for draw in range(DRAWS)]
        chance = [_apart(one, clean[(draw + 1) % DRAWS]) for draw, one in enumerate(clean)]
        changed = [_apart(one, other) for one, other in zip(clean, attacked, strict=True)]
        shown = torch.stack([clean[0], clean[1], attacked[0]]).numpy()
        layers.append(Layer(layer.units, shown, sum(chance) / DRAWS, sum(changed) / DRAWS))
    answers = np.array([looks[key][1] for key in (("clean", 0), ("clean", 1), ("attacked", 0))])
    yield Winners(tuple(layers), request.classes, answers, request.seed)


def look(model: Classifier, x: Tensor, seed: int) -> tuple[list[Tensor], int]:
    """The winners (B,H,W) uint8 of each layer for one picture (1,C,H,W) under this draw, and the class seen.

    A winner is the unit whose value is passed on: the one that is not zero.
    """
    found: list[Tensor] = []

    def keep(units: int, _module: object, _inputs: object, out: Tensor) -> None:
        blocks = out[0].unflatten(0, (units, -1))  # (U,B,H,W)
        found.append(blocks.abs().argmax(0).to(torch.uint8).cpu())

    hooks = [layer.register_forward_hook(partial(keep, layer.units)) for layer in lwta_layers(model)]
    try:
        with torch.no_grad(), use_generator(seeded(seed, model.device)):
            answer = int(model(x.to(model.device)).argmax(1))
    finally:
        for hook in hooks:
            hook.remove()
    return found, answer


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one != other).float().mean())
