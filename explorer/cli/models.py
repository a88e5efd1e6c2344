"""List the trained models, show one model's card, or add a model from elsewhere.

  python -m explorer models
  python -m explorer models cifar10/pgd-linf
  python -m explorer models --markdown
  python -m explorer models cifar10/lwta --markdown
  python -m explorer models --markdown --into docs/models.md
  python -m explorer models claim cifar10/lenet --to claim.json
  python -m explorer models add cifar10/mine --architecture torchvision:resnet18 --weights mine.safetensors --classes 10 --range 0,1
  python -m explorer models add cifar10/ours --architecture package.module:factory --weights ours.safetensors --classes 10
      --mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616
  python -m explorer models add cifar10/rice --architecture robustbench:L2/Rice2020Overfitting
  python -m explorer models add photos/resnet50 --torchvision resnet50
  python -m explorer models add cifar10/group-a --course FOLDER
  python -m explorer models add cifar10 --zip class.zip
  python -m explorer models convert weights.pth
  python -m explorer models check cifar10/group-a
  python -m explorer models remove cifar10/group-a

`add` takes torchvision:NAME, timm:NAME (where timm is installed), the name of a model here that yours is built as, or
package.module:factory, whose code it imports and calls (with num_classes=N if it takes that): add only what you trust. Weights
must be safetensors; pickles are not opened. robustbench:NAME (where robustbench is installed) needs nothing else: its file is
models/DATASET/THREAT/NAME.pt as RobustBench keeps it, or --weights FILE, read in a confined process. What the network is given
is (pixel - mean) / std, pixels in [0,1]; --range=LOW,HIGH says the same of a network that wants its pixels in that range (0,1 or
-1,1 or 0,255). --torchvision NETWORK stands alone: torchvision's own ImageNet weights are downloaded and verified. The model then
stands in the folder of runs' models, for all pages and commands.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save as as_safetensors

from explorer.cli._console import Console, advance, check_writable, save, whole
from explorer.cli._parser import Verb
from explorer.core import InvalidValue, confinement
from explorer.core.params import parse_numbers
from explorer.data import dataset
from explorer.evaluation import checking, claim, submissions, tables
from explorer.evaluation.adding import Addition, add
from explorer.evaluation.measure import EACH
from explorer.evaluation.torchvision_weights import LICENCE, OFFERED, add_published
from explorer.models import confined, robustbench, zoo


def _arguments_of_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="as a table in Markdown")
    _argument_into(parser, "models")


def _arguments_of_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a model, as the list names it")
    parser.add_argument("--markdown", action="store_true", help="its measures, as a table")
    _argument_into(parser, "NAME")


def _argument_into(parser: argparse.ArgumentParser, name: str) -> None:
    text = f"with --markdown: put it between FILE's lines <!-- {name}: begin --> and <!-- {name}: end -->"
    parser.add_argument("--into", metavar="FILE", help=text)


def _into(options: argparse.Namespace) -> Path | None:
    if options.into is not None and not options.markdown:
        raise InvalidValue("--into FILE belongs to `models --markdown`.")
    return None if options.into is None else Path(options.into)


def _arguments_of_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what to call it, such as cifar10/mine")
    parser.add_argument(
        "--course", metavar="FOLDER", help="a submission: model.py with a class Net, and its weights; confined"
    )
    parser.add_argument(
        "--zip", metavar="FILE", help="many submissions, a folder each; NAME is the dataset, or DATASET/PREFIX"
    )
    parser.add_argument(
        "--torchvision", metavar="NETWORK", help=f"download its ImageNet weights, for photos/NAME: {', '.join(OFFERED)}"
    )
    parser.add_argument(
        "--architecture",
        help="torchvision:NAME, timm:NAME, robustbench:NAME, MODEL (built as it) or package.module:factory",
    )
    parser.add_argument("--weights", metavar="FILE", help="a safetensors file of its state_dict")
    parser.add_argument("--classes", metavar="N", help="how many it tells apart")
    parser.add_argument("--mean", help="subtracted from pixels in [0,1]: one number, or one a channel")
    parser.add_argument("--std", help="then divided by: one number, or one a channel")
    parser.add_argument("--range", metavar="LOW,HIGH", help="in place of --mean and --std: what pixels 0 and 1 become")
    parser.add_argument("--size", default="0", help="enlarge images to so many pixels a side (default: leave them)")
    parser.add_argument("--title", default="", help="what choosers and tables call it (default: its name)")


def _show(options: argparse.Namespace, console: Console) -> Any:
    card, into = zoo.card(options.name), _into(options)
    if into is not None:
        put_between(into, card.name, tables.measures(card))
    elif options.markdown:
        console.say(tables.measures(card))
    else:
        show(card, console)
    return asdict(card)


def _list(options: argparse.Namespace, console: Console) -> Any:
    cards, into = zoo.cards(), _into(options)
    if into is not None:  # only what comes with the project
        cards = [card for card in cards if zoo.card_path(card.name).is_relative_to(zoo.OWN_ROOT)]
        put_between(into, "models", tables.markdown(cards))
        return [asdict(card) for card in cards]
    if not cards:
        console.say("No models yet: `python -m explorer train --list` shows the recipes.")
        return []
    if options.markdown:
        console.say(tables.markdown(cards))
        return [asdict(card) for card in cards]
    rows = [
        [c.name, c.title, f"{c.parameters / 1e6:.2f} M", clean(c), c.precision, f"{c.bytes / 2**20:.1f} MiB"]
        for c in cards
    ]
    console.table(["name", "title", "parameters", "clean accuracy", "stored as", "size"], rows)
    return [asdict(card) for card in cards]


def put_between(file: Path, name: str, text: str) -> None:
    """Replace what stands between the lines <!-- name: begin --> and <!-- name: end --> of a file."""
    begin, end = (f"<!-- {name}: {word} -->\n" for word in ("begin", "end"))
    try:
        before, found, rest = file.read_text("utf-8").partition(begin)
    except OSError as error:
        raise InvalidValue(f"cannot read {file}: {error.strerror}.") from error
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise InvalidValue(f"{file} must hold the lines {begin.strip()} and {end.strip()}; got none.")
    file.write_text(f"{before}{begin}{text}\n{end}{after}", "utf-8")


ADDING = ("architecture", "weights", "classes", "mean", "std", "range")


def _add(options: argparse.Namespace, console: Console) -> Any:
    if options.course is not None or options.zip is not None:
        return _add_submissions(options, console)
    if options.torchvision is not None:
        return _add_torchvision(options, console)
    known = (options.architecture or "").startswith("robustbench:")
    missing = [word for word in ("architecture", "weights", "classes") if getattr(options, word) is None]
    if missing and not known:
        raise InvalidValue(f"models add needs --{' and --'.join(missing)}.")
    mean, std = _robustbench(options) if known else _input(options)
    words = [f"--{word} {shlex.quote(getattr(options, word))}" for word in ADDING if getattr(options, word) is not None]
    size = whole("size", options.size, 0, 1024)
    asked = Addition(
        name=options.name,
        architecture=options.architecture,
        weights=Path(options.weights).expanduser(),
        classes=whole("classes", options.classes, 2, 100_000),
        mean=mean,
        std=std,
        size=size,
        title=options.title,
        command=" ".join(
            ["python -m explorer models add", options.name, *words, *([f"--size {size}"] if size else [])]
        ),
        convert=known,
    )
    card = add(asked)
    _tell_added(card, console)
    return asdict(card)


def _alone(options: argparse.Namespace, why: str) -> str:
    """The one option that says where a model comes from; raises InvalidValue where there are others besides."""
    said = [word for word in (*ADDING, "torchvision", "course", "zip") if getattr(options, word) is not None]
    if len(said) > 1:
        raise InvalidValue(f"--{said[-1]} stands alone: {why}; got --{' and --'.join(said[:-1])} besides.")
    return said[0]


def _add_torchvision(options: argparse.Namespace, console: Console) -> Any:
    _alone(options, "torchvision says what its network wants of pixels")
    console.say(f"{LICENCE[:1].upper()}{LICENCE[1:]}.")
    with console.bar(0, "B", scale=True) as bar:
        card = add_published(options.name, options.torchvision, options.title, progress=advance(bar))
    _tell_added(card, console)
    return asdict(card)


def _add_submissions(options: argparse.Namespace, console: Console) -> Any:
    word = _alone(options, "a submission brings its network and weights, and its pixels are in [0,1]")
    if warning := confinement.not_prevented():
        console.say(f"{warning[:1].upper()}{warning[1:]}")
    place = Path(options.course or options.zip).expanduser()
    command = f"python -m explorer models add {options.name} --{word} {shlex.quote(str(place))}"
    if options.course is not None:
        card = submissions.add_submission(options.name, place, options.title, command)
        _tell_added(card, console)
        return asdict(card)
    found = []
    for name, card_or_refusal in submissions.add_zip(options.name, place, command):
        if isinstance(card_or_refusal, str):
            console.say(f"Refused {card_or_refusal if name in card_or_refusal else f'{name}: {card_or_refusal}'}")
            found.append({"name": name, "refused": card_or_refusal})
        else:
            _tell_added(card_or_refusal, console)
            found.append(asdict(card_or_refusal))
    return found


def _tell_added(card: zoo.Card, console: Console) -> None:
    console.say(
        f"Added {card.name}: {card.parameters:,} parameters, {card.bytes / 2**20:.1f} MiB, {zoo.card_path(card.name)}."
    )
    notes = card.training.get("notes", [])
    if notes or card.recipe == "submission":
        console.say("; ".join([f"Its weights: {card.training['weights']}", *notes]) + ".")
    _tell_probe(card.training["sample"], card.training["findings"], card.stochastic, console)
    console.say(f"Measure it: python -m explorer evaluate {card.name} --write")


def _tell_probe(accuracy: str, findings: Sequence[str], stochastic: bool, console: Console) -> None:
    console.say(accuracy)
    if stochastic:
        console.say("It draws at random: each pass is seeded, attacks may average over draws, and fresh draws judge.")
    for finding in findings:
        console.say(f"{finding[:1].upper()}{finding[1:]}")


def _arguments_of_named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a model that `models add` has added")


def _arguments_of_check(parser: argparse.ArgumentParser) -> None:
    _arguments_of_named(parser)
    parser.add_argument(
        "--accept", action="store_true", help="you have looked at its changed code: allow it as it stands now"
    )


def _remove(options: argparse.Namespace, console: Console) -> Any:
    checking.remove(options.name)
    console.say(f"Removed {options.name}.")
    return {"removed": options.name}


def _arguments_of_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="weights: .pth, .pt, .bin, .ckpt or safetensors")
    parser.add_argument("--to", metavar="FILE", help="where to (default: FILE.safetensors)")


def _convert(options: argparse.Namespace, console: Console) -> Any:
    source = Path(options.file).expanduser()
    target = Path(options.to).expanduser() if options.to else source.with_suffix(".safetensors")
    if target.exists():
        raise InvalidValue(f"{target} is there already: name another place with --to.")
    check_writable(str(target))
    tensors, notes = confined.convert(source)
    save(target, as_safetensors(tensors))
    parameters = sum(tensor.numel() for tensor in tensors.values())
    console.say(f"Wrote {target}: {len(tensors)} tensors, {parameters:,} numbers.")
    for note in notes:
        console.say(f"  {note}")
    return {"file": str(target), "tensors": {k: list(t.shape) for k, t in tensors.items()}, "notes": notes}


def _check(options: argparse.Namespace, console: Console) -> Any:
    if options.accept:
        submissions.accept(options.name)
    found = checking.check(options.name)
    _tell_probe(found.sentence, found.findings, found.stochastic, console)
    return asdict(found)


def _robustbench(options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """mean and std; what the options leave out is what RobustBench says: the dataset's classes, its own file, pixels in [0,1]."""
    spec = dataset(options.name.partition("/")[0])
    if options.weights is None:
        options.weights = str(robustbench.checkpoint(options.architecture.partition(":")[2], spec.name))
    options.classes = options.classes or str(len(spec.classes))
    said = options.range is not None or options.mean is not None or options.std is not None
    return _input(options) if said else ([0.0], [1.0])


