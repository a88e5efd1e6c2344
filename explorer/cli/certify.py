"""Prove L2 radii by randomized smoothing (Cohen et al., arXiv:1902.02918): CERTIFY, or PREDICT with --predict.

  python -m explorer certify cifar10/gaussian-0.25 --images 500
  python -m explorer certify cifar10/gaussian-0.25 --sigma 0.25 --n 100000 --images 20 --json certificates.json
  python -m explorer certify cifar10/gaussian-0.25 --n 100000 --resume run.jsonl
  python -m explorer certify cifar10/gaussian-0.25 --n 100000 --background
  python -m explorer certify cifar10/gaussian-0.25 --predict --images 200
  python -m explorer certify cifar10/gaussian-0.25 --predict --counts --n 100,1000,10000 --write
  python -m explorer certify cifar10/lipschitz --kind lipschitz --images all --write

An image counts as certified at a radius if the smoothed model provably gives the right class to every image within that
L2 distance; each proof fails with probability at most alpha. Images whose selected class is wrong are not estimated.

With --predict --counts PREDICT is asked with each of several n, all from one pass, and its answers are counted: right or
wrong, and accurate (the smoothed model's own class, from up to 100,000 fresh draws) or not, or abstained.

With --resume each certificate is noted in a file as it is made: the same command then goes on after a stop, with the very
draws that were left. (Several processes note theirs in files of their own, run.jsonl.0 and so on.)

With --kind the proof is another kind's (--kind lipschitz, interval, crown, column): deterministic, in its own norm, of the
network as it is, without noise.

With --sound the certificates also hold in floating point (Voracek & Hein, ICLR 2023): the noise lies on the grid of 8-bit
pixels and is drawn exactly. With --bench nothing is certified: our speed is measured beside a plain re-implementation of
the published procedure, on one image.

With --background it is a run of its own: `jobs` lists, cancels and resumes it, and `jobs show ID` prints its table. Without
--seed its draws are those of the Certify page, and what was certified before is not certified again.

On several devices or computers, with the same result: the images are shared out.

  python -m torch.distributed.run --nproc_per_node 2 -m -- explorer certify cifar10/gaussian-0.25
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from explorer.certify import (
    Certificate,
    CertifiedAccuracy,
    CertifyParams,
    PredictParams,
    RunLog,
    Smoothed,
    accuracy_under_noise,
    average_radius,
    certified_accuracy,
    certify_many,
)
from explorer.certify.bounds import check_enough
from explorer.certify.noise import IMAGES
from explorer.certify.params import MOST_DRAWS, check_seed
from explorer.certify.store import picture_hash
from explorer.cli import _proofs as proofs
from explorer.cli._background import background_arguments, certify_in_background, check_foreground
from explorer.cli._console import Console, advance, images_of, percent, whole, write_card
from explorer.core import InvalidValue, wilson
from explorer.core.classifier import device_of
from explorer.core.device import computer_name, hardware_name
from explorer.core.ranks import Ranks, start
from explorer.core.rng import derived_seed
from explorer.data import Images
from explorer.engine import choose
from explorer.evaluation import Measure, published
from explorer.evaluation.certify_bench import REPEATS, bench_certify
from explorer.evaluation.measure import count
from explorer.evaluation.predicting import OUTCOMES, predict_measures
from explorer.evaluation.tables import in_percent
from explorer.models import zoo

Facts = dict[str, Any]
RADII = (0.0, *published.RADII)


def arguments(parser: argparse.ArgumentParser) -> None:
    p = CertifyParams
    parser.add_argument("name", help="which model; `python -m explorer models` lists them")
    parser.add_argument(
        "--kind",
        metavar="KIND",
        help=f"a deterministic certificate instead, on --images (or all): {', '.join(proofs.kinds())}",
    )
    parser.add_argument("--sigma", help="noise's standard deviation, in pixel units (default: the card's)")
    parser.add_argument(
        "--n",
        help=f"draws that vote on each image (default: {p.n}; with --predict {PredictParams.n}; with --counts several: "
        f"{','.join(map(str, published.PREDICT))})",
    )
    parser.add_argument("--n0", help=f"draws that select the class (default: {p.n0})")
    parser.add_argument("--alpha", help=f"how often a proof may fail (default: {p.alpha})")
    parser.add_argument("--images", default="500", help="how many test images (default: %(default)s)")
    parser.add_argument("--seed", help="of every draw, to repeat an earlier run (default: drawn anew, and recorded)")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the network that is certified"
    )
    parser.add_argument("--sound", action="store_true", help="certificates that hold in floating point, too")
    parser.add_argument(
        "--resume", metavar="FILE", help="note each certificate in FILE, and go on from those that are there"
    )
    parser.add_argument("--bench", action="store_true", help="measure the speed instead")
    parser.add_argument("--predict", action="store_true", help="PREDICT each image instead of certifying it")
    parser.add_argument(
        "--counts",
        action="store_true",
        help="with --predict: how often it is right, accurate, both, neither, or abstains",
    )
    parser.add_argument(
        "--write", action="store_true", help="put the certified accuracies, or the counts, into the model's card"
    )
    background_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.background:
        return certify_in_background(options, console)
    check_foreground(options)
    if options.kind is not None:
        return proofs.run(options, console)
    card = zoo.card(options.name)
    ns = _draws(options.n) if options.counts else ()
    values = _values(options, card, ns)
    seed = None if options.seed is None else whole("seed", options.seed, 0, 2**53 - 1)
    if options.bench:
        return _bench(card, values, options, console)
    images, chosen = images_of(card.dataset, whole("images", options.images, 1, 10_000))
    device = choose(options.device)
    with start(device) as ranks:
        smoothed = Smoothed(
            zoo.load(card.name, device), values["sigma"], precision=options.precision, sound=options.sound
        )
        place = _log_place(options.resume, ranks)
        if seed is None and place is not None:
            seed = RunLog.seed_of(place)
        seed = check_seed(seed)
        seed = ranks.gather([seed] * len(ranks.shard(ranks.world)))[0]  # where it is drawn, the first process's counts
        task = _Task(card, smoothed, images, chosen, values, seed, options.write, ranks, console)
        if options.counts:
            return _counts(task, ns)
        if options.predict:
            return _predict(task)
        return _certify(task, None if place is None else _log(task, place))


def _values(options: argparse.Namespace, card: zoo.Card, ns: Sequence[int]) -> Facts:
    """sigma, n, alpha and, for certificates, n0. Raises InvalidValue, also for options that do not go together."""
    if options.counts and not options.predict:
        raise InvalidValue("--counts belongs to --predict, which is missing.")
    if options.write and options.predict and not options.counts:
        raise InvalidValue("--predict writes nothing into a card unless its answers are counted: add --counts.")
    asked = {
        "sigma": options.sigma or card.sigma or CertifyParams.sigma,
        "n": ns[-1] if ns else options.n,
        "alpha": options.alpha,
    }
    if not options.predict:
        asked["n0"] = options.n0
    cls = PredictParams if options.predict else CertifyParams
    values = cls.from_dict({name: value for name, value in asked.items() if value is not None}).to_dict()
    if not options.predict:
        check_enough(values["n"], values["alpha"])
    if options.resume and (options.predict or options.bench):
        raise InvalidValue("--resume goes on with certificates: leave --predict and --bench out.")
    return values


@dataclass(frozen=True)
class _Task:
    """What is asked of which model and images."""

    card: zoo.Card
    smoothed: Smoothed
    images: Images
    chosen: str  # how the images were
    values: Facts  # sigma, n, alpha, n0
    seed: int
    write: bool  # into the card
    ranks: Ranks
    console: Console

    @property
    def shared(self) -> Facts:
        s = self.smoothed
        return {"seed": self.seed, "precision": s.precision, "sound": s.sound, "batch": s.batch}

    @property
    def facts(self) -> Facts:
        """What every answer begins with."""
        return {"model": self.card.name, "weights": self.card.sha256, **self.values, **self.shared}

    @property
    def hardware(self) -> str:
        return hardware_name(device_of(self.smoothed), self.ranks.world)

    @property
    def computer(self) -> str:
        return computer_name(device_of(self.smoothed), self.ranks.world)

    @property
    def call(self) -> Facts:
        """What PREDICT and CERTIFY are called with: all values but sigma, which is the smoothed model's."""
        return {name: value for name, value in self.values.items() if name != "sigma"}


