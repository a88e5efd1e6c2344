"""Measure a model over many test images; each number comes with its 95 % interval and its conditions.

  python -m explorer evaluate cifar10/pgd-linf
  python -m explorer evaluate cifar10/pgd-linf --attack pgd --norm l2 --eps 0.5 --set steps=50 --n 500
  python -m explorer evaluate cifar10/lwta --attack pgd --craft-on cifar10/baseline
  python -m explorer evaluate cifar10/pgd-linf --clean
  python -m explorer evaluate cifar10/lwta --adaptive --twin cifar10/relu-twin --n 200
  python -m explorer evaluate cifar10/tla --detection
  python -m explorer evaluate cifar10/pgd-linf --reports-settings --write
  python -m explorer evaluate --reports

Without --attack or --clean it makes the standard measures that a model's card holds. An image counts as robust if it is
classified right and the attack does not change that; for an attack that looks for the smallest change, if that change is
longer than eps.

With --reports it measures nothing: it prints the tables of reports and papers beside what the cards hold.

On several devices or computers, with the same result: whole batches are shared out.

  python -m torch.distributed.run --nproc_per_node 2 -m -- explorer evaluate cifar10/pgd-linf
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from explorer.attacks import ATTACKS
from explorer.cli._console import EPS, Console, images_of, interval, percent, settings, whole, write_card
from explorer.core import Ball, InvalidValue, parse_number
from explorer.core.ranks import start
from explorer.engine import choose, eps_text
from explorer.evaluation import (
    DetectionMeasure,
    Measure,
    adaptive_measures,
    clean_accuracy,
    detection_measures,
    reports,
    robust_accuracy,
    standard_measures,
)
from explorer.evaluation.boundary import BoundaryMeasure
from explorer.evaluation.detection import FALSE_ALARMS
from explorer.evaluation.reports import settings_measures
from explorer.evaluation.robustness import BATCH
from explorer.evaluation.tables import value
from explorer.features.measures import DETECTORS
from explorer.models import zoo

MOST = 10_000  # images of a test set


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="which model; `python -m explorer models` lists them")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--standard", action="store_true", help="the standard measures (the default)")
    what.add_argument(
        "--clean", action="store_true", help="clean accuracy alone, on all test images unless --n is given"
    )
    what.add_argument(
        "--adaptive", action="store_true", help="what a stochastic model must stand before it is called robust"
    )
    what.add_argument(
        "--detection", action="store_true", help="can attacked images be told from clean ones by their features?"
    )
    what.add_argument(
        "--reports-settings",
        action="store_true",
        help="what the reports' tables ask of this model; with --write, what its card lacks",
    )
    what.add_argument(
        "--reports", action="store_true", help="without a model: the reports' tables beside what the cards hold"
    )
    what.add_argument("--attack", help="one attack; `python -m explorer attack --list` shows them")
    parser.add_argument("--norm", help="of the attack: linf or l2 (default: linf, where the attack has it)")
    parser.add_argument(
        "--eps", help=f"of the attack, in pixel units (default: {EPS['linf']} for linf, {EPS['l2']} for l2)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a hyper-parameter of the attack"
    )
    parser.add_argument("--craft-on", metavar="MODEL", help="with --attack: make the images on that model (transfer)")
    parser.add_argument(
        "--twin", action="append", default=[], metavar="MODEL",
        help="with --adaptive: also make the images on this deterministic model (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--n", help="how many test images an attack gets (default: 1000; 200 with --adaptive, 500 with --detection)"
    )
    parser.add_argument(
        "--batch", default=str(BATCH), help="images at once (default: %(default)s); draws depend on it, too"
    )
    parser.add_argument("--seed", default="0", help="of every draw (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32",
        help="of the attack; the verdict is always in float32 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="put the measures into the model's card")
    parser.add_argument("--markdown", action="store_true", help="with --reports: as a page of Markdown")


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.reports:
        return _reports(options, console)
    if options.name is None or options.markdown:
        raise InvalidValue(
            "--markdown belongs to --reports." if options.name else "evaluate needs a model's name, or --reports."
        )
    card, device = zoo.card(options.name), choose(options.device)
    seed, bf16 = whole("seed", options.seed, 0, 2**53 - 1), options.precision == "bfloat16"
    if options.attack is None and options.craft_on:
        raise InvalidValue("--craft-on belongs to --attack, which is missing.")
    if options.attack is None and not options.detection and (options.set or options.eps or options.norm):
        raise InvalidValue("--set, --eps and --norm belong to --attack or --detection, which is missing.")
    if options.detection and bf16:
        raise InvalidValue("precision must be float32 with --detection; got 'bfloat16'.")
    if options.twin and not options.adaptive:
        raise InvalidValue("--twin belongs to --adaptive, which is missing.")
    n = None if options.n is None else whole("n", options.n, 1, MOST)
    shared = {"seed": seed, "batch": whole("batch", options.batch, 1, MOST)}
    with start(device) as ranks:
        shared["ranks"] = ranks
        if options.clean:
            work = _clean(card, device, n, shared)
        elif options.attack is not None:
            work = _attacked(card, device, n or 1000, shared | {"bf16": bf16}, options)
        elif options.adaptive:
            asked = {"n": n or 200, "bf16": bf16, "twins": options.twin, **shared}
            work = partial(adaptive_measures, card.name, device=device, **asked)
        elif options.reports_settings:
            few = {"n": n} if n or card.dataset == "fashion_mnist" else {}
            asked = {"bf16": bf16, "held": card if options.write else None, **shared, **few}
            work = partial(settings_measures, card.name, device=device, **asked)
        elif options.detection:
            norm = options.norm or "linf"
            asked = {
                "attack": ATTACKS["pgd"].from_dict(settings(options.set)),
                "ball": Ball(norm, eps_of(norm, options.eps)),
            }
            work = partial(detection_measures, card.name, device=device, n=n or 500, **asked, **shared)
        else:
            asked = {"bf16": bf16, **shared} | ({} if n is None else {"n": n, "averaged_n": min(n, 500)})
            work = partial(standard_measures, card.name, device=device, **asked)
        return _measured(card, work, options.write, console)


def _reports(options: argparse.Namespace, console: Console) -> Any:
    if options.name is not None:
        raise InvalidValue(
            f"--reports is about all models; got {options.name!r} besides. (--reports-settings measures one.)"
        )
    found = reports.result(zoo.cards())
    if options.markdown:
        console.say(reports.markdown(found))
        return found
    for table in found:
        console.say(f"{table['title']}\n{table['what']}. {table['conditions']}")
        console.table(reports.HEAD, [cells for row in table["rows"] for cells in reports.lines(row)])
        console.say("".join(f"{note}\n" for note in table["notes"]))
    return found


Show = Callable[[str, int, int], None]
Work = Callable[..., Iterator[Measure | DetectionMeasure | BoundaryMeasure]]  # of progress=


def _measured(card: zoo.Card, work: Work, write: bool, console: Console) -> Any:
    found = []
    console.say(f"{card.name}: {card.title}")
    with console.bar(0, "images") as bar:

        def show(label: str, done: int, total: int) -> None:
            bar.set_description_str(label, refresh=False)
            bar.total = total
            bar.update(done - bar.n)

        for measure in work(progress=show):
            bar.clear()
            bar.n = 0
            console.say(sentence(measure))
            found.append(measure)
            if write:  # at once: the next may take an hour
                write_card(card.name, [measure], console)
    return {"model": card.name, "weights": card.sha256, "measures": [measure.to_dict() for measure in found]}


def _clean(card: zoo.Card, device: Any, n: int | None, shared: dict[str, Any]) -> Work:
    images, chosen = images_of(card.dataset, n)
    model = zoo.load(card.name, device)

    def work(progress: Show) -> Iterator[Measure]:
        yield clean_accuracy(model, images, chosen=chosen, progress=partial(progress, "clean"), **shared)

    return work


def _attacked(card: zoo.Card, device: Any, n: int, shared: dict[str, Any], options: argparse.Namespace) -> Work:
    attack = ATTACKS[options.attack].from_dict(settings(options.set))
    norm = options.norm or attack.norms[0]
    ball = Ball(norm, eps_of(norm, options.eps))
    attack.check_threat(ball)
    source = {}
    if options.craft_on is not None:
        if zoo.card(options.craft_on).dataset != card.dataset:
            raise InvalidValue(f"{options.craft_on} was made for other images than {card.name}.")
        source = {"craft_on": zoo.load(options.craft_on, device), "source_model": options.craft_on}
    images, chosen = images_of(card.dataset, n)
    model = zoo.load(card.name, device)

    def work(progress: Show) -> Iterator[Measure]:
        yield robust_accuracy(
            model, images, attack, ball, chosen=chosen, progress=partial(progress, options.attack), **source, **shared
        )

    return work


def eps_of(norm: str, text: str | None) -> float:
    """The eps asked for, or the norm's usual one; raises InvalidValue for what is no number."""
    text = EPS.get(norm, "0.5") if text is None else text  # an unknown norm is Ball's to refuse
    try:
        return parse_number(text)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InvalidValue(f'eps must be a number or a fraction such as "8/255"; got {text!r}.') from error


