"""One attack on many pictures at once, in one batch; and one picture's change put on pictures it was not made for.

What is recorded is kept small, whatever the number of steps: a picture's margin, distance and success after each step
(13 bytes), and one image a picture, the best so far. A thousand steps on 32 pictures of CIFAR-10 take less than a
megabyte, where all their frames would take 390. Who wants to see every frame of one picture plays `single(row)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explorer.attacks.universal import applied
from explorer.core import USUAL_EPS, Ball, Best, Classifier, Goal, InvalidValue, Step, seeded, wilson
from explorer.core.ball import EPS_LEAST
from explorer.core.rng import derived_seed
from explorer.data import Dataset, dataset, raw
from explorer.engine.engine import Engine
from explorer.engine.request import HOW, AttackRequest, Budget, as_class, as_text, as_whole, from_link
from explorer.engine.rows import Rows
from explorer.engine.tracing import FIRST_LOOK, LAST_WORD, Clock, described, made_on
from explorer.evaluation.robustness import ANYWHERE, classified_right
from explorer.evaluation.verdict import Verdict, draw_logits, verdict_draws, verify
from explorer.models import zoo

PICTURES = 32  # in one batch
OTHERS = 200  # that a finished change is put on
AT_ONCE = 16  # pictures that are looked at between two turns of others
MANY = Budget(passes=320_000, draws=320)  # for all pictures together: AutoAttack on 32, if none of them fell early
PICKS = ("random", "right", "hand")
PICKING, OTHER_PICTURES, NOISE, SHUFFLING = 3, 4, 5, 6  # streams of randomness beside those of a single walk
KINDS = ("change", "noise", "shuffled")  # what is put on the others: the change itself, and two honest baselines

_LINK = HOW | {"pick": "pick", "count": "count", "class": "of", "shuffle": "shuffle", "rows": "rows"}


@dataclass(frozen=True)
class ManyRequest:
    """Everything that decides about one attack on many pictures; equal requests give equal outcomes.

    `pick`: "random" pictures of the sample, random ones that the model gets "right", or those in `rows`, chosen by
    "hand". Pictures of the class that is aimed at are never among them. Every field is checked when one is made:
    raises UnknownName or InvalidValue with one sentence, and what `AttackRequest` raises.
    """

    most: ClassVar[int] = PICTURES
    link: ClassVar[Mapping[str, str]] = _LINK

    dataset: str
    model: str
    pick: str = "random"
    count: int = 16  # of pictures
    of: int | None = None  # a class, or its name: pictures of this class only
    shuffle: int = 0  # seed of the random choice of pictures
    rows: tuple[int, ...] = ()  # of the bundled sample, for "hand"; "2,7,9" is understood
    attack: str = "pgd"
    hyper: dict[str, Any] = field(default_factory=dict, hash=False)
    norm: str = "linf"
    eps: float = USUAL_EPS["linf"]  # as in AttackRequest
    target: int | None = None
    seed: int = 0
    one: AttackRequest = field(init=False, repr=False, compare=False)  # the same attack on one of the pictures

    def __post_init__(self) -> None:
        spec = dataset(as_text("dataset", self.dataset))
        if self.pick not in PICKS:
            raise InvalidValue(f"pick must be one of {', '.join(PICKS)}; got {self.pick!r}.")
        target = None if self.target is None else as_class("target", self.target, spec)
        chosen = self._by_hand(spec, target) if self.pick == "hand" else self._at_random(spec, target)
        for name, value in chosen.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "target", target)
        pool = self.candidates
        if len(pool) < self.count:
            raise InvalidValue(f"count must be at most {len(pool)} here: there are no more such pictures; got {self.count}.")
        one = AttackRequest(
            self.dataset, pool[0], self.model, self.attack, self.hyper, self.norm, self.eps, target, self.seed
        )
        for name in ("hyper", "eps", "seed"):
            object.__setattr__(self, name, getattr(one, name))
        object.__setattr__(self, "one", one)

    def _by_hand(self, spec: Dataset, target: int | None) -> dict[str, Any]:
        rows = self.rows.split(",") if isinstance(self.rows, str) else tuple(self.rows)
        labels = _labels(spec.name)
        rows = tuple(as_whole("picture", row, 0, len(labels) - 1) for row in rows)
        if not 1 <= len(rows) <= self.most:
            raise InvalidValue(f"rows must name 1 to {self.most} pictures; got {len(rows)}.")
        if len(set(rows)) < len(rows):
            raise InvalidValue(f"rows must name each picture once; got {', '.join(map(str, rows))}.")
        for row in rows:
            if labels[row] == target:
                raise InvalidValue(
                    f"target must differ from every picture's true class; picture {row} shows {spec.classes[target]!r}."
                )
        return {"rows": rows, "count": len(rows), "of": None, "shuffle": 0}

    def _at_random(self, spec: Dataset, target: int | None) -> dict[str, Any]:
        if self.rows:
            raise InvalidValue(f'rows go with pick "hand"; got {self.rows!r} with {self.pick!r}.')
        of = None if self.of is None else as_class("class", self.of, spec)
        if of is not None and of == target:
            raise InvalidValue(f"target must differ from the pictures' class; got {spec.classes[of]!r}.")
        count = as_whole("count", self.count, 1, self.most)
        return {"of": of, "count": count, "shuffle": as_whole("shuffle", self.shuffle, 0, 2**31 - 1)}

    # What it asks for

    @property
    def classes(self) -> tuple[str, ...]:
        return self.one.classes

    @property
    def is_minimal(self) -> bool:
        return self.one.is_minimal

    @property
    def candidates(self) -> tuple[int, ...]:
        """Rows of the sample in the order in which they are taken."""
        if self.pick == "hand":
            return self.rows
        labels = _labels(self.dataset)
        fits = np.ones(len(labels), bool) if self.of is None else labels == self.of
        if self.target is not None:
            fits &= labels != self.target
        return _shuffled(np.flatnonzero(fits), derived_seed(self.shuffle, PICKING))

    @property
    def passes(self) -> int:
        """Forward and backward passes that all pictures together may need, draws counted one by one."""
        return self.count * self.one.passes

    def within(self, budget: Budget = MANY) -> ManyRequest:
        """Itself if it asks for no more than `budget`; raises InvalidValue."""
        asked = {
            "pictures x draws": (self.count * self.one.draws, budget.draws, "draws per step"),
            "recorded steps": (self.one.frames, budget.frames, "steps"),
            "pictures x passes": (self.passes, budget.passes, "forward and backward passes"),
        }
        for name, (amount, limit, unit) in asked.items():
            if amount > limit:
                raise InvalidValue(
                    f"{name} may come to at most {limit:,} {unit} here; got {amount:,}. Fewer pictures or steps fit."
                )
        return self

    def single(self, row: int) -> AttackRequest:
        """The same attack on one picture alone."""
        return dataclasses.replace(self.one, image=row, label=None)

    # As a link

    def to_query(self) -> dict[str, str]:
        """Names and values of a link that `from_query` turns into an equal request; defaults are left out."""
        query = self.one.to_query()
        del query["image"]
        if self.pick == "hand":
            return query | {"rows": ",".join(map(str, self.rows))}
        if self.pick != "random":
            query["pick"] = self.pick
        if self.of is not None:
            query["class"] = self.classes[self.of]
        if self.shuffle:
            query["shuffle"] = str(self.shuffle)
        return query | {"count": str(self.count)}

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> ManyRequest:
        """The request a link names. Other pages' parameters are ignored; raises an ExplorerError for anything unfit."""
        values = from_link(query, cls.link, needed=("data", "model"))
        if "rows" in values:
            values.setdefault("pick", "hand")
        return cls(**values)

    # In words

    def title(self) -> str:
        """One line: "PGD against cifar10/pgd-linf, Linf 8/255, 20 steps, on 16 pictures"."""
        return f"{self.one.title()}, on {self.count} picture{'' if self.count == 1 else 's'}"

    def chosen_words(self) -> str:
        """How the pictures were chosen: a condition of every share."""
        if self.pick == "hand":
            return "chosen by hand"
        kind = "" if self.of is None else f" of class {self.classes[self.of]}"
        only = "" if self.pick == "random" else " among those the model gets right"
        aimed = "" if self.target is None else f", none that shows the target ({self.classes[self.target]})"
        return f"drawn at random{only}{kind} from the bundled test pictures (seed {self.shuffle}){aimed}"

    def to_python(self, rows: tuple[int, ...]) -> str:
        """A script that repeats the walk on the pictures `rows` (those the model got right) in one batch."""
        script = self.one.to_python()
        first = next(line for line in script.splitlines() if line.startswith("x, y ="))
        lines = f"rows = {list(rows)}  # the pictures that the model gets right\nx, y = images.x[rows], images.y[rows]"
        script = script.replace(first, lines)
        if self.target is not None:
            aim = next(line for line in script.splitlines() if line.startswith("goal ="))
            name = self.classes[self.target]
            script = script.replace(aim, f"goal = Goal.targeted(torch.full_like(y, {self.target}))  # {name}")
        return script.replace("# outcome.x holds the attacked image", "# outcome.x holds the attacked images")