def _log_place(asked: str | None, ranks: Ranks) -> Path | None:
    """Where this process notes its certificates."""
    return None if asked is None else Path(asked if ranks.world == 1 else f"{asked}.{ranks.rank}")


def _log(task: _Task, place: Path) -> RunLog:
    images = task.images
    labels = hashlib.sha256(repr(images.y.tolist()).encode()).hexdigest()
    which = {"images": len(images), "pixels": picture_hash(images.x), "labels": labels}
    conditions = {"weights": task.card.identity, **which, **task.values, **task.shared, "hardware": task.computer}
    return RunLog(place, conditions)


def _certify(task: _Task, log: RunLog | None) -> Facts:
    console, images, values, shared = task.console, task.images, task.values, task.shared
    began = time.monotonic()
    if log is not None and len(log):
        console.say(f"{len(log)} certificates are in {log.path} already; it goes on with the others.")
    with console.bar(len(images) * (values["n0"] + values["n"]), "draws", scale=True) as bar:
        many = certify_many(
            task.smoothed,
            images.x,
            images.y,
            **task.call,
            seed=task.seed,
            ranks=task.ranks,
            log=log,
            progress=advance(bar),
        )
        found = list(many)
    seconds = time.monotonic() - began + (0.0 if log is None else log.seconds)
    table = certified_accuracy(found, images.y, RADII)
    console.say(f"{task.card.name}, smoothed: certified accuracy, with its 95 % interval over the choice of images")
    console.table(["L2 radius", "certified"], [[f"{row.radius:.2f}", in_percent(asdict(row))] for row in table])
    facts = {**summary(found, images), "hardware": task.hardware, "seconds": round(seconds, 1)}
    console.say(
        f"average certified radius {facts['acr']:.3f} [{facts['acr_low']:.3f}, {facts['acr_high']:.3f}]; the network itself is "
        f"right about {percent(facts['under_noise'])} of single noisy copies; of {len(images)} images {facts['abstained']} abstained "
        f"and {facts['wrong']} had another class selected"
    )
    console.say(
        f"sigma {values['sigma']:g}, n0 {values['n0']:,}, n {values['n']:,}, alpha {values['alpha']:g}, seed {task.seed}, "
        f"{shared['precision']}, {soundness(shared)}; {task.chosen}, {images.source}; {seconds:.0f} s"
    )
    measures = [_measure(row, facts, task) for row in table]
    if task.write:
        write_card(task.card.name, measures, console)
    return {
        **task.facts, **facts, "images": len(images), "chosen": task.chosen, "measures": [m.to_dict() for m in measures],
        "certificates": [_plain(c, images, i) for i, c in enumerate(found)],
    }  # fmt: skip


