"""Training as a run's work: train by the recipe, export, measure, and publish the model in the zoo."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.core.files import write_atomically
from explorer.jobs import environment
from explorer.jobs.run_process import RunProcess, lower_priority

if TYPE_CHECKING:
    import torch

    from explorer.defenses.recipe import Recipe
    from explorer.models.zoo import Card
    from explorer.training import Progress, Result

MEASURED_IMAGES = {"cpu": 100, "mps": 200, "cuda": 1000}  # of the test set, under attack when a run ends, by device
SMOKE_MEASURED_IMAGES = 10
LOG = logging.getLogger("explorer.jobs")


def train(
    process: RunProcess,
    target: Path | None = None,
    name: str | None = None,
    show: Callable[[Progress], None] | None = None,
    command: str | None = None,
    in_background: bool = False,
) -> tuple[Card | None, Result]:
    """Train, export to `target` (default: the run's export folder) as `name`; in a store also measure and publish.

    `show` gets the training's progress, `command` goes into the card. `in_background`: people in front of the app come
    first, once the run is under way. Returns the card (None on all processes but the first) and the training's result.
    Raises what ends the run.
    """
    import torch

    run = process.run
    recipe = run.spec.build()
    facts = environment.settle(run)
    if process.is_first:
        process.retry_when_full(lambda: environment.record(run, facts))
    threads = torch.get_num_threads()
    torch.set_num_threads(facts["threads"])
    try:
        result = _trained(process, recipe, facts, ProgressReport(process, show, in_background))
        if not process.is_first:
            return None, result
        name, target = name or run.spec.model_name(run.id), target or run.folder / "export" / recipe.dataset
        card = _stored(process, recipe, facts, result, name, target, command)
    finally:
        torch.set_num_threads(threads)  # a terminal's process has a life afterwards
    kept = kept_epoch(result, recipe)
    process.finish(message=kept, model=name)
    LOG.info("finished: %s", kept)
    return card, result


def _trained(process: RunProcess, recipe: Recipe, facts: dict[str, Any], report: ProgressReport) -> Result:
    import torch

    from explorer.core import ranks
    from explorer.training import train as run_training

    spec, device = process.run.spec, torch.device(facts["device"])
    process.tell("Reads the training images.")
    options = {} if spec.every is None else {"every": spec.every}
    with ranks.start(device):
        return run_training(
            recipe, process.run.folder, device=device, limit=spec.limit, bf16=facts["precision"] == "bfloat16",
            progress=report, should_stop=process.stop.is_set, on_full=process.wait_for_room,
            say=lambda text: LOG.info("%s", text), **options,
        )  # fmt: skip


def _stored(
    process: RunProcess,
    recipe: Recipe,
    facts: dict[str, Any],
    result: Result,
    name: str,
    target: Path,
    command: str | None,
) -> Card:
    """The card of the model that was exported; in a store it is measured, and published, too."""
    import torch

    from explorer.models import zoo
    from explorer.training.export import export

    run, spec = process.run, process.run.spec
    process.tell("Stores the model.")
    card = process.retry_when_full(lambda: export(
        result, recipe, spec.recipe, name, target, hardware=facts["hardware"], threads=facts["threads"],
        precision=environment.PRECISION_WORDS[facts["precision"]], command=command, title=spec.title, summary=spec.summary,
    ))  # fmt: skip
    if run.store is not None:
        folder = run.store.zoo / recipe.dataset
        with zoo.with_extra_root(target.parent):
            measure(process, name, torch.device(facts["device"]))
        process.retry_when_full(lambda: publish(target, folder, card))
    return card


def measure(process: RunProcess, name: str, device: torch.device) -> None:
    """The card's standard measures, on few images where they take long. Raises Cancelled."""
    from explorer.evaluation import standard_measures, write_measures

    n = SMOKE_MEASURED_IMAGES if process.run.spec.smoke else MEASURED_IMAGES[device.type]
    few = n < 1000  # then also: no transfer from all the other models, and no attacks that take minutes

    def show(label: str, done: int, total: int) -> None:
        process.tell(f"Measures {label}: {done:,} of {total:,} images.")

    for found in standard_measures(
        name, device=device, n=n, averaged_n=n // 2, clean_n=10 * n if few else None,
        transfer_from=[] if few else None, thorough=not few, progress=show, should_stop=process.stop.is_set,
    ):  # fmt: skip
        process.retry_when_full(partial(write_measures, name, [found]))


def publish(source: Path, target: Path, card: Card) -> None:
    """Copy the model into the zoo, its card last: whoever finds the card finds all."""
    from explorer.models import zoo

    about = source / f"{card.name.split('/')[-1]}.json"
    for path in (source / card.file, zoo.features_path(about), about):
        if path.is_file():
            write_atomically(target / path.name, path.read_bytes())


class ProgressReport:
    """What the training tells after every update and epoch: for the heartbeat, the log and a terminal."""

    def __init__(
        self, process: RunProcess, show: Callable[[Progress], None] | None = None, in_background: bool = False
    ):
        self.process, self.show, self.in_background = process, show, in_background
        self._began: tuple[int, float] | None = None  # updates done before, and when

    def __call__(self, now: Progress) -> None:
        self.process.go_on()
        moment = time.monotonic()
        if self._began is None:
            self._began = (now.update - 1, moment)
            if self.in_background:
                lower_priority()
        done, began = now.update - self._began[0], self._began[1]
        left = (moment - began) / max(done, 1) * (now.updates - now.update)
        facts = {
            "update": now.update,
            "updates": now.updates,
            "epoch": now.epoch,
            "epochs": now.epochs,
            "left": round(left, 1),
        }
        self.process.progress = {**facts, "message": f"Trains: epoch {now.epoch + 1} of {now.epochs}."}
        if now.held_out is not None:
            scores = ", ".join(f"{key} {100 * value:.1f} %" for key, value in now.held_out.items() if key != "score")
            LOG.info("Epoch %d of %d: loss %.3f; held out: %s", now.epoch + 1, now.epochs, now.loss, scores)
        if self.show is not None:
            self.show(now)


def kept_epoch(result: Result, recipe: Recipe) -> str:
    """In a sentence, which epoch's model was kept and what it scored; before it what the recipe has to remark."""
    best = result.history[result.best_epoch - 1]
    scores = ", ".join(
        f"{key} {100 * best[key]:.1f} % of {counted(result.held_out, key in recipe.half):,}"
        for key in ("clean", "robust", "noisy", "certified")
        if key in best
    )
    kept = f"Kept epoch {result.best_epoch} of {recipe.epochs}: {scores} held-out images."
    return f"{result.warning} {kept}" if result.warning else kept


def counted(held_out: int | None, half: bool) -> int | None:
    """Images a measure was made on: all held-out ones, or the first half."""
    return held_out and (max(held_out // 2, 1) if half else held_out)