def distance_text(norm: str, distance: float) -> str:
    """ "3.21/255" in Linf, "0.312" in L2."""
    return f"{255 * distance:.3g}/255" if norm == "linf" else f"{distance:.3g}"


def sentence(measure: Measure | DetectionMeasure | BoundaryMeasure) -> str:
    """One line: the number, its interval, and under which conditions it holds."""
    if isinstance(measure, BoundaryMeasure):
        return _boundary_sentence(measure)
    if isinstance(measure, DetectionMeasure):
        return _detection_sentence(measure)
    facts = measure.to_dict()
    what = measure.kind
    if measure.attack is not None:
        hyper = ", ".join(f"{name}={value}" for name, value in measure.hyper.items())
        made = "".join(f", made on {where}" for where in (measure.source_model, measure.variant) if where)
        what = f"{measure.kind} {measure.attack} ({hyper}), {measure.norm} {eps_text(measure.eps)}{made}"
    if measure.kind == "noisy":
        what = f"under Gaussian noise of sigma {measure.sigma:g}"
    extra = [f"seed {measure.seed}", measure.precision, f"{measure.chosen}, {measure.data}", _time(measure)]
    if measure.accuracy_8bit is not None:
        extra.insert(0, f"{percent(measure.accuracy_8bit)} when rounded to 8 bits")
    if measure.zero_gradient_share is not None:
        extra.insert(-4, f"{percent(measure.zero_gradient_share)} zero gradients")
    if measure.median_distance is not None:
        extra.insert(0, f"median distance {distance_text(measure.norm, measure.median_distance)}")
    if measure.note:
        extra.append(measure.note)
    return f"{interval(facts)}  n={measure.n:,}  {what}; {'; '.join(extra)}"


