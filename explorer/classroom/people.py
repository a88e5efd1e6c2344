"""What people see: pictures attacked at rising eps, their labels hidden, named by people and by networks; accuracy over eps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.core import InvalidValue, wilson
from explorer.core.rng import derived_seed
from explorer.data import dataset
from explorer.engine import Engine
from explorer.engine.batch_request import ManyRequest, labels_of, shuffled
from explorer.engine.many import many_work
from explorer.models import zoo

LEVELS = tuple(k / 255 for k in (0, 4, 8, 16, 32, 64))  # eps in L-infinity, pixel units
EACH = 4  # pictures of a level; no picture stands in two, since who has seen it untouched would know it
PICTURES = 7  # stream of randomness beside those of other choices of pictures


@dataclass(frozen=True)
class PeopleRequest:
    """Which pictures, and the networks that PGD attacks; people see those made on the first."""

    models: tuple[str, ...]
    seed: int = 0

    def checked(self) -> PeopleRequest:
        """Raises UnknownName, and InvalidValue unless there are one to three networks of one dataset."""
        cards = [zoo.card(name) for name in self.models]
        if not 1 <= len(set(self.models)) <= 3 or len({card.dataset for card in cards}) > 1:
            raise InvalidValue(
                f"people are compared with 1 to 3 networks of one dataset; got {', '.join(self.models)}."
            )
        return dataclasses.replace(self, models=tuple(dict.fromkeys(self.models)))

    @property
    def dataset(self) -> str:
        return zoo.card(self.models[0]).dataset

    @property
    def classes(self) -> tuple[str, ...]:
        return dataset(self.dataset).classes

    def rows(self) -> list[tuple[int, ...]]:
        """Of the bundled sample, level by level."""
        every = np.arange(len(labels_of(self.dataset)))
        drawn = shuffled(every, derived_seed(self.seed, PICTURES))
        return [tuple(int(row) for row in drawn[at * EACH : (at + 1) * EACH]) for at in range(len(LEVELS))]


@dataclass(frozen=True, eq=False)
class Strip:
    """The pictures so far, level by level; M pictures, K networks."""

    request: PeopleRequest
    images: np.ndarray  # (M,C,H,W) float32, made on the first network
    labels: np.ndarray  # (M,) the true classes
    eps: np.ndarray  # (M,) pixel units
    seen: np.ndarray  # (K,M) the class that each network names of its own attacked pictures
    finished: bool = False


def people_work(engine: Engine, request: PeopleRequest) -> Callable[[], Iterator[Strip | None]]:
    """What to give to `engine.submit`: a Strip after each level, attacked by PGD with 20 steps, for every network by itself."""
    return lambda: _work(engine, request)


def _work(engine: Engine, request: PeopleRequest) -> Iterator[Strip | None]:
    images, labels, eps, seen = [], [], [], []
    for level, rows in zip(LEVELS, request.rows(), strict=True):
        said = []
        for number, model in enumerate(request.models):
            many = ManyRequest(
                request.dataset, model, "hand", rows=rows, eps=level or LEVELS[1], seed=request.seed
            ).checked()
            result = None
            for item in many_work(engine, many)():
                result = item if item is not None else result
                yield None
                if level == 0 and result is not None:
                    break  # untouched: what it says before the attack is enough
            assert result is not None
            untouched = level == 0
            said.append((result.before if untouched else result.after).predicted)
            if number == 0:
                images.append(result.originals if untouched else result.images)
                labels.append(result.labels)
                eps.append(np.full(len(rows), level))
        seen.append(np.stack(said))
        done = len(images) == len(LEVELS)
        pixels, classes, sizes = (np.concatenate(parts) for parts in (images, labels, eps))
        yield Strip(request, pixels, classes, sizes, np.concatenate(seen, 1), finished=done)


@dataclass(frozen=True)
class Level:
    """How many answers at one eps were right; the interval takes answers for independent, which those to one picture are not
    quite, so that it is somewhat narrow for few pictures."""

    eps: float
    right: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson."""
        return wilson(self.right, self.n)


def curve(eps: Sequence[float], labels: Sequence[int], answers: Sequence[Sequence[int]]) -> list[Level]:
    """Accuracy over eps of people: `answers[m]` holds all answers (classes) to picture m, of eps and true class as given."""
    found: dict[float, tuple[int, int]] = {}
    for level, label, given in zip(eps, labels, answers, strict=True):
        right, n = found.get(float(level), (0, 0))
        found[float(level)] = right + sum(answer == label for answer in given), n + len(given)
    return [Level(level, right, n) for level, (right, n) in sorted(found.items()) if n]
