"""Exact verification by mixed-integer programming: is there any picture within eps that the network takes for a rival class?

Tjeng et al., arXiv:1711.07356: each ReLU whose sign is open in the box is a binary choice between its two pieces, each maximum
one among its candidates; all else is linear. The bounds that make the pieces tight are CROWN's (`linear_bounds`). Asked as a
yes-or-no question at a distance, one rival class at a time, and not as a search for the smallest distance, which settles less.
Solved by scipy's HiGHS: a constraint may be violated by 1e-6 in float64, so "none" is as exact as that; a picture that is found
counts only if the network itself takes it for the rival.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from explorer.certify.linear_bounds import Bounded, LinearBounds
from explorer.core import Classifier, InvalidValue
from explorer.models.intervals import around

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Settled = Literal["none", "found", "open"]


@dataclass(frozen=True, eq=False)
class Answer:
    """`none`: no picture in the ball has the rival's class; `found`: `picture` (C,H,W) has; `open`: time ran out."""

    settled: Settled
    picture: Tensor | None
    seconds: float
    choices: int  # binary ones in the program


def settle(model: Classifier, x: Tensor, y: int, rival: int, eps: float, *, seconds: float = 60.0) -> Answer:
    """Whether a picture within eps in Linf of x (C,H,W), and in [0,1], has a logit of `rival` that is at least that of y.

    Stops after about so many seconds. scipy is imported when first asked.
    Raises InvalidValue as LinearBounds does, for a rival that is y, and for a class that is not there.
    """
    if rival == y or not 0 <= rival < model.num_classes or not 0 <= y < model.num_classes:
        raise InvalidValue(f"the rival must be another of the {model.num_classes} classes than {y}; got {rival}.")
    return _settle(model, LinearBounds(model), x, y, [rival], eps, seconds)


def settle_all(model: Classifier, x: Tensor, y: int, eps: float, *, seconds: float = 60.0) -> Answer:
    """As `settle`, for any rival: those that linear bounds do not exclude are asked, the nearest first, in the time there is."""
    return _settle(model, LinearBounds(model), x, y, [k for k in range(model.num_classes) if k != y], eps, seconds)


def narrow(
    model: Classifier, x: Tensor, y: int, proven: float, attacked: float, *, seconds: float = 60.0, width: float = 0.02
) -> Iterator[tuple[float, Answer]]:
    """Distances with their answers, which close in on the smallest change: proven from below, found from above.

    Between a distance that is proven and one at which an attack succeeded: first 0.8 and 0.95 of that, then the middle, until
    both are within `width` of each other, each question given so many seconds. A distance that stays open ends the search
    from above; below it one more is asked.
    """
    network, waiting = LinearBounds(model), [0.8 * attacked, 0.95 * attacked]
    rivals, still_open = [k for k in range(model.num_classes) if k != y], 0
    while attacked - proven > width * attacked and still_open < 2:
        eps = waiting.pop(0) if waiting else (proven + attacked) / 2
        if not proven < eps < attacked:
            continue
        answer = _settle(model, network, x, y, rivals, eps, seconds)
        yield eps, answer
        if answer.settled == "none":
            proven = eps
        elif answer.picture is not None:
            attacked, waiting = min(eps, float((answer.picture - x).abs().max())), []
        else:
            still_open, waiting = still_open + 1, [(proven + eps) / 2]


def _settle(
    model: Classifier, network: LinearBounds, x: Tensor, y: int, rivals: Sequence[int], eps: float, seconds: float
) -> Answer:
    began = time.perf_counter()
    low, high = (edge.squeeze(0) for edge in around(x.double()[None], eps))
    leads = network.margins(low[None], high[None], torch.tensor([y]))[0]
    asked = sorted((k for k in rivals if leads[k] <= 0), key=lambda k: float(leads[k]))
    chain, choices, settled = network.bounded(low[None], high[None]) if asked else [], 0, "none"
    for rival in asked:
        program = _Program(chain, y, rival)
        choices = max(choices, program.choices)
        point, now = program.solve(seconds - (time.perf_counter() - began))
        if point is not None:
            normalised = torch.from_numpy(point).reshape(low.shape)
            picture = (normalised * network.std[0] + network.mean[0]).clamp(low, high).to(x.dtype)
            z = model(picture[None].to(model.device))[0]
            if bool(z[rival] >= z[y]):
                return Answer("found", picture, time.perf_counter() - began, choices)
        if now != "none":
            settled = "open"
    return Answer(cast("Settled", settled), None, time.perf_counter() - began, choices)