def summary(found: Sequence[Certificate], images: Images) -> Facts:
    """Average certified radius (0 for an image that is not certified right), abstentions, wrong selections."""
    labels = images.y.tolist()
    wrong = sum(c.selected != label for c, label in zip(found, labels, strict=True))
    acr, noisy = average_radius(found, labels), accuracy_under_noise(found, labels)
    means = {"acr": acr.value, "acr_low": acr.low, "acr_high": acr.high, "under_noise": noisy.value}
    return means | {"abstained": sum(c.abstained for c in found), "wrong": wrong}


def soundness(shared: Facts) -> str:
    return "sound in floating point" if shared["sound"] else "not sound in floating point"


def _measure(row: CertifiedAccuracy, facts: Facts, task: _Task) -> Measure:
    """What the card stores about one radius."""
    images, values, shared = task.images, task.values, task.shared
    return Measure(
        kind="certified",
        **count(row.certified, row.n),
        seed=shared["seed"],
        batch=shared["batch"],
        data=f"{images.name} {images.split}, {images.source}",
        chosen=task.chosen,
        precision=shared["precision"],
        device=facts["hardware"],
        seconds=facts["seconds"],
        verdict_draws=values["n"],
        norm="l2",
        eps=row.radius,
        sigma=values["sigma"],
        n0=values["n0"],
        draws=values["n"],
        alpha=values["alpha"],
        average_radius={"value": facts["acr"], "low": facts["acr_low"], "high": facts["acr_high"]},
        abstained=facts["abstained"],
        note=f"smoothed; {soundness(shared)}",
    )


