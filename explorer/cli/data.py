"""List the datasets and check what is on this computer, or download one.

  python -m explorer data list
  python -m explorer data download cifar10

A download goes to EXPLORER_DATA if that is set, else to the user's cache folder. Its checksums are verified.
"""

from __future__ import annotations

import argparse
from typing import Any

from explorer.cli._console import Console, advance
from explorer.core import DataUnavailable, InvalidValue
from explorer.data import DATASETS, dataset, download, raw


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=("list", "download"), nargs="?", default="list", help="what to do (default: list)"
    )
    parser.add_argument("name", nargs="?", help=f"which dataset to download: {', '.join(DATASETS)}")


def run(options: argparse.Namespace, console: Console) -> Any:
    if options.action == "download":
        return _download(options.name, console)
    if options.name is not None:
        dataset(options.name)
    return _list([options.name] if options.name else list(DATASETS), console)


def _download(name: str | None, console: Console) -> dict[str, str]:
    if name is None:
        raise InvalidValue(f"download needs the name of a dataset, one of {', '.join(DATASETS)}.")
    dataset(name)
    with console.bar(0, "B", scale=True) as bar:
        folder = download(name, progress=advance(bar))
    console.say(f"{DATASETS[name].title} is complete in {folder}.")
    return {"name": name, "folder": str(folder)}


def _list(names: list[str], console: Console) -> list[dict[str, Any]]:
    found = []
    with console.bar(2 * len(names), "sets read") as bar:
        for name in names:
            for split in ("test", "train"):
                found.append(_found(name, split))
                bar.update()
    rows = [[f["name"], f["split"], f"{f['images']:,}" if f["images"] else "-", f["state"]] for f in found]
    console.table(["dataset", "split", "images", "where"], rows)
    return found


def _found(name: str, split: str) -> dict[str, Any]:
    """What reading a whole split, checks included, came to."""
    try:
        images = len(raw(name, split)[1])
    except DataUnavailable as problem:
        return {"name": name, "split": split, "images": 0, "state": str(problem)}
    full = images == dataset(name).rows[split]
    return {"name": name, "split": split, "images": images, "state": "the full set" if full else "the bundled sample"}