def _input(options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """mean and std of pixels in [0,1], said outright or by a range."""
    if options.range is not None:
        if options.mean is not None or options.std is not None:
            raise InvalidValue("--range stands in place of --mean and --std.")
        ends = parse_numbers("range", options.range)
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise InvalidValue(
                f"range must be LOW,HIGH with LOW below HIGH, such as --range=-1,1; got {options.range!r}."
            )
        return [ends[0] / (ends[0] - ends[1])], [1 / (ends[1] - ends[0])]
    if options.mean is None or options.std is None:
        raise InvalidValue(
            "models add needs --mean and --std, or --range LOW,HIGH: what the network wants of pixels in [0,1]."
        )
    return parse_numbers("mean", options.mean), parse_numbers("std", options.std)


def _arguments_of_claim(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a model, as the list names it")
    parser.add_argument(
        "--as", dest="form", choices=claim.FORMATS, default="json", help="JSON like RobustBench's, or a table's row"
    )
    parser.add_argument("--to", metavar="FILE", help="where to (default: it is printed)")


def _claim(options: argparse.Namespace, console: Console) -> Any:
    card = zoo.card(options.name)
    text = claim.text(card, options.form)
    if options.to is None:
        console.say(text.rstrip("\n"))
    else:
        check_writable(options.to)
        save(Path(options.to), text.encode())
        console.say(f"Wrote {options.to}.")
    return claim.claim(card)


VERBS = {
    "list": Verb("all models, with their clean accuracy", _list, _arguments_of_list),
    "show": Verb("a model's card: how it was made, and what was measured", _show, _arguments_of_show),
    "claim": Verb(
        "what a card says, for others to check: JSON, a LaTeX or a Markdown row", _claim, _arguments_of_claim
    ),
    "add": Verb("a model from elsewhere, from a safetensors file", _add, _arguments_of_add),
    "check": Verb("probe a model from elsewhere again, or accept its changed code", _check, _arguments_of_check),
    "convert": Verb("weights of any usual form to safetensors, in a confined process", _convert, _arguments_of_convert),
    "remove": Verb("take a model from elsewhere away again", _remove, _arguments_of_named),
}
USUAL, NAMED = "list", "show"


def clean(card: zoo.Card) -> str:
    """The card's clean accuracy with its interval and number of images."""
    found = [m for m in card.measures if m.get("kind") == "clean"]
    return f"{tables.in_percent(found[0])}, n={found[0]['n']:,}" if found else "not measured"


def show(card: zoo.Card, console: Console) -> None:
    """The whole card, one fact a line."""
    facts = {key: value for key, value in asdict(card).items() if key not in ("measures", "history", "training")}
    for key, value in [*facts.items(), *(("training", {}), *card.training.items())]:
        console.say(f"{key:<14} {_plain(value)}".rstrip())
    console.say("measures" if card.measures else "measures       none yet: `python -m explorer evaluate` makes them")
    for measure in card.measures:
        conditions = {
            k: v
            for k, v in measure.items()
            if k not in ("kind", "accuracy", "auc", "low", "high", *EACH) and v not in (None, "", {})
        }
        console.say(f"  {measure.get('kind', '')}: {tables.value(measure)}; {_plain(conditions)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