def _labels(name: str) -> np.ndarray:
    """(N,) of the bundled sample."""
    return raw(name, "test", "sample")[1].numpy()


def _shuffled(rows: np.ndarray, seed: int) -> tuple[int, ...]:
    return tuple(rows[torch.randperm(len(rows), generator=seeded(seed)).numpy()].tolist())


# What came of it


@dataclass(frozen=True)
class Tally:
    """A count of pictures: wrong before any attack, fooled by it, or neither (it holds)."""

    wrong: int
    fooled: int
    holds: int

    @property
    def n(self) -> int:
        return self.wrong + self.right

    @property
    def right(self) -> int:
        """Pictures that were classified right at first: those a share refers to."""
        return self.fooled + self.holds

    @property
    def share(self) -> float | None:
        """Of the pictures classified right at first, those that were fooled; None if there are none."""
        return self.fooled / self.right if self.right else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of the share."""
        return wilson(self.fooled, self.right) if self.right else None

    @classmethod
    def of(cls, right: np.ndarray, fooled: np.ndarray) -> Tally:
        """From (N,) bool: classified right before, and fooled afterwards."""
        hits = int((right & fooled).sum())
        return cls(int((~right).sum()), hits, int(right.sum()) - hits)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model made of N pictures."""

    predicted: np.ndarray  # (N,) class; of a stochastic model that of most fresh draws
    sure: np.ndarray  # (N,) probability of that class, from the mean logits over the draws
    margin: np.ndarray  # (N,) the true class's mean logit minus the largest other: below zero it is wrong

    @classmethod
    def of(cls, logits: np.ndarray, labels: np.ndarray, predicted: np.ndarray | None = None) -> Seen:
        """From mean logits (N,K)."""
        predicted = logits.argmax(1) if predicted is None else predicted
        p = np.exp(logits - logits.max(1, keepdims=True))
        at = np.arange(len(labels))
        others = logits.copy()
        others[at, labels] = -np.inf
        return cls(predicted, p[at, predicted] / p.sum(1), logits[at, labels] - others.max(1))