class _Program:
    """The network as a program: variables are the normalised pixels, then what open units give, then the choices.

    What enters a layer is an affine function of the variables: a matrix (D, V) and a vector (D,).
    """

    def __init__(self, chain: list[Bounded], y: int, rival: int):
        first = chain[0]
        pixels = first.low.numel()
        self.low, self.high = [first.low.flatten().numpy()], [first.high.flatten().numpy()]
        self.binary = [np.zeros(pixels)]
        self._count = pixels
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # columns, values: row @ v <= bound
        matrix, offset = np.eye(pixels), np.zeros(pixels)
        for layer in chain:
            matrix, offset = self._pass(layer, matrix, offset)
        self.lead = np.zeros(self._count)
        self.lead[: matrix.shape[1]] = matrix[rival] - matrix[y]
        self.lead_offset = float(offset[rival] - offset[y])

    @property
    def choices(self) -> int:
        return int(sum(part.sum() for part in self.binary))

    def _pass(self, layer: Bounded, matrix: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        module, shape = layer.module, layer.low.shape[1:]
        if isinstance(module, nn.ReLU):
            return self._relu(layer, matrix, offset)
        if isinstance(module, nn.MaxPool2d):
            return self._maximum(layer, matrix, offset)
        columns = torch.from_numpy(np.concatenate([offset[None], matrix.T])).reshape(-1, *shape)
        with torch.no_grad():
            bias = module(torch.zeros_like(columns[:1])).flatten()
            out = module(columns).flatten(1)
        return (out[1:] - bias).T.numpy(), out[0].numpy()

    def _relu(self, layer: Bounded, matrix: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = layer.low.flatten().numpy(), layer.high.flatten().numpy()
        on, open_ = low >= 0, np.flatnonzero((low < 0) & (high > 0))
        given, choice = self._add(np.zeros(len(open_)), high[open_]), self._add_choices(len(open_))
        out = np.zeros((len(low), self._count))
        out[:, : matrix.shape[1]] = matrix * on[:, None]
        shift = offset * on
        for unit, value, decides in zip(open_, given, choice, strict=True):
            z, shift_z = matrix[unit], offset[unit]
            out[unit, value] = 1
            self._constrain(z, {value: -1.0}, -shift_z)  # value >= z
            self._constrain(-z, {value: 1.0, decides: -low[unit]}, shift_z - low[unit])  # value <= z - low (1 - choice)
            self._constrain(np.zeros(0), {value: 1.0, decides: -high[unit]}, 0.0)  # value <= high choice
        return out, shift

    def _maximum(self, layer: Bounded, matrix: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = layer.low.flatten().numpy(), layer.high.flatten().numpy()
        windows = self._windows(layer)  # (D', candidates): places in what enters; -1: padding
        largest = np.array([max(low[k] for k in row if k >= 0) for row in windows])
        rivals = [[k for k in row if k >= 0 and high[k] > least] for row, least in zip(windows, largest, strict=True)]
        rivals = [row or [int(max(places, key=lambda k: low[k]))] for row, places in zip(rivals, windows, strict=True)]
        open_ = [at for at, row in enumerate(rivals) if len(row) > 1]
        tops = np.array([max(high[k] for k in rivals[at]) for at in open_])
        given = self._add(largest[open_], tops) if open_ else np.zeros(0, int)
        choices = [self._add_choices(len(rivals[at])) for at in open_]
        out, shift = np.zeros((len(windows), self._count)), np.zeros(len(windows))
        for at, row in enumerate(rivals):
            if len(row) == 1:
                out[at, : matrix.shape[1]], shift[at] = matrix[row[0]], offset[row[0]]
        for at, value, decides, top in zip(open_, given, choices, tops, strict=True):
            out[at, value] = 1
            for k, chosen in zip(rivals[at], decides, strict=True):
                self._constrain(matrix[k], {value: -1.0}, -offset[k])  # value >= z_k
                slack = top - low[k]
                self._constrain(-matrix[k], {value: 1.0, chosen: slack}, offset[k] + slack)  # value <= z_k if chosen
            self._constrain(np.zeros(0), dict.fromkeys(map(int, decides), -1.0), -1.0)  # one of them is
        return out, shift

    @staticmethod
    def _windows(layer: Bounded) -> np.ndarray:
        module = layer.module
        assert isinstance(module, nn.MaxPool2d)
        places = torch.arange(1, layer.low[0].numel() + 1, dtype=torch.float64).reshape(layer.low.shape)
        height, width = layer.low.shape[2:]
        size, stride = _pair(module.kernel_size), _pair(module.stride)
        if _pair(module.padding) != (0, 0) or _pair(module.dilation) != (1, 1) or module.ceil_mode:
            raise InvalidValue("exact verification reads pooling without padding, dilation and ceil mode.")
        rows = [
            (i, j) for i in range(0, height - size[0] + 1, stride[0]) for j in range(0, width - size[1] + 1, stride[1])
        ]
        cut = [places[0, :, i : i + size[0], j : j + size[1]].flatten(1) for i, j in rows]  # (C, candidates) each
        return (torch.stack(cut, 1).flatten(0, 1).long() - 1).numpy()  # in the order (C, h, w)

    def _add(self, low: np.ndarray, high: np.ndarray, binary: bool = False) -> np.ndarray:
        """New variables between these; their places."""
        places = np.arange(self._count, self._count + len(low))
        self.low.append(low)
        self.high.append(high)
        self.binary.append(np.full(len(low), float(binary)))
        self._count += len(low)
        return places

    def _add_choices(self, count: int) -> np.ndarray:
        return self._add(np.zeros(count), np.ones(count), binary=True)

    def _constrain(self, dense: np.ndarray, more: dict[int, float], bound: float) -> None:
        """dense @ v[:len(dense)] + more @ v <= bound."""
        places = np.flatnonzero(dense)
        columns = np.concatenate([places, np.fromiter(more, int, len(more))])
        values = np.concatenate([dense[places], np.fromiter(more.values(), float, len(more))])
        self._rows.append((columns, values, np.array(bound)))

    def _matrix(self) -> tuple[csr_array, np.ndarray]:
        from scipy.sparse import csr_array

        columns, values, bounds = zip(*self._rows, strict=True)
        starts = np.concatenate([[0], np.cumsum([len(c) for c in columns])])
        shape = (len(self._rows), self._count)
        return csr_array((np.concatenate(values), np.concatenate(columns), starts), shape=shape), np.array(bounds)

    def solve(self, seconds: float) -> tuple[np.ndarray | None, Settled]:
        """The normalised pixels of a point whose lead is not negative, or none and why.

        Of all points with that point's choices it is the one with the largest lead, so that rounding does not undo it.
        """
        low, high = np.concatenate(self.low), np.concatenate(self.high)
        binary = np.concatenate(self.binary)
        point, settled = self._ask(np.zeros(self._count), low, high, binary, seconds)
        if point is None:
            return None, settled
        chosen = np.where(binary > 0, np.rint(point), 0)
        low, high = np.where(binary > 0, chosen, low), np.where(binary > 0, chosen, high)
        best, _ = self._ask(-self.lead, low, high, np.zeros(self._count), seconds)
        return (point if best is None else best)[: len(self.low[0])], "found"

    def _ask(
        self, cost: np.ndarray, low: np.ndarray, high: np.ndarray, binary: np.ndarray, seconds: float
    ) -> tuple[np.ndarray | None, Settled]:
        from scipy.optimize import Bounds, LinearConstraint, milp

        constraints = [LinearConstraint(self.lead[None], lb=-self.lead_offset)]
        if self._rows:
            matrix, bounds = self._matrix()
            constraints.append(LinearConstraint(matrix, ub=bounds))
        limit = {"time_limit": max(seconds, 0.01)}
        answer = milp(cost, integrality=binary, bounds=Bounds(low, high), constraints=constraints, options=limit)
        if answer.x is not None:
            return np.asarray(answer.x), "found"
        return None, "none" if answer.status == 2 else "open"  # 2: infeasible


def _pair(value: int | tuple[int, int] | None) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (int(value or 0), int(value or 0))
