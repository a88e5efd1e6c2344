"""A table of certified radii: many pictures, each kind of certificate that can read the model, and the nearest attack beside them.

Radii come first, kind by kind from the cheapest; then FAB looks for the smallest change in each norm that was proven. An attack
that changes a class within its certificate would disprove it: an `alarm`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from explorer.attacks import ATTACKS
from explorer.certify.certifier import CertifiedRadius, Certifier
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.params import CertifyParams
from explorer.certify.store import Question, picture_hash
from explorer.core import Best, Classifier, Goal, InvalidValue, seeded
from explorer.core.ball import Ball
from explorer.core.ball import Norm as BallNorm
from explorer.core.rng import derived_seed
from explorer.data import chosen_rows, dataset, raw
from explorer.engine.certifying import MOST, predicted_without_noise, store
from explorer.engine.certifying_set import AT_ONCE
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.parsing import as_text, as_whole, from_link
from explorer.engine.tracing import made_on
from explorer.evaluation.verdict import verify
from explorer.models import zoo

CHEAPEST_FIRST = ("lipschitz", "column", "interval", "crown", "gaussian")
ATTACK = "fab"  # for the smallest change
ATTACKED: tuple[BallNorm, ...] = ("l2", "linf")  # in these norms
TOGETHER = 32  # pictures attacked at a time
SEARCHED = {"l2": 10.0, "linf": 0.5}  # as far as it looks
ATTACK_STREAM = 11  # stream of randomness: the attack's
LINK = {
    "data": "dataset",
    "model": "model",
    "count": "count",
    "kinds": "kinds",
    "shuffle": "shuffle",
    "n": "n",
    "attack": "attack",
}


@dataclass(frozen=True)
class ProvingRequest:
    """Which pictures of the bundled test pictures, of which model, proven how. Raises UnknownName, InvalidValue or BadCheckpoint.

    `kinds`: of CERTIFIERS, separated by commas; "": each that reads the model and holds always, else Gaussian smoothing.
    """

    dataset: str
    model: str
    count: int = 100
    kinds: str = ""
    shuffle: int = 0  # seed of the choice of pictures
    n: int = 1000  # draws of a picture, where a kind draws
    attack: bool = True  # look for the smallest change, too

    def __post_init__(self) -> None:
        name = dataset(as_text("dataset", self.dataset)).name
        card = zoo.card(as_text("model", self.model))
        if card.dataset != name:
            raise InvalidValue(f"{card.name} is a model of {card.dataset}, not of {name}.")
        most = min(MOST["pictures"], len(raw(name, "test", "sample")[1]))
        for key in self.chosen:
            CERTIFIERS.entry(key)
        values = {
            "count": as_whole("count", self.count, 1, most),
            "shuffle": as_whole("shuffle", self.shuffle, 0, 2**31 - 1),
            "n": as_whole("n", self.n, 1, MOST["n"]),
            "attack": self.attack in (True, "1", "true"),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The kinds that were named, none twice."""
        return tuple(dict.fromkeys(filter(None, self.kinds.split(","))))

    @property
    def rows(self) -> tuple[int, ...]:
        """Of the bundled sample; the same for every model."""
        return chosen_rows(self.dataset, self.shuffle, self.count)

    def to_query(self) -> dict[str, str]:
        """Names and values of a link that `from_query` turns into an equal request; defaults are left out."""
        query = {"view": "table", "data": self.dataset, "model": self.model}
        for key in ("count", "kinds", "shuffle", "n"):
            if getattr(self, key) != getattr(ProvingRequest, key):
                query[key] = str(getattr(self, key))
        return query if self.attack else query | {"attack": "0"}

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> ProvingRequest:
        """The request a link names; raises an ExplorerError for anything unfit."""
        return cls(**from_link(query, LINK, needed=("data", "model")))

    def title(self) -> str:
        """One line of conditions."""
        return f"{self.model}: {self.count} test pictures (seed {self.shuffle} of their choice)"


@dataclass(frozen=True, eq=False)
class Nearest:
    """The smallest change that an attack found, judged by a fresh pass."""

    distance: float  # in the norm it was looked for
    answer: int


@dataclass(frozen=True, eq=False)
class ProvenPictures:
    """All that is known so far; `radii` and `nearest` grow."""

    request: ProvingRequest
    rows: np.ndarray  # (N,)
    labels: np.ndarray  # (N,) true classes
    answers: np.ndarray  # (N,) the network's own
    runner_up: np.ndarray  # (N,) lead of the answer over the next class, logits
    radii: Mapping[str, tuple[CertifiedRadius, ...]]  # by kind; of the first pictures
    nearest: Mapping[str, tuple[Nearest | None, ...]]  # by norm; of the first pictures; None: none found
    refused: Mapping[str, str]  # kind: why it says nothing about this model
    seconds: float = 0.0
    finished: bool = False
    conditions: Mapping[str, Any] = field(default_factory=dict)  # in the last one

    @property
    def done(self) -> tuple[int, int]:
        """Cells that are filled, of all."""
        filled = sum(map(len, self.radii.values())) + sum(map(len, self.nearest.values()))
        return filled, len(self.rows) * (len(self.radii) + len(self.nearest))

    def alarms(self) -> list[tuple[int, str]]:
        """Pictures whose certificate an attack lies inside, with the kind: each would disprove it."""
        found = []
        for key, certified in self.radii.items():
            if not CERTIFIERS[key].deterministic:
                continue  # of the smoothed model, which this attack did not attack
            near = self.nearest.get(CERTIFIERS[key].norm, ())
            for at, (one, attack) in enumerate(zip(certified, near, strict=False)):
                if attack is not None and attack.distance < one.radius and attack.answer != one.label:
                    found.append((int(self.rows[at]), key))
        return found