@dataclass(frozen=True, eq=False)
class Strip:
    """The pictures as they stand now, whole. A of the N are attacked: those that the model gets right."""

    request: ManyRequest
    rows: np.ndarray  # (N,) of the bundled sample
    labels: np.ndarray  # (N,)
    originals: np.ndarray  # (N,C,H,W) float32
    before: Seen  # of the originals
    right: np.ndarray  # (N,) bool, before anything is changed: the pictures that are attacked
    images: np.ndarray  # (N,C,H,W) float32, the best so far; those not attacked are the originals
    after: Seen  # of `images`: as the attack saw them, and in the end on fresh looks
    fooled: np.ndarray  # (N,) bool; likewise
    distance: np.ndarray  # (N,) float64 in the attack's norm
    shared: np.ndarray | None = field(default=None, kw_only=True)  # (C,H,W) the one change of all, if the attack looks for one
    curve: Mapping[str, np.ndarray]  # (T,A) after each step, best so far: "margin", "distance", "reached"
    planned: int  # steps the finished walk will have
    seconds: float  # of computing
    verdict: Verdict | None = None  # of the A attacked ones, in the end
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.conditions)

    @property
    def tally(self) -> Tally:
        return Tally.of(self.right, self.fooled)

    @property
    def states(self) -> list[str]:
        """(N,) "wrong" before any attack, "fooled" or "holds"."""
        return [
            "wrong" if not right else "fooled" if fooled else "holds"
            for right, fooled in zip(self.right, self.fooled, strict=True)
        ]

    @property
    def found(self) -> np.ndarray:
        """Distances of the fooled pictures, sorted."""
        return np.sort(self.distance[self.right & self.fooled])

    def change(self, row: int) -> np.ndarray:
        """(C,H,W) float32, what the attack did to this picture; raises InvalidValue if it did nothing."""
        at = np.flatnonzero(self.rows == row)
        if not len(at):
            raise InvalidValue(f"picture must be one of {', '.join(map(str, self.rows))}; got {row!r}.")
        change = self.images[at[0]] - self.originals[at[0]]
        if not change.any():
            raise InvalidValue(f"picture {row} was not changed, so there is nothing to put on others.")
        return change


