"""Proxy distributions: fit a generator of labelled images, draw from it, and measure how far its images are from real ones.

  python -m explorer proxy train flow --dataset fashion_mnist
  python -m explorer proxy sample fashion_mnist/flow --n 10000
  python -m explorer proxy measure fashion_mnist/flow-n10000-s0 --model fashion_mnist/fashion-mlp
  python -m explorer train proxy-fashion --set samples=fashion_mnist/flow-n10000-s0 --set images=2000
  python -m explorer proxy experiment fashion_mnist/real-n10000-s0 fashion_mnist/flow-n10000-s0 --out runs/proxies.jsonl

Generators are fitted to one half of the training images; `real` draws from the other half and is the control. `train` goes on where
it was stopped. `experiment` trains the recipe on few and on many real images with each of the proxies and without, and goes on,
too. Generators lie in EXPLORER_RUNS/proxies, samples in EXPLORER_RUNS/samples.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.cli._console import Console, advance, percent, settings, whole
from explorer.cli._parser import Verb
from explorer.core import InvalidValue, parse_number, wilson
from explorer.core.device import choose
from explorer.data.samples import read_samples, sample_names
from explorer.models import zoo
from explorer.proxies import GENERATORS, store


def _arguments_of_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", metavar="GENERATOR", help=f"which kind, one of {', '.join(GENERATORS.keys())}")
    parser.add_argument("--dataset", default="fashion_mnist", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting (repeatable)"
    )
    parser.add_argument("--name", help="what it is to be called (default: DATASET/GENERATOR)")
    parser.add_argument("--smoke", action="store_true", help="a fit of seconds to few images, to show that it works")


def _train(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    kind = GENERATORS[options.generator]
    changed = settings(options.set)
    chosen = kind.from_dict((dict(kind.smoke) if options.smoke else {}) | changed)
    name = options.name or f"{options.dataset}/{options.generator}{'-smoke' if options.smoke else ''}"
    words = ["explorer proxy train", options.generator, f"--dataset {options.dataset}", f"--name {name}"]
    command = " ".join(
        [*words, *(f"--set {k}={v}" for k, v in changed.items()), *(["--smoke"] if options.smoke else [])]
    )
    limit = store.SMOKE_IMAGES if options.smoke else None
    with console.bar(0, "steps") as bar:
        card = store.fit(
            options.generator, chosen, options.dataset, name, choose(options.device), advance(bar), command, limit
        )
    console.say(f"Fitted {card.name} to {card.source} in {card.fitted['seconds']:.0f} s; {card.bytes / 2**20:.1f} MiB.")
    console.say(f"Draw from it: python -m explorer proxy sample {card.name} --n 10000")
    return asdict(card)


def _arguments_of_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a generator that was fitted; `proxy list` shows them")
    parser.add_argument("--n", required=True, help="images, evenly of all classes")
    parser.add_argument("--seed", default="0", help="of the draws (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="draw otherwise: steps, guidance (repeatable)"
    )
    parser.add_argument("--out", help="what the samples are to be called (default: NAME, n and seed)")


def _sample(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    n, seed = whole("n", options.n, 1, 10_000_000), whole("seed", options.seed, 0, 2**31 - 1)
    made = store.draw(options.name, n, seed, choose(options.device), options.out, settings(options.set))
    console.say(f"Drew {made.about['name']}: {len(made):,} images of {options.name}, seed {seed}.")
    return {**made.about, "sha256": made.sha256}


def _arguments_of_measure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("samples", nargs="+", metavar="SAMPLES", help="names of samples, of one dataset")
    parser.add_argument("--model", required=True, help="whose features and labels are taken")
    parser.add_argument("--n", default="2000", help="images of each side (default: %(default)s)")
    parser.add_argument("--seeds", default="3", help="of the discriminators (default: %(default)s)")
    parser.add_argument("--eps", help="grid of Linf radii for ARC, as 0,0.05,0.1 (default: nine up to 0.3)")
    parser.add_argument("--updates", default="250", help="of each discriminator (default: %(default)s)")
    parser.add_argument("--discriminator", default="plain-conv", help="mlp or plain-conv (default: %(default)s)")


def _measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from explorer.evaluation.proxies import ProxyMeasure, measure
    from explorer.proxies.measures import GRID, Discriminators

    n, seeds = whole("n", options.n, 8, 10_000_000), whole("seeds", options.seeds, 1, 100)
    grid = GRID if options.eps is None else tuple(_number(one) for one in options.eps.split(","))
    how = Discriminators(grid, options.discriminator, whole("updates", options.updates, 1, 1_000_000))
    of = zoo.card(options.model).dataset
    proxies = [read_samples(name, of) for name in dict.fromkeys(options.samples)]
    with console.bar((len(proxies) + 1) * seeds * len(grid), "discriminators") as bar:
        found = measure(
            proxies, zoo.load(options.model), options.model, of, n, seeds, how, lambda: bar.update() and None
        )

    def row(one: ProxyMeasure) -> list[str]:
        low, high = wilson(round(one.labels * one.n), one.n)
        mean, *ends = one.arc
        spread = f" [{ends[0]:.4f}, {ends[1]:.4f}]" if seeds > 1 else ""
        labels = f"{percent(one.labels)} [{100 * low:.1f}, {100 * high:.1f}]"
        return [one.name, f"{one.n:,}", f"{one.frechet:.3f}", labels, f"{mean:.4f}{spread}"]

    head = ["images", "n", "Frechet", f"labels by {options.model}", "ARC"]
    console.table(head, [row(one) for one in found])
    console.say(
        f"Against {found[0].n:,} test images. ARC: Linf up to {grid[-1]:g}, at most {grid[-1] / 2:g}; {seeds} seeds, 95 % interval "
        "over them. Small is near; the first row is what real images come to."
    )
    return {"model": options.model, "discriminators": asdict(how), "measures": [asdict(one) for one in found]}


def _number(text: str) -> float:
    try:
        return parse_number(text)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InvalidValue(f'eps must be numbers such as "0,0.05,0.1"; got {text!r}.') from error


def _arguments_of_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("samples", nargs="+", metavar="SAMPLES", help="names of samples, of one dataset")
    parser.add_argument("--recipe", default="proxy-fashion", help="which trains with samples (default: %(default)s)")
    parser.add_argument("--real", default="2000,29500", help="numbers of real images (default: %(default)s)")
    parser.add_argument("--updates", default="2000", help="of each training, at least (default: %(default)s)")
    parser.add_argument("--seeds", default="3", help="trainings of each kind (default: %(default)s)")
    parser.add_argument("--images", default="2000", help="test images attacked (default: %(default)s)")
    parser.add_argument("--steps", default="20", help="of PGD, at the recipe's eps (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change the recipe (repeatable)"
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="where each training's result is noted; goes on from it"
    )


def _experiment(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from explorer.evaluation.proxy_experiment import Plan

    plan = Plan(
        options.recipe, tuple(options.samples), tuple(whole("real", n, 2, 10_000_000) for n in options.real.split(",")),
        whole("updates", options.updates, 1, 10_000_000), whole("seeds", options.seeds, 1, 100),
        whole("images", options.images, 10, 10_000), whole("steps", options.steps, 1, 1000), settings(options.set),
    )  # fmt: skip
    with console.bar(len(plan.cells), "trainings") as bar:
        gains = plan.run(Path(options.out), choose(options.device), advance(bar))
    rows = []
    for g in gains:
        seeds = ", ".join(f"{100 * one:+.1f}" for one in g.each)
        gain = "-" if g.samples == "" else f"{100 * g.gain:+.1f} [{100 * g.low:+.1f}, {100 * g.high:+.1f}]"
        rows.append([f"{g.real:,}", g.samples or "none", percent(g.clean), percent(g.robust), gain, seeds or "-"])
    console.table(["real images", "proxy", "clean", "robust", "gain, points", "gain by seed"], rows)
    console.say(plan.words)
    return {"plan": asdict(plan), "gains": [asdict(one) for one in gains]}


def _list(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    cards = [store.card(name) for name in store.names()]
    console.table(
        ["generator", "kind", "fitted to", "MiB"],
        [[c.name, c.generator, c.source, f"{c.bytes / 2**20:.1f}"] for c in cards],
    )
    names = sample_names()
    console.say("samples: " + (", ".join(names) or "none"))
    return {"generators": [asdict(one) for one in cards], "samples": names}


VERBS = {
    "list": Verb("the generators and samples that are here", _list),
    "train": Verb("fit a generator, going on where it was stopped", _train, _arguments_of_train),
    "sample": Verb("draw labelled images from a generator", _sample, _arguments_of_sample),
    "measure": Verb(
        "how far samples are from real images: Frechet distance, labels, ARC", _measure, _arguments_of_measure
    ),
    "experiment": Verb(
        "what samples do for robustness: trainings with and without, paired", _experiment, _arguments_of_experiment
    ),
}
USUAL = "list"