def _plain(certificate: Certificate, images: Images, row: int) -> Facts:
    return {"index": int(images.index[row]), "true_label": int(images.y[row]), **asdict(certificate)}


def _predict(task: _Task) -> Facts:
    console, images, values, ranks = task.console, task.images, task.values, task.ranks
    found = []
    with console.bar(len(images) * values["n"], "draws", scale=True) as bar:
        for row in ranks.shard(len(images)):
            found.append(task.smoothed.predict(images.x[row], **task.call, seed=derived_seed(task.seed, IMAGES, row)))
            bar.update(values["n"] * min(ranks.world, len(images) - row))
    found = ranks.gather(found)
    labels = images.y.tolist()
    right = sum(p.label == label for p, label in zip(found, labels, strict=True))
    abstained = sum(p.label is None for p in found)
    low, high = wilson(right, len(found))
    facts = {"accuracy": right / len(found), "low": low, "high": high, "abstained": abstained}
    console.say(
        f"{task.card.name}, smoothed: predicted right {in_percent(facts)}, abstained {percent(abstained / len(found))}"
    )
    console.say(
        f"sigma {values['sigma']:g}, n {values['n']:,}, alpha {values['alpha']:g}, seed {task.seed}, "
        f"{task.smoothed.precision}; {task.chosen}, {images.source}"
    )
    rows = [{"index": int(images.index[i]), "true_label": labels[i], **asdict(p)} for i, p in enumerate(found)]
    return {**task.facts, **facts, "chosen": task.chosen, "predictions": rows}


def _draws(text: str | None) -> tuple[int, ...]:
    """(100, 1000) of "100,1000"; None: the report's. Raises InvalidValue."""
    if text is None:
        return tuple(published.PREDICT)
    return tuple(whole("n", part.strip(), 1, MOST_DRAWS) for part in text.split(","))


def _counts(task: _Task, ns: Sequence[int]) -> Facts:
    console, images, values = task.console, task.images, task.values
    with console.bar(len(images), "images") as bar:
        measures = predict_measures(
            task.smoothed, images, ns, alpha=values["alpha"], seed=task.seed, chosen=task.chosen, ranks=task.ranks,
            progress=advance(bar),
        )  # fmt: skip
    console.say(
        f"{task.card.name}, smoothed: what PREDICT says of {len(images)} images, each share with its 95 % interval"
    )
    shares = [[m.outcomes[name] for name in OUTCOMES] for m in measures]
    rows = [
        [f"{m.draws:,}", *(in_percent(one | {"accuracy": one["share"]}) for one in row)]
        for m, row in zip(measures, shares, strict=True)
    ]
    console.table(["n", *OUTCOMES.values()], rows)
    first = measures[0]
    console.say(
        f"sigma {values['sigma']:g}, alpha {values['alpha']:g}, seed {task.seed}, {task.smoothed.precision}; {first.note}; "
        f"{task.chosen}, {images.source}; {first.seconds:.0f} s"
    )
    if task.write:
        write_card(task.card.name, measures, console)
    return {**task.facts, "n": list(ns), "measures": [m.to_dict() for m in measures]}


def _bench(card: zoo.Card, values: Facts, options: argparse.Namespace, console: Console) -> Facts:
    if options.predict or options.write:
        raise InvalidValue("--bench measures the speed alone: leave --predict and --write out.")
    n = values["n"]
    with console.bar(REPEATS, "repeats") as bar:
        found = bench_certify(
            zoo.load(card.name, choose(options.device)), values["sigma"], n, values["alpha"], precision=options.precision,
            progress=advance(bar),
        )  # fmt: skip
    console.say(
        f"{card.name}, {n:,} draws of one image, {options.precision}, {found['device']}, {found['threads']} threads"
    )
    rows = [
        [
            one["what"],
            f"{one['images_per_second']:,.0f}",
            f"{one['ratio']:.2f}",
            f"{one['cpu_ratio'] or float('nan'):.2f}",
        ]
        for one in found["rows"]
    ]
    console.table(["procedure", "noisy images per second", "ours is faster by", "by processor time"], rows)
    console.say(
        f"median of {REPEATS} rounds in turn; load before and after {found['load'][0]} and {found['load'][1]}; memory's peak "
        f"grew by {found['grown_mib']:.0f} MiB from n = {n // 10:,} to n = {n:,}"
    )
    return found