def many_work(engine: Engine, request: ManyRequest, budget: Budget = MANY) -> Callable[[], Iterator[Strip | None]]:
    """What to give to `engine.submit`. Raises InvalidValue at once if the request asks for more than `budget`."""
    request.within(budget)
    return lambda: _timed(_Batch(engine, request))


class _Batch:
    """One walk over all pictures."""

    def __init__(self, engine: Engine, request: ManyRequest):
        self.engine, self.request, self.clock = engine, request, Clock()

    def work(self) -> Iterator[Strip | None]:
        engine, request = self.engine, self.request
        model = self.model = engine.model(request.model)
        rows, before = yield from self._pictures()
        x0, labels = _pixels(request.dataset, rows).to(engine.device), torch.from_numpy(_labels(request.dataset)[rows])
        logits = yield from _mean_logits(model, x0, seeded(derived_seed(request.seed, FIRST_LOOK)))
        right = classified_right(before, labels).numpy()
        seen = Seen.of(logits, labels.numpy(), before.predicted.numpy())
        originals = x0.cpu().numpy()
        strip = Strip(
            request=request,
            rows=np.array(rows),
            labels=labels.numpy(),
            originals=originals,
            before=seen,
            right=right,
            images=originals,
            after=seen,
            fooled=np.zeros(len(rows), bool),
            distance=np.zeros(len(rows)),
            curve={},
            planned=request.one.frames - 1,
            seconds=self.clock.seconds,
        )
        yield strip
        yield from self._walk(strip, x0, labels.to(engine.device))

    def _pictures(self) -> Generator[None, None, tuple[list[int], Verdict]]:
        """The rows, and the verdict on each untouched picture."""
        request, model = self.request, self.model
        rng = seeded(derived_seed(request.seed, FIRST_LOOK))
        pool = request.candidates if request.pick == "right" else request.candidates[: request.count]
        rows, verdicts = [], []
        for at in range(0, len(pool), AT_ONCE):
            some = list(pool[at : at + AT_ONCE])
            x, y = _pixels(request.dataset, some).to(model.device), torch.from_numpy(_labels(request.dataset)[some])
            verdict = verify(model, x, x, Goal.untargeted(y.to(model.device)), ANYWHERE, rng)
            kept = torch.ones(len(some), dtype=torch.bool)
            if request.pick == "right":
                kept = classified_right(verdict, y)
                kept &= kept.cumsum(0) <= request.count - len(rows)
            rows += [row for row, keep in zip(some, kept.tolist(), strict=True) if keep]
            verdicts.append(rows_of(verdict, kept))
            if len(rows) == request.count:
                return rows, joined(verdicts)
            yield None
        raise InvalidValue(
            f"{request.model} gets only {len(rows)} of these {len(pool)} pictures right; {request.count} were asked for."
        )

    def _walk(self, strip: Strip, x0: Tensor, labels: Tensor) -> Iterator[Strip | None]:
        request, model = self.request, self.model
        attacked = np.flatnonzero(strip.right)
        if not len(attacked):
            yield dataclasses.replace(strip, conditions=self._conditions(strip, None), seconds=self.clock.seconds)
            return
        keep = torch.from_numpy(attacked).to(x0.device)
        x0, labels = x0[keep], labels[keep]
        goal = Goal.untargeted(labels) if request.target is None else Goal.targeted(labels * 0 + request.target)
        recording = Recording(request.is_minimal, model.stochastic, request.one.frames)
        for step in request.one.method.walk(model, x0, goal, request.one.ball, seeded(request.seed)):
            recording.add(step, labels)
            yield self._so_far(strip, attacked, recording)
        best = recording.best.outcome()
        rng = seeded(derived_seed(request.seed, LAST_WORD))
        verdict = yield from _verdicts(model, best.x, x0, goal, request.one.ball, rng)
        logits = yield from _mean_logits(model, best.x, rng)
        strip = self._so_far(strip, attacked, recording)
        # An image that is wrong but outside the ball has not been fooled; without a target, neither is a tied vote.
        won = verdict.reached if request.target is not None else ~classified_right(verdict, labels)
        yield dataclasses.replace(
            strip,
            fooled=into(strip.fooled, attacked, (won & verdict.inside).numpy()),
            after=_merged(strip.before, attacked, Seen.of(logits, strip.labels[attacked], verdict.predicted.numpy())),
            distance=into(strip.distance, attacked, (verdict.l2 if request.norm == "l2" else verdict.linf).numpy()),
            planned=len(recording.rows),
            verdict=verdict,
            conditions=self._conditions(strip, recording) | {"verdict_draws": verdict.draws},
            seconds=self.clock.seconds,
        )

    def _so_far(self, strip: Strip, attacked: np.ndarray, recording: Recording) -> Strip:
        best = recording.best
        seen = Seen.of(recording.logits.float().cpu().numpy(), strip.labels[attacked])
        return dataclasses.replace(
            strip,
            images=into(strip.originals, attacked, best.x.float().cpu().numpy()),
            after=_merged(strip.before, attacked, seen),
            fooled=into(strip.fooled, attacked, recording.reached.cpu().numpy()),
            distance=into(strip.distance, attacked, best.distance.cpu().numpy()),
            shared=None if best.shared is None else best.shared[0].float().cpu().numpy(),
            curve=recording.rows.arrays(),
            planned=best.last.total + 1,
            seconds=self.clock.seconds,
        )

    def _conditions(self, strip: Strip, recording: Recording | None) -> dict[str, Any]:
        request = self.request
        about = described(request.one)
        del about["image"]
        about |= {
            "weights": zoo.card(request.model).sha256,
            "stochastic": self.model.stochastic,
            "pictures": strip.rows.tolist(),
            "chosen": request.chosen_words(),
            "attacked": strip.rows[strip.right].tolist(),
            "verdict_draws": verdict_draws(self.model),
            "seconds": round(self.clock.seconds, 3),
            **made_on(self.engine.description),
        }
        if recording is not None:
            last = recording.best.last
            about["forwards"], about["backwards"] = int(last.forwards.sum()), int(last.backwards.sum())
            about["stalled_share"] = recording.best.degenerate_share
        return about


