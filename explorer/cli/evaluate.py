"""Measure a model over many test images; each number comes with its 95 % interval and its conditions.

  python -m explorer evaluate cifar10/pgd-linf
  python -m explorer evaluate cifar10/pgd-linf --attack pgd --norm l2 --eps 0.5 --set steps=50 --n 500
  python -m explorer evaluate cifar10/lwta --attack pgd --craft-on cifar10/baseline
  python -m explorer evaluate cifar10/pgd-linf --attack pgd,apgd-ce --eps 4/255,8/255 --background
  python -m explorer evaluate cifar10/pgd-linf --clean
  python -m explorer evaluate cifar10/lwta --adaptive --twin cifar10/relu-twin --n 200
  python -m explorer evaluate cifar10/pgd-linf --masking
  python -m explorer evaluate cifar10/tla --detection
  python -m explorer evaluate fashion_mnist/deep-defense --roc --craft-on fashion_mnist/fashion-mlp --background
  python -m explorer evaluate fashion_mnist/metric-robust --retrieval --eps 0.05
  python -m explorer evaluate fashion_mnist/pursuit --inference 0,2,4,8 --twin fashion_mnist/pursuit-feedforward
  python -m explorer evaluate cifar10/trades --corruptions --n 500
  python -m explorer evaluate cifar10/pgd-linf --reports-settings --write
  python -m explorer evaluate --reports
  python -m explorer evaluate cifar10/group-a --course -s 20

Without --attack or --clean it makes the standard measures that a model's card holds. An image counts as robust if it is
classified right and the attack does not change that; for an attack that looks for the smallest change, if that change is
longer than eps.

With --background it is a run of its own, of clean accuracy and of the attacks and values of eps that are named (several,
separated by commas), or of --adaptive: `jobs` lists, cancels and resumes it, and `jobs show ID` prints its table.

With --masking it asks whether an attack that fails here says anything, by checks that each name a picture which shows what they
found; with --background, too, it is a run.

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
from explorer.cli import _inference, _masking
from explorer.cli._background import background_arguments, check_foreground, evaluate_in_background
from explorer.cli._console import EPS, Console, eps_of, images_of, percent, settings, whole, write_card
from explorer.core import Ball, InvalidValue
from explorer.core.ball import Norm
from explorer.core.precision import PRECISIONS
from explorer.core.ranks import start
from explorer.data import dataset
from explorer.engine import choose, eps_text
from explorer.engine.rounding import size
from explorer.evaluation import (
    DetectionMeasure,
    Measure,
    adaptive_measures,
    clean_accuracy,
    corrupted_accuracy,
    detection_measures,
    reports,
    robust_accuracy,
    standard_measures,
    tables,
)
from explorer.evaluation.boundary import BoundaryMeasure
from explorer.evaluation.course import N, course_report
from explorer.evaluation.detection import FALSE_ALARMS
from explorer.evaluation.reports import settings_measures
from explorer.evaluation.retrieval import retrieval_measures
from explorer.evaluation.robustness import BATCH
from explorer.evaluation.tables import CORRUPTED, in_percent, value
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
        "--masking",
        action="store_true",
        help="does it only hide its gradients? checks, each with a picture that shows it",
    )
    what.add_argument(
        "--detection", action="store_true", help="can attacked images be told from clean ones by their features?"
    )
    what.add_argument(
        "--retrieval",
        action="store_true",
        help="are an embedding's nearest neighbours still of the class, under attack?",
    )
    what.add_argument(
        "--roc", action="store_true", help="with --background: ROC curves of the classes, clean and attacked"
    )
    what.add_argument("--inference", metavar="STEPS", help="a pursuit network with so many inference steps: 0,4,8")
    what.add_argument(
        "--corruptions", action="store_true", help="the 15 common corruptions of CIFAR-10-C at 5 severities, as a table"
    )
    what.add_argument(
        "--reports-settings",
        action="store_true",
        help="what the reports' tables ask of this model; with --write, what its card lacks",
    )
    what.add_argument(
        "--reports", action="store_true", help="without a model: the reports' tables beside what the cards hold"
    )
    what.add_argument(
        "--course", action="store_true", help="as a course's platform did (training images), beside as the field does"
    )
    what.add_argument("--attack", help="one attack; `python -m explorer attack --list` shows them")
    parser.add_argument(
        "-s", "--samples", help="with --course: passes of each image through a random network (default: 1)"
    )
    parser.add_argument("--norm", help="of the attack: linf, l2, l1 or l0 (default: the attack's first, linf for most)")
    parser.add_argument(
        "--eps",
        help=f"of the attack, in pixel units (default: {EPS['linf']} for linf, {EPS['l2']} for l2, {EPS['l1']} for l1, "
        f"{EPS['l0']} pixels for l0)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a hyper-parameter of the attack"
    )
    parser.add_argument(
        "--craft-on", metavar="MODEL", help="with --attack or --roc: make the images on that model (transfer)"
    )
    parser.add_argument(
        "--twin", action="append", default=[], metavar="MODEL",
        help="with --adaptive, --inference or --masking: also make the images on this deterministic model (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--n", help="how many test images an attack gets (default: 1000; 200 with --adaptive, 500 with --detection)"
    )
    parser.add_argument(
        "--batch", default=str(BATCH), help="images at once (default: %(default)s); draws depend on it, too"
    )
    parser.add_argument("--seed", default="0", help="of every draw (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="auto",
        help="of an attack's gradients; verdicts are always in float32. auto: bfloat16 on 16 images and more, where the processor "
        "has it and the attack climbs as well (`bench precision`), and float32 with --write and --background",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="put the measures into the model's card")
    parser.add_argument("--markdown", action="store_true", help="with --reports: as a page of Markdown")
    background_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.masking:
        return _masking.run(options, console)
    if options.background:
        return evaluate_in_background(options, console)
    check_foreground(options)
    if options.roc:
        raise InvalidValue("--roc is a run in the background: say --background, too.")
    if options.reports:
        return _reports(options, console)
    if options.samples is not None and not options.course:
        raise InvalidValue("--samples belongs to --course, which is missing.")
    if options.course and options.name is not None:
        return _course(options, console)
    if options.name is None or options.markdown:
        raise InvalidValue(
            "--markdown belongs to --reports." if options.name else "evaluate needs a model's name, or --reports."
        )
    card, device = zoo.card(options.name), choose(options.device)
    seed = whole("seed", options.seed, 0, 2**53 - 1)
    precision = "float32" if options.write and options.precision == "auto" else options.precision
    if options.attack is None and options.craft_on:
        raise InvalidValue("--craft-on belongs to --attack, which is missing.")
    of_features = options.detection or options.retrieval
    within = of_features or options.inference
    if options.attack is None and ((options.set and not of_features) or ((options.eps or options.norm) and not within)):
        raise InvalidValue("--set, --eps and --norm belong to --attack, --detection or --retrieval, which is missing.")
    if of_features and precision == "bfloat16":
        raise InvalidValue(
            f"precision must be float32 with --{'detection' if options.detection else 'retrieval'}; got 'bfloat16'."
        )
    if options.twin and not (options.adaptive or options.inference):
        raise InvalidValue("--twin belongs to --adaptive, which is missing.")
    n = None if options.n is None else whole("n", options.n, 1, MOST)
    there = dataset(card.dataset).rows["test"]
    shared: dict[str, Any] = {"seed": seed, "batch": whole("batch", options.batch, 1, MOST)}
    with start(device) as ranks:
        shared["ranks"] = ranks
        asked: dict[str, Any]
        work: Work
        if options.clean:
            work = _plain(clean_accuracy, "clean", card, device, n, shared)
        elif options.corruptions:
            work = _plain(corrupted_accuracy, "corruptions", card, device, n or 1000, shared)
        elif options.attack is not None:
            work = _attacked(card, device, n or min(1000, there), shared | {"precision": precision}, options)
        elif options.adaptive:
            asked = {"n": n or min(200, there), "precision": precision, "twins": options.twin, **shared}
            work = partial(adaptive_measures, card.name, device=device, **asked)
        elif options.reports_settings:
            few = {"n": n} if n or card.dataset == "fashion_mnist" else {}
            asked = {"precision": precision, "held": card if options.write else None, **shared, **few}
            work = partial(settings_measures, card.name, device=device, **asked)
        elif options.detection:
            norm: Norm = options.norm or "linf"
            asked = {
                "attack": ATTACKS["pgd"].from_dict(settings(options.set)),
                "ball": Ball(norm, eps_of(norm, options.eps)),
            }
            work = partial(detection_measures, card.name, device=device, n=n or min(500, there), **asked, **shared)
        elif options.inference:
            work = _inference.work(card, device, n, shared, options)
        elif options.retrieval:
            work = _retrieval(card, device, n or min(500, there), shared, options)
        else:
            asked = {"precision": precision, **shared} | ({} if n is None else {"n": n, "averaged_n": min(n, 500)})
            work = partial(standard_measures, card.name, device=device, **asked)
        return _measured(card, work, options.write, console)


def _course(options: argparse.Namespace, console: Console) -> Any:
    if options.write or options.twin or options.set or options.eps or options.norm or options.craft_on:
        raise InvalidValue("--course takes --n, --seed and --samples alone: its protocol is fixed.")
    n, samples = whole("n", options.n or str(N), 32, N), whole("samples", options.samples or "1", 1, 1000)
    report = course_report(options.name, samples=samples, n=n, seed=whole("seed", options.seed, 0, 2**53 - 1))
    rows = [
        [
            row.test,
            *("-" if share is None else in_percent(share.facts) for share in (row.platform, row.last_batch, row.field)),
        ]
        for row in report.rows
    ]
    console.say(f"{options.name}: {zoo.card(options.name).title}")
    console.table(["test", "as the platform did", "its last batch", "as the field does"], rows)
    for note in report.notes:
        console.say(note)
    return report.to_dict()


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
    found: list[Measure | DetectionMeasure | BoundaryMeasure] = []
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
            if isinstance(measure, Measure) and measure.kind == "corrupted":
                console.table(CORRUPTED, tables.corrupted(measure.outcomes))
            found.append(measure)
            if write:  # at once: the next may take an hour
                write_card(card.name, [measure], console)
    return {"model": card.name, "weights": card.sha256, "measures": [measure.to_dict() for measure in found]}


def _plain(
    measured: Callable[..., Measure], label: str, card: zoo.Card, device: Any, n: int | None, shared: dict[str, Any]
) -> Work:
    """A measure of the model alone, without settings."""
    images, chosen = images_of(card.dataset, n)
    model = zoo.load(card.name, device)

    def work(progress: Show) -> Iterator[Measure]:
        yield measured(model, images, chosen=chosen, progress=partial(progress, label), **shared)

    return work


def _retrieval(card: zoo.Card, device: Any, n: int, shared: dict[str, Any], options: argparse.Namespace) -> Work:
    if options.set:
        raise InvalidValue("--set does not belong to --retrieval, whose two attacks are fixed.")
    norm: Norm = options.norm or "linf"
    one = {key: shared[key] for key in ("seed", "batch")}  # in one process
    return partial(retrieval_measures, card.name, device=device, n=n, ball=Ball(norm, eps_of(norm, options.eps)), **one)


def _attacked(card: zoo.Card, device: Any, n: int, shared: dict[str, Any], options: argparse.Namespace) -> Work:
    attack = ATTACKS[options.attack].from_dict(settings(options.set))
    norm: str = options.norm or attack.threats[0]
    threat = attack.threat_model(norm, eps_of(norm, options.eps))
    source = {}
    if options.craft_on is not None:
        if zoo.card(options.craft_on).dataset != card.dataset:
            raise InvalidValue(f"{options.craft_on} was made for other images than {card.name}.")
        source = {"craft_on": zoo.load(options.craft_on, device), "source_model": options.craft_on}
    images, chosen = images_of(card.dataset, n)
    model = zoo.load(card.name, device)

    def work(progress: Show) -> Iterator[Measure]:
        yield robust_accuracy(
            model, images, attack, threat, chosen=chosen, progress=partial(progress, options.attack), **source, **shared
        )

    return work


def sentence(measure: Measure | DetectionMeasure | BoundaryMeasure) -> str:
    """One line: the number, its interval, and under which conditions it holds."""
    if isinstance(measure, BoundaryMeasure):
        return _boundary_sentence(measure)
    if isinstance(measure, DetectionMeasure):
        return _detection_sentence(measure)
    facts = measure.to_dict()
    what: str = measure.kind
    if measure.attack is not None and measure.eps is not None:
        hyper = ", ".join(f"{name}={value}" for name, value in measure.hyper.items())
        made = _made(measure)
        what = f"{measure.kind} {measure.attack} ({hyper}), {measure.norm} {eps_text(measure.eps)}{made}"
    if measure.kind == "noisy":
        what = f"under Gaussian noise of sigma {measure.sigma:g}"
    extra = [f"seed {measure.seed}", measure.precision, f"{measure.chosen}, {measure.data}", _time(measure)]
    if measure.accuracy_8bit is not None:
        extra.insert(0, f"{percent(measure.accuracy_8bit)} when rounded to 8 bits")
    if measure.zero_gradient_share is not None:
        extra.insert(-4, f"{percent(measure.zero_gradient_share)} zero gradients")
    if measure.median_distance is not None:
        extra.insert(0, f"median distance {size(measure.median_distance, measure.norm)}")
    if measure.note:
        extra.append(measure.note)
    return f"{in_percent(facts)}  n={measure.n:,}  {what}; {'; '.join(extra)}"


def _time(measure: Measure) -> str:
    """What it took, and what an image costs."""
    return f"{measure.seconds:.0f} s, {measure.seconds / measure.n:.2g} s an image"


def _made(measure: Measure | BoundaryMeasure) -> str:
    """On which other model the pictures were made, and what else was not as usual."""
    source = measure.source_model and f"made on {measure.source_model}"
    return "".join(f", {what}" for what in (source, measure.variant) if what)


def _boundary_sentence(found: BoundaryMeasure) -> str:
    hyper = ", ".join(f"{name}={value}" for name, value in found.hyper.items())
    made = _made(found)
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
