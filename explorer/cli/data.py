"""List the datasets and check what is on this computer, download one, or add one of your own.

  python -m explorer data list
  python -m explorer data download cifar10
  python -m explorer data add flowers ~/flowers --size 96 --licence CC-BY-4.0
  python -m explorer data remove flowers

A download goes to EXPLORER_DATA if that is set, else to the user's cache folder. Its checksums are verified. `add` reads
train/<class>/* and test/<class>/* (ImageFolder), parquet files of Hugging Face's `datasets`, or torchvision's files of CIFAR-100,
MNIST, SVHN, GTSRB or STL-10 (without a test split a fifth of each class becomes one), and keeps the pixels beside a card with
counts, licence, normalisation and hash. Without a FOLDER it looks in EXPLORER_DATA for one of that name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from explorer.cli._console import Console, advance, whole
from explorer.cli._parser import Verb
from explorer.core import DataUnavailable, InvalidValue
from explorer.data import DATASETS, Dataset, adding, dataset, download, known, raw
from explorer.data.folders import chosen_folder

BACKGROUNDS: dict[str, int | str | None] = {"auto": "auto", "black": 0, "white": 255, "none": None}


def _arguments_of_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="this dataset alone")


def _arguments_of_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"the name of a dataset, one of {', '.join(DATASETS)}")


def _arguments_of_remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of a dataset that was added")


def _arguments_of_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what it is to be called: small letters, digits and underscores")
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="where it lies (default: EXPLORER_DATA/NAME)")
    parser.add_argument("--title", help="what choosers call it (default: its name)")
    parser.add_argument("--licence", default="not stated", help="under which its pictures may be used, for its card")
    parser.add_argument(
        "--size", help=f"pixels a side, {adding.LEAST_SIDE} to {adding.MOST_SIDE} (default: that of the pictures)"
    )
    parser.add_argument("--grey", action="store_true", help="make grey pictures of colour ones")
    parser.add_argument(
        "--background", choices=tuple(BACKGROUNDS), default="auto",
        help="the plain ground that the pictures lie on; none for photographs (default: what most borders are)",
    )  # fmt: skip
    parser.add_argument("--no-flips", action="store_true", help="a mirrored picture is of another class: digits, signs")


def _download(options: argparse.Namespace, console: Console) -> dict[str, str]:
    name = options.name
    if name not in DATASETS:
        dataset(name)  # says what is known
        raise InvalidValue(f"name must be a dataset that can be downloaded, {' or '.join(DATASETS)}; got {name!r}.")
    with console.bar(0, "B", scale=True) as bar:
        folder = download(name, progress=advance(bar))
    console.say(f"{DATASETS[name].title} is complete in {folder}.")
    return {"name": name, "folder": str(folder)}


def _add(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    size = None if options.size is None else whole("size", options.size, adding.LEAST_SIDE, adding.MOST_SIDE)
    wish = adding.Wish(
        options.title, options.licence, size, 1 if options.grey else None, BACKGROUNDS[options.background],
        False if options.no_flips else None,
    )  # fmt: skip
    with console.bar(0, "pictures") as bar:

        def show(split: str, done: int, total: int) -> None:
            bar.set_description(split)
            bar.total = total
            bar.update(done - bar.n)

        spec = adding.add(options.name, _folder(options), wish, show)
    channels, height, width = spec.shape
    colour = "grey" if channels == 1 else "colour"
    console.say(
        f"Added {spec.name}: {spec.rows['train']:,} training and {spec.rows['test']:,} test pictures of {len(spec.classes):,} "
        f"classes, {width} x {height}, {colour}; licence: {spec.licence}."
    )
    console.say(
        f"It lies in {spec.folder}. Train on it: python -m explorer train baseline --dataset {spec.name} --smoke"
    )
    return _facts(spec)


def _folder(options: argparse.Namespace) -> Path:
    if options.folder is not None:
        return Path(options.folder)
    chosen = chosen_folder()
    if chosen is None:
        raise InvalidValue(
            "data add needs FOLDER: where the dataset lies (or EXPLORER_DATA, with a folder of that name)."
        )
    return chosen / options.name


def _facts(spec: Dataset) -> dict[str, Any]:
    return {
        "name": spec.name, "folder": str(spec.folder), "classes": list(spec.classes), "shape": list(spec.shape),
        "rows": spec.rows, "mean": list(spec.mean), "std": list(spec.std), "background": spec.background,
        "licence": spec.licence, "sha256": spec.sha256,
    }  # fmt: skip


def _remove(options: argparse.Namespace, console: Console) -> dict[str, str]:
    folder = adding.remove(options.name)
    console.say(f"Removed {options.name} from {folder.parent}.")
    return {"name": options.name, "folder": str(folder)}


def _list(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    names = known() if options.name is None else [dataset(options.name).name]
    found = []
    with console.bar(2 * len(names), "sets read") as bar:
        for name in names:
            for split in ("test", "train"):
                found.append(_found(name, split))
                bar.update()
    rows = [[f["name"], f["split"], f"{f['images']:,}" if f["images"] else "-", f["state"]] for f in found]
    console.table(["dataset", "split", "images", "where"], rows)
    return found


VERBS = {
    "list": Verb("the datasets, and what of them is on this computer", _list, _arguments_of_list),
    "download": Verb("fetch a dataset, and verify its checksums", _download, _arguments_of_download),
    "add": Verb(
        "make a dataset of your own known: pictures in folders, parquet or torchvision's files", _add, _arguments_of_add
    ),
    "remove": Verb("forget a dataset that was added, and delete its pixels", _remove, _arguments_of_remove),
}
USUAL = "list"


def _found(name: str, split: str) -> dict[str, Any]:
    """What reading a whole split, checks included, came to."""
    try:
        spec = dataset(name)
        images = len(raw(name, split)[1])
    except DataUnavailable as problem:
        return {"name": name, "split": split, "images": 0, "state": str(problem)}
    state = "the full set" if images == spec.rows[split] else "the bundled sample"
    if spec.folder is not None:
        state = "added" if adding.verified(spec) else "changed since it was added: remove it and add it again"
    return {"name": name, "split": split, "images": images, "state": state}
