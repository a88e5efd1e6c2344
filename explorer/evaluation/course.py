""" "As the platform did" beside "as the field does": a course's published test of a submission, and ours, with intervals.

The course's template (github.com/MikailINTech/adversarial-networks, test_project.py, and five copies) tests on the first 1,024
*training* images, passes each batch `-s` times through a random network, and sets its counts to 0 inside the loop, so that
what it prints is the last batch's. That the platform did so too is likely, not known.

differs: the template holds the natural test alone; how the platform attacked was not published. Both columns use PGD with 20
steps of eps / 8 at Linf 0.03 and L2 0.5. The template leaves the network's mode to `load_for_testing`; here it is always
evaluation mode. Its batches come in random order; the last one here is that of the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from explorer.attacks.pgd import PGD
from explorer.core import Ball, Classifier, DataUnavailable, Goal, InvalidValue, run, seeded, use_generator, wilson
from explorer.core.files import sha256_of
from explorer.data import Images, dataset, load
from explorer.data.loading import as_needed, files_of
from explorer.evaluation.robustness import clean_accuracy, robust_accuracy
from explorer.models import zoo

N = 1024  # images of either test
PLATFORM_BATCH = 32  # the template's
AT_ONCE = 256
DRAWS = 10  # of a random network, averaged in each step of our attack
TESTS: tuple[tuple[str, Ball | None], ...] = (
    ("natural", None),
    ("PGD Linf 0.03", Ball("linf", 0.03)),
    ("PGD L2 0.5", Ball("l2", 0.5)),
)
Progress = Callable[[str], None]  # is told what is being measured, image by image


@dataclass(frozen=True)
class Share:
    """A number with its 95 % Wilson interval."""

    correct: int
    n: int

    @property
    def facts(self) -> dict[str, Any]:
        low, high = wilson(self.correct, self.n)
        return {"accuracy": self.correct / self.n, "low": low, "high": high, "n": self.n}


@dataclass(frozen=True)
class CourseRow:
    """One test: as the platform did (None without training images), its last batch alone, and as the field does."""

    test: str
    platform: Share | None
    last_batch: Share | None
    field: Share


@dataclass(frozen=True)
class CourseReport:
    """Both protocols' numbers of one model, and in sentences what they stand on and why they differ."""

    model: str
    rows: tuple[CourseRow, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        def facts(share: Share | None) -> dict[str, Any] | None:
            return None if share is None else share.facts

        rows = [
            {"test": r.test, "platform": facts(r.platform), "last_batch": facts(r.last_batch), "field": facts(r.field)}
            for r in self.rows
        ]
        return {"model": self.model, "rows": rows, "notes": list(self.notes)}


def course_report(
    name: str, *, samples: int = 1, n: int = N, seed: int = 0, progress: Progress | None = None
) -> CourseReport:
    """Both tests of the zoo's model `name`; `samples`: passes an image in the platform's, for random networks (its -s).

    Raises InvalidValue, UnknownName and BadCheckpoint. Without training images the platform's column is empty, and says so.
    """
    if not 1 <= samples <= 1000:
        raise InvalidValue(f"samples must be a whole number in [1, 1000]; got {samples!r}.")
    card, say = zoo.card(name), progress or (lambda what: None)
    say("Loading the model and the images")
    model = zoo.load(name)
    ours = load(card.dataset, n=n)
    notes = []
    try:
        theirs: Images | None = first_training_images(card.dataset, n)
        notes.append(_provenance(card.dataset, n))
    except DataUnavailable as error:
        theirs = None
        notes.append(f"As the platform did: not measured. {error}")
    rows = []
    for test, ball in TESTS:
        tell = partial(_tell, say, test)
        right = (
            None if theirs is None else _as_the_platform(model, theirs, ball, samples, seed, partial(tell, "platform"))
        )
        platform = None if right is None else Share(int(right.sum()), right.numel())
        last = (
            None if right is None else Share(int(right[:, -PLATFORM_BATCH:].sum()), right[:, -PLATFORM_BATCH:].numel())
        )
        rows.append(CourseRow(test, platform, last, _as_the_field(model, ours, ball, seed, partial(tell, "field"))))
    return CourseReport(name, tuple(rows), (*notes, *_why(ours, model, samples)))


def _tell(say: Progress, test: str, who: str, done: int, of: int) -> None:
    say(f"{test}, as the {who} {'did' if who == 'platform' else 'does'}: {done:,} of {of:,} images")


def first_training_images(name: str, n: int) -> Images:
    """What the course's platform tested on. Raises DataUnavailable where there are no training images."""
    spec, rows = dataset(name), torch.arange(n)
    with as_needed(name, "train") as (pixels, labels):  # decodes these rows alone
        x, y = pixels[rows].to(torch.float32) / 255, labels[:n].clone()
    return Images(x, y, spec.classes, name, "train", rows, "full train set")


def _provenance(name: str, n: int) -> str:
    layout, files = files_of(name, "train")
    digest = sha256_of(files[0])
    where = f"the first {n:,} training images of {files[0].name}, sha256 {digest[:16]}..."
    if layout == "torchvision":
        return f"As the platform did: {where}, the original archive's order."
    return (
        f"As the platform did: {where}; this copy ({layout}) is shuffled, so they are not the original archive's first."
    )


def _as_the_platform(
    model: Classifier, images: Images, ball: Ball | None, samples: int, seed: int, tell: Callable[[int, int], None]
) -> Tensor:
    """(samples,N) bool: right in each pass, every pass counted."""
    rng, found, done = seeded(seed), [], 0
    for x, y in zip(images.x.split(AT_ONCE), images.y.split(AT_ONCE), strict=True):
        if ball is not None:
            goal = Goal.untargeted(y)
            x = run(PGD().walk(model, x, goal, ball, rng), goal).x
        with torch.no_grad(), use_generator(rng):
            found.append(torch.stack([model(x).argmax(1) == y for _ in range(samples)]))
        done += len(x)
        tell(done, len(images))
    return torch.cat(found, 1)


def _as_the_field(
    model: Classifier, images: Images, ball: Ball | None, seed: int, tell: Callable[[int, int], None]
) -> Share:
    if ball is None:
        measure = clean_accuracy(model, images, seed=seed, progress=tell)
    else:
        attack = PGD(draws=DRAWS if model.stochastic else 1)
        measure = robust_accuracy(model, images, attack, ball, seed=seed, progress=tell)
    return Share(measure.correct, measure.n)


def _why(ours: Images, model: Classifier, samples: int) -> list[str]:
    said = [
        f"As the field does: {len(ours):,} images of {ours.source}, which the network has not seen.",
        "They differ because the platform's images are training images: what was learnt by heart counts there.",
        f"The published test loop prints its last batch only, here of {PLATFORM_BATCH} images: its interval says what that is worth.",
    ]
    if model.stochastic:
        said.append(
            f"It draws at random: the platform counts each of {samples} passes, ours the majority of 20 fresh draws, and our "
            f"attack averages its gradient over {DRAWS} draws."
        )
    if model.stochastic and samples > 1:
        said.append("The platform's intervals take an image's passes for independent ones, so they are too narrow.")
    return said