class Recording:
    """What is kept of a batch's walk: three numbers a picture and step, and one image a picture.

    The best point of an image is chosen by the rule of `Best`; on a stochastic model a step's own verdict is noise, so
    there the choice is left to the mean loss, as in `evaluation.robust_accuracy`.
    """

    def __init__(self, minimal: bool, stochastic: bool, planned: int):
        self.best, self.rows = Best(minimal), Rows(planned)
        self.by_loss = stochastic and not minimal
        self.logits: Tensor | None = None  # (A,K) at the best points
        self.reached: Tensor | None = None  # (A,) bool, there

    @property
    def nbytes(self) -> int:
        """All that is kept."""
        tensors = (self.best.x, self.best.distance, self.best.loss, self.best.success, self.logits, self.reached)
        return self.rows.nbytes + sum(t.nbytes for t in tensors if t is not None)

    def add(self, step: Step, labels: Tensor) -> None:
        """One more step; labels (A,) are the true classes. Raises FloatingPointError if logits are not finite."""
        if not bool(torch.isfinite(step.logits).all()):
            raise FloatingPointError(f"the logits of step {len(self.rows)} are not finite")
        ranked = dataclasses.replace(step, reached=torch.zeros_like(step.reached)) if self.by_loss else step
        better = self.best.add(ranked)
        if self.logits is None:
            self.logits, self.reached = step.logits.detach().clone(), step.reached.clone()
        else:
            self.logits[better], self.reached[better] = step.logits.detach()[better], step.reached[better]
        margin = -Goal.untargeted(labels).margin(self.logits)
        self.rows.add(
            {
                "margin": margin.float().cpu().numpy(),
                "distance": self.best.distance.double().cpu().numpy(),
                "reached": self.reached.cpu().numpy(),
            }
        )