def _time(measure: Measure) -> str:
    """What it took, and what an image costs."""
    return f"{measure.seconds:.0f} s, {measure.seconds / measure.n:.2g} s an image"


def _boundary_sentence(found: BoundaryMeasure) -> str:
    hyper = ", ".join(f"{name}={value}" for name, value in found.hyper.items())
    made = "".join(
        f", {what}" for what in (found.source_model and f"made on {found.source_model}", found.variant) if what
    )
    parts = [f"{percent(found.changed)} changed class", f"{found.chosen}, {found.data}", f"{found.seconds:.0f} s"]
    return f"{value(found.to_dict())}  n={found.n:,}  deepfool ({hyper}), l2{made}; {'; '.join(parts)}"


def _detection_sentence(found: DetectionMeasure) -> str:
    hyper = ", ".join(f"{name}={value}" for name, value in found.hyper.items())
    parts = [
        f"{percent(found.caught)} caught at {FALSE_ALARMS:.0%} false alarms",
        f"{found.n:,} images that fool the model against {found.clean:,} clean ones; fitted to {found.reference:,} others",
        f"seed {found.seed}", found.precision, f"{found.chosen}, {found.data}", f"{found.seconds:.0f} s", found.note,
    ]  # fmt: skip
    title = DETECTORS[found.detector].title
    return f"{value(found.to_dict())}  {title}; {found.attack} ({hyper}), {found.norm} {eps_text(found.eps)}; {'; '.join(parts)}"
