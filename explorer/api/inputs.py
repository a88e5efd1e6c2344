"""Input validation of scripts' functions: models, images, labels, attacks and norms, each refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.core import Attack, Classifier, Goal, InvalidValue, ThreatModel, as_classifier, parse_number
from explorer.core.ball import THREAT_EPS, THREAT_LIMIT
from explorer.core.memory import is_out_of_memory
from explorer.core.threat import Eps
from explorer.models import zoo

T = TypeVar("T")
Labels = Tensor | Sequence[int]


def checked_images(x: Any) -> Tensor:
    """x as (N,C,H,W) float32 in [0,1], N at least 1. Raises InvalidValue."""
    if not isinstance(x, Tensor) or x.ndim != 4 or len(x) == 0:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InvalidValue(f"x must be a tensor (N,C,H,W) of at least one image; got {got}.")
    if not x.is_floating_point():
        raise InvalidValue(f"x must hold pixels in [0,1], as floating point (8-bit levels / 255); got {x.dtype}.")
    pixels: Tensor = x.detach().float()
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise InvalidValue(f"x must hold pixels in [0,1], not normalised ones; got values from {low:g} to {high:g}.")
    return pixels


def checked_model(model: nn.Module | str, x: Tensor) -> Classifier:
    """A module (see `as_classifier`), or the zoo's model of this name on x's device. Raises InvalidValue, UnknownName."""
    found = zoo.load(model, x.device) if isinstance(model, str) else as_classifier(model, like=x)
    if tuple(x.shape[1:]) != found.input_shape:
        raise InvalidValue(f"x must hold images of shape {found.input_shape} for this model; got {tuple(x.shape[1:])}.")
    return found


def checked_labels(name: str, y: Any, n: int, classes: int) -> Tensor:
    """(n,) int64 in [0, classes), on the CPU. Raises InvalidValue."""
    try:
        labels = torch.as_tensor(y).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidValue(f"{name} must be whole numbers, one for each image; got {type(y).__name__}.") from error
    if labels.shape != (n,) or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidValue(
            f"{name} must be {n} whole numbers, one for each image; got shape {tuple(labels.shape)} of {labels.dtype}."
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise InvalidValue(f"{name} must lie in [0, {classes - 1}], the model's classes; got {int(outside[0])}.")
    return labels.long()


def checked_goal(y: Tensor, target: int | Labels | None, classes: int) -> Goal:
    """Away from the labels y (N,), or toward `target`, a class for all images or one for each. Raises InvalidValue."""
    if target is None:
        return Goal.untargeted(y)
    if isinstance(target, int) or (isinstance(target, Tensor) and target.ndim == 0):
        target = [int(target)] * len(y)
    aims = checked_labels("target", target, len(y), classes)
    if bool((aims == y).any()):
        raise InvalidValue(f"target must differ from the image's own class; got {int(aims[aims == y][0])} for both.")
    return Goal.targeted(aims)


def checked_attack(method: str | Attack, settings: Mapping[str, Any]) -> Attack:
    """The attack of this key with these hyper-parameters, or the attack itself. Raises UnknownName, InvalidValue."""
    if isinstance(method, str):
        return ATTACKS[method].from_dict(settings)
    if not isinstance(method, Attack):
        raise InvalidValue(f"method must be an attack's key, such as 'pgd', or an Attack; got {method!r}.")
    if settings:
        raise InvalidValue(f"{next(iter(settings))} is a setting: give it to {type(method).__name__}(...) itself.")
    return method


def checked_threat(attack: Attack, norm: Any, eps: Any, n: int) -> ThreatModel:
    """What the attack may change: eps None is the norm's usual one; a minimal attack gets the pixel range.

    Raises InvalidValue for a norm that the attack does not know and for an eps out of range, or not asked for.
    """
    norm = attack.threats[0] if norm is None else norm
    if attack.budget == "minimal":
        if eps is not None:
            raise InvalidValue(
                f"eps does not belong to {type(attack).__name__}: it looks for the smallest change itself; got {eps!r}."
            )
        return attack.threat_model(norm, THREAT_LIMIT.get(norm, 1.0))
    threat = attack.threat_model(norm, checked_eps(norm, eps))
    if isinstance(threat.eps, Tensor) and len(threat.eps) != n:
        raise InvalidValue(f"eps must be a number or hold one for each of {n} images; got {len(threat.eps)}.")
    return threat


def checked_eps(norm: str, eps: Any) -> Eps:
    """A number, a fraction such as "8/255" or a tensor (N,) as it is; None: the norm's usual one. Raises InvalidValue."""
    if eps is None:
        return THREAT_EPS.get(norm, 0.5)  # an unknown norm is the attack's to refuse
    if isinstance(eps, Tensor) and eps.ndim == 1:
        return eps.detach()
    try:
        return parse_number(eps.item() if isinstance(eps, Tensor) else eps)
    except (ValueError, ZeroDivisionError, OverflowError, RuntimeError) as error:
        raise InvalidValue(
            f'eps must be a number, a fraction such as "8/255" or a tensor (N,); got {eps!r}.'
        ) from error


def halving(size: int, batch: int | None, work: Callable[[int], T]) -> T:
    """work(batch); where none is asked for work(size), and with half as many images each time memory runs out.

    Raises InvalidValue for a batch below 1, and whatever work raises.
    """
    if batch is not None:
        if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
            raise InvalidValue(f"batch must be a whole number of at least 1, or None; got {batch!r}.")
        return work(batch)
    while True:
        try:
            return work(size)
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        size = -(-size // 2)  # after the block, which holds the failed pass's tensors