# The change of one, put on others


@dataclass(frozen=True, eq=False)
class Applied:
    """A change put on pictures that it was not made for, so far; beside two baselines of the same size."""

    change: np.ndarray  # (C,H,W) float32, signed
    given: int | None  # the picture it was made on; None: on all of the strip
    norm: str
    size: float  # of the ball it was projected into
    n: int  # pictures in the end
    rows: np.ndarray  # (m,) of the bundled sample, m <= n
    labels: np.ndarray  # (m,)
    right: np.ndarray  # (m,) bool, before
    before: np.ndarray  # (m,) class the untouched picture is taken for
    after: Mapping[str, np.ndarray]  # by KINDS: (m,) class the changed one is taken for
    fooled: Mapping[str, np.ndarray]  # by KINDS: (m,) bool
    images: np.ndarray  # (m,C,H,W) float32 with the change on them
    seconds: float
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.conditions)

    def tally(self, kind: str) -> Tally:
        return Tally.of(self.right, self.fooled[kind])


def apply_work(
    engine: Engine, strip: Strip, given: int | None, n: int = OTHERS, seed: int = 0
) -> Callable[[], Iterator[Applied | None]]:
    """Work that puts a finished strip's change on up to `n` pictures that are not in it, and judges them.

    `given`: the picture whose change it is; None for an attack that made one change for all. Two baselines on the same
    pictures, in the same ball: uniform noise drawn anew for each picture, and the change itself with its pixels' places
    shuffled (it keeps every value and loses the pattern). Raises InvalidValue for an unfit picture or number.
    """
    request = strip.request
    n = as_whole("n", n, 1, OTHERS)
    seed = as_whole("seed", seed, 0, 2**31 - 1)
    if not strip.finished:
        raise InvalidValue("The attack has not ended yet: its change is not known.")
    change = strip.shared if given is None else strip.change(given)
    if change is None:
        raise InvalidValue("Each picture has a change of its own: say whose is to be put on others.")
    labels = _labels(request.dataset)
    fits = ~np.isin(np.arange(len(labels)), strip.rows)
    if request.target is not None:
        fits &= labels != request.target
    rows = _shuffled(np.flatnonzero(fits), derived_seed(seed, OTHER_PICTURES))[:n]
    return lambda: _timed(_Applying(engine, request, change, given, rows, seed))