def kinds_for(model: Classifier, request: ProvingRequest) -> tuple[dict[str, Certifier], dict[str, str]]:
    """The certifiers that answer the request, cheapest first, and why each other kind does not."""
    drawing = {"n": request.n, "sigma": zoo.card(request.model).sigma or CertifyParams.sigma}
    every = {key: CERTIFIERS[key](**(drawing if key == "gaussian" else {})) for key in _ordered()}
    refused = {key: reason for key, one in every.items() if (reason := one.reason_against(model)) is not None}
    fitting = {key: one for key, one in every.items() if key not in refused}
    if request.chosen:
        return {key: one for key, one in fitting.items() if key in request.chosen}, refused
    sure = {key: one for key, one in fitting.items() if one.deterministic}
    return sure or fitting, refused


def _ordered() -> list[str]:
    return sorted(CERTIFIERS.keys(), key=lambda key: (*CHEAPEST_FIRST, key).index(key))


def proving_work(engine: Engine, request: ProvingRequest) -> Callable[[], Iterator[ProvenPictures | None]]:
    """What to give to `engine.submit`: a ProvenPictures whenever cells have been filled, None in between."""
    return lambda: timed(lambda clock: _work(engine, request, clock))


def _work(engine: Engine, request: ProvingRequest, clock: Clock) -> Generator[ProvenPictures | None]:
    model, rows = engine.model(request.model), list(request.rows)
    pixels, truth = raw(request.dataset, "test", "sample")[:2]
    x = (pixels[rows].float() / 255).to(engine.device)
    certifiers, refused = kinds_for(model, request)
    if not certifiers:
        raise InvalidValue(
            " ".join(f"{CERTIFIERS.entry(k).title}: {refused[k]}" for k in request.chosen if k in refused)
        )
    answers = np.concatenate([predicted_without_noise(model, some) for some in x.split(AT_ONCE)])
    norms = (
        [n for n in ATTACKED if any(c.norm == n and c.deterministic for c in certifiers.values())]
        if request.attack
        else []
    )
    now = ProvenPictures(
        request, np.array(rows), truth[rows].numpy(), answers, _leads(model, x), dict.fromkeys(certifiers, ()),
        dict.fromkeys(norms, ()), refused,
    )  # fmt: skip
    yield now
    for key, certifier in certifiers.items():
        for one in certifier.certificates(model, x, seeds=_seeds(request, certifier, x)):
            if one is not None:
                now = replace(now, radii={**now.radii, key: (*now.radii[key], one)}, seconds=clock.seconds)
            yield now if one is not None else None
    for norm in norms:
        for near in _attacked(model, x, torch.from_numpy(answers), norm, request):
            if near is not None:
                now = replace(now, nearest={**now.nearest, norm: (*now.nearest[norm], *near)}, seconds=clock.seconds)
            yield now if near is not None else None
    yield replace(
        now, finished=True, seconds=clock.seconds, conditions=_conditions(now, certifiers, engine, clock.seconds)
    )


def _seeds(request: ProvingRequest, certifier: Certifier, x: torch.Tensor) -> list[int] | None:
    """A seed for each picture that nobody chooses, the same whenever the same is asked (`certify.store`)."""
    if certifier.deterministic:
        return None
    weights, asked = (
        zoo.card(request.model).identity,
        {k: v for k, v in certifier.to_dict().items() if k in ("sigma", "n0", "n", "alpha")},
    )
    return [store().seed(Question(weights, picture_hash(picture), **asked)) for picture in x]


def _leads(model: Classifier, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        best = torch.cat([model(some).topk(2, 1).values for some in x.split(AT_ONCE)])
    return (best[:, 0] - best[:, 1]).cpu().numpy()


def _attacked(
    model: Classifier, x: torch.Tensor, answers: torch.Tensor, norm: BallNorm, request: ProvingRequest
) -> Iterator[tuple[Nearest | None, ...] | None]:
    """The smallest change of each picture that takes it from the network's own answer, some pictures at a time."""
    attack, ball = ATTACKS[ATTACK](), Ball(norm, SEARCHED[norm])
    for start in range(0, len(x), TOGETHER):
        part, goal = x[start : start + TOGETHER], Goal.untargeted(answers[start : start + TOGETHER].to(x.device))
        rng = seeded(derived_seed(request.shuffle, ATTACK_STREAM + start), x.device)
        best = Best()
        for step in attack.walk(model, part, goal, ball, rng=rng):
            best.add(step)
            yield None
        outcome = best.outcome()
        wide = Ball(norm, max(float(outcome.distance.max()), 1e-9) * (1 + 1e-6))
        verdict = verify(model, outcome.x, part, goal, wide, rng)
        distance = verdict.distance.tolist()
        yield tuple(
            Nearest(d, p) if ok else None
            for d, p, ok in zip(distance, verdict.predicted.tolist(), verdict.reached.tolist(), strict=True)
        )


def _conditions(
    now: ProvenPictures, certifiers: Mapping[str, Certifier], engine: Engine, seconds: float
) -> dict[str, Any]:
    return {
        "model": now.request.model,
        "weights": zoo.card(now.request.model).sha256,
        "pictures": f"{len(now.rows)} drawn at random from the bundled test pictures (seed {now.request.shuffle})",
        "certificates": {key: {"norm": c.norm, "caveat": c.caveat, **c.to_dict()} for key, c in certifiers.items()},
        "attack": {"name": ATTACK, "norms": list(now.nearest), **ATTACKS[ATTACK]().to_dict()} if now.nearest else None,
        "seconds": round(seconds, 3),
        **made_on(engine.description),
    }
