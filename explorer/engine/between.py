"""The truth between proof and attack for one picture: exact questions close in from both sides (`exact_process`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

from explorer.core import InvalidValue
from explorer.data import raw
from explorer.engine.clock import Clock, timed
from explorer.engine.exact_process import narrowed

SECONDS = 60.0  # for each question


@dataclass(frozen=True)
class Asked:
    """One exact question and its answer."""

    eps: float
    settled: str  # none, found or open
    seconds: float


@dataclass(frozen=True)
class Between:
    """What is known of the smallest change in Linf that turns one picture's answer: it lies in (proven, attacked]."""

    picture: int  # its row
    radii: dict[str, float]  # by kind, from which it began
    attack: float  # that an attack had found
    proven: float
    attacked: float
    asked: tuple[Asked, ...] = ()
    seconds: float = 0.0
    finished: bool = False

    @property
    def missed(self) -> float:
        """By how much, at most, the attack's distance is larger than the smallest one: (attack - proven) / proven."""
        return (self.attack - self.proven) / self.proven if self.proven > 0 else float("inf")


def between_work(
    model: str, dataset: str, picture: int, label: int, radii: dict[str, float], attack: float
) -> Callable[[], Iterator[Between | None]]:
    """What to give to `engine.submit`: a Between after each question. Raises InvalidValue unless something lies between."""
    proven = max(radii.values(), default=0.0)
    if not proven < attack:
        raise InvalidValue(f"an attack at {attack:g} leaves nothing between it and the proof at {proven:g}.")
    return lambda: timed(
        lambda clock: _work(model, dataset, label, Between(picture, radii, attack, proven, attack), clock)
    )


def _work(model: str, dataset: str, label: int, now: Between, clock: Clock) -> Generator[Between | None]:
    yield now
    x = raw(dataset, "test", "sample")[0][now.picture].float() / 255
    for told in narrowed(model, x.numpy(), label, now.proven, now.attack, SECONDS):
        if told is None:
            yield None
            continue
        asked = Asked(told["eps"], told["settled"], told["seconds"])
        if asked.settled == "none":
            now = replace(now, proven=max(now.proven, asked.eps))
        elif asked.settled == "found":
            now = replace(now, attacked=min(now.attacked, asked.eps, told["distance"]))
        now = replace(now, asked=(*now.asked, asked), seconds=clock.seconds)
        yield now
    yield replace(now, finished=True, seconds=clock.seconds)