class _Applying:
    """One change on many pictures, some at a time."""

    def __init__(
        self, engine: Engine, request: ManyRequest, change: np.ndarray, given: int | None, rows: tuple, seed: int
    ):
        self.engine, self.request, self.rows, self.given, self.seed = engine, request, rows, given, seed
        self.clock = Clock()
        self.change = torch.from_numpy(change)[None].to(engine.device)
        norm = request.norm
        own = float(Ball(norm, 1.0).distance(self.change, self.change * 0))
        self.ball = Ball(norm, max(own, EPS_LEAST)) if request.is_minimal else request.one.ball
        self.noise, self.places = (seeded(derived_seed(seed, stream)) for stream in (NOISE, SHUFFLING))

    def work(self) -> Iterator[Applied | None]:
        model = self.engine.model(self.request.model)
        rng = seeded(derived_seed(self.seed, LAST_WORD))
        parts: list[dict[str, np.ndarray]] = []
        for at in range(0, len(self.rows), AT_ONCE):
            part = yield from self._some(model, list(self.rows[at : at + AT_ONCE]), rng)
            parts.append(part)
            done = {name: np.concatenate([p[name] for p in parts]) for name in part}
            yield self._so_far(done, over=len(done["rows"]) == len(self.rows))

    def _some(
        self, model: Classifier, rows: list[int], rng: torch.Generator
    ) -> Generator[None, None, dict[str, np.ndarray]]:
        request = self.request
        x0 = _pixels(request.dataset, rows).to(model.device)
        y = torch.from_numpy(_labels(request.dataset)[rows])
        truth = Goal.untargeted(y.to(model.device))
        goal = truth if request.target is None else Goal.targeted(truth.labels * 0 + request.target)
        before = verify(model, x0, x0, truth, ANYWHERE, rng)
        found = {"rows": np.array(rows), "labels": y.numpy(), "before": before.predicted.numpy()}
        found["right"] = classified_right(before, y).numpy()
        region = self.ball.around(x0)
        for kind in KINDS:
            yield None
            x = region.sample(self.noise) if kind == "noise" else applied(x0, self._laid(kind, len(rows)), self.ball)
            verdict = verify(model, x, x0, goal, self.ball, rng)
            won = verdict.reached if request.target is not None else ~classified_right(verdict, y)
            found[f"fooled {kind}"] = (won & verdict.inside).numpy()
            found[f"after {kind}"] = verdict.predicted.numpy()
            if kind == "change":
                found["images"] = x.cpu().numpy()
        return found

    def _laid(self, kind: str, n: int) -> Tensor:
        """The change (1,C,H,W), or (n,C,H,W) with its pixels in other places, channels kept together."""
        if kind == "change":
            return self.change
        flat = self.change[0].flatten(1)  # (C, H*W)
        shuffled = [flat[:, torch.randperm(flat.shape[1], generator=self.places).to(flat.device)] for _ in range(n)]
        return torch.stack(shuffled).view(n, *self.change.shape[1:])

    def _so_far(self, done: dict[str, np.ndarray], over: bool) -> Applied:
        conditions = {}
        if over:
            conditions = described(self.request.one) | {
                "image": self.given,
                "applied_to": len(self.rows),
                "applied_seed": self.seed,
                "applied_norm": self.ball.norm,
                "applied_size": self.ball.eps,
                "others_chosen": f"drawn at random from the bundled test pictures outside the strip (seed {self.seed})",
                "seconds": round(self.clock.seconds, 3),
                **made_on(self.engine.description),
            }
        return Applied(
            change=self.change[0].cpu().numpy(),
            given=self.given,
            norm=self.ball.norm,
            size=self.ball.eps,
            n=len(self.rows),
            after={kind: done[f"after {kind}"] for kind in KINDS},
            fooled={kind: done[f"fooled {kind}"] for kind in KINDS},
            seconds=self.clock.seconds,
            conditions=conditions,
            **{name: done[name] for name in ("rows", "labels", "right", "before", "images")},
        )


# Helpers


def _timed(job: _Batch | _Applying) -> Iterator[Any]:
    """The job's items; its clock stands while others have their turn."""
    work = job.work()
    try:
        for item in work:
            yield job.clock.stopped(item)
            job.clock.go()
    finally:
        work.close()


def _pixels(name: str, rows: list[int]) -> Tensor:
    """(N,C,H,W) float32 of the bundled sample."""
    return raw(name, "test", "sample")[0][rows].float() / 255


def _verdicts(
    model: Classifier, x: Tensor, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator
) -> Generator[None, None, Verdict]:
    """The verdict on all images, some at a time."""
    parts = []
    for at in range(0, len(x), AT_ONCE):
        some = torch.arange(at, min(at + AT_ONCE, len(x)), device=x.device)
        parts.append(verify(model, x[some], x0[some], goal.rows(some), ball, rng))
        yield None
    return joined(parts)


def _mean_logits(model: Classifier, x: Tensor, rng: torch.Generator) -> Generator[None, None, np.ndarray]:
    """(N,K) float32, over as many fresh draws as a verdict takes."""
    means = []
    for some in x.split(AT_ONCE):
        means.append(torch.cat(list(draw_logits(model, some, rng, verdict_draws(model)))).mean(0))
        yield None
    return torch.cat(means).cpu().numpy()


def _tensors(verdict: Verdict) -> dict[str, Tensor]:
    return {name: value for name, value in vars(verdict).items() if isinstance(value, Tensor)}


def rows_of(verdict: Verdict, keep: Tensor) -> Verdict:
    return dataclasses.replace(verdict, **{name: value[keep] for name, value in _tensors(verdict).items()})


def joined(parts: list[Verdict]) -> Verdict:
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in _tensors(parts[0])}
    return dataclasses.replace(parts[0], **whole)


def into(whole: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy of `whole` with `values` at the rows `at`."""
    whole = whole.copy()
    whole[at] = values
    return whole


def _merged(whole: Seen, at: np.ndarray, part: Seen) -> Seen:
    values = {name: into(getattr(whole, name), at, getattr(part, name)) for name in ("predicted", "sure", "margin")}
    return Seen(**values)
