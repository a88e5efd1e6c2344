"""The store of fitted generators: a card (JSON) and tensors (safetensors) each, verified before they are believed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor

from explorer.core import BadCheckpoint, InvalidValue, UnknownName, seeded
from explorer.core.device import hardware_name
from explorer.core.files import write_atomically
from explorer.core.paths import runs
from explorer.data import dataset
from explorer.data.samples import Samples, samples_file, write_samples
from explorer.proxies import GENERATORS
from explorer.proxies.generator import Generator, Progress, balanced_labels, halves

NAME = re.compile(r"[a-z0-9_]+/[a-z0-9][a-z0-9._-]*")
SHIPPED = Path(__file__).parent / "fitted"  # those that come with the project
SMOKE_IMAGES = 512


@dataclass(frozen=True)
class GeneratorCard:
    """What a generator is, how it was fitted, and the hash by which its tensors are believed."""

    name: str  # "fashion_mnist/flow"
    generator: str  # its key
    dataset: str
    hyper: dict[str, Any]
    images: int  # real ones that it was fitted to
    source: str
    fitted: dict[str, Any]  # seconds, date, hardware, threads, torch
    command: str
    file: str
    bytes: int
    sha256: str

    @property
    def settings(self) -> Generator:
        return GENERATORS[self.generator].from_dict(self.hyper)


def folder() -> Path:
    """Where those fitted on this computer lie, as <dataset>/<name>."""
    return runs() / "proxies"


def names() -> list[str]:
    return sorted(_places())


def _places() -> dict[str, Path]:
    """Cards by name; one of this computer's before a shipped one of the same name."""
    found = [path for root in (SHIPPED, folder()) for path in sorted(root.glob("*/*.json"))]
    return {f"{path.parent.name}/{path.stem}": path for path in found}


def card(name: str) -> GeneratorCard:
    """Raises UnknownName, and BadCheckpoint for a card that cannot be read."""
    places = _places()
    if name not in places:
        raise UnknownName("fitted generator", name, places)
    try:
        return GeneratorCard(**json.loads(places[name].read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadCheckpoint(f"The card of the generator {name} is damaged or incomplete.") from error


def load(name: str) -> tuple[GeneratorCard, dict[str, Tensor]]:
    """A generator's card and what it has learned. Raises UnknownName, BadCheckpoint (also where the hash is another)."""
    about = card(name)
    path = _places()[name].with_suffix(".safetensors")
    if not path.is_file():
        raise BadCheckpoint(
            f"The tensors of the generator {name} are missing: {path.name} does not stand beside its card."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != about.sha256:
        raise BadCheckpoint(f"The generator {name} was changed: {path.name} does not match its card's checksum.")
    try:
        return about, parse(data)
    except SafetensorError as error:
        raise BadCheckpoint(f"The tensors of the generator {name} are not a readable safetensors file.") from error


def fit(
    key: str, settings: Generator, data: str, name: str, device: torch.device, progress: Progress, command: str,
    limit: int | None = None,
) -> GeneratorCard:  # fmt: skip
    """Fit a generator to its half of a dataset's training images (the first `limit` of them), and keep it under `name`.

    What a kill or Ctrl-C leaves is taken up by the same call. Raises InvalidValue for a name that cannot be, or is taken.
    """
    spec = dataset(data)
    if not NAME.fullmatch(name) or not name.startswith(f"{data}/"):
        raise InvalidValue(f"name must be {data}/ and then small letters, digits, dots and dashes; got {name!r}.")
    if name in _places():
        raise InvalidValue(f"there is a generator called {name} already: choose another name, or delete its two files.")
    own, other = halves(data)
    real = other if settings.other_half else own
    real = real if limit is None else real.first(limit)
    work, began = folder() / data / f".{name.split('/')[1]}", time.monotonic()
    learned = settings.fit(real, device, work, progress)
    which = "second" if settings.other_half else "first"
    packed = save(learned)
    about = GeneratorCard(
        name, key, data, settings.to_dict(), len(real),
        f"{spec.title} train, {len(real):,} of {spec.rows['train']:,} images, of the {which} half",
        {
            "seconds": round(time.monotonic() - began, 1), "date": datetime.now(UTC).date().isoformat(),
            "hardware": hardware_name(device), "threads": torch.get_num_threads(), "torch": torch.__version__,
        },
        command, f"{name.split('/')[1]}.safetensors", len(packed), hashlib.sha256(packed).hexdigest(),
    )  # fmt: skip
    write_atomically(folder() / data / about.file, packed)
    text = json.dumps(asdict(about), indent=1, ensure_ascii=False) + "\n"
    write_atomically(folder() / f"{name}.json", text.encode())
    shutil.rmtree(work, ignore_errors=True)
    return about


def draw(
    name: str, n: int, seed: int, device: torch.device, out: str | None = None, changed: Mapping[str, Any] | None = None
) -> Samples:
    """Draw n images, evenly of all classes, and keep them as `out` (default: name, n and seed).

    `changed`: settings of the drawing that differ from the card's. Raises InvalidValue for n below 1 or a name that is taken.
    """
    about, learned = load(name)
    spec, settings = dataset(about.dataset), about.settings
    labels = balanced_labels(n, len(spec.classes))
    out = out or f"{name}-n{n}-s{seed}"
    if not NAME.fullmatch(out) or not out.startswith(f"{about.dataset}/"):
        raise InvalidValue(
            f"out must be {about.dataset}/ and then small letters, digits, dots and dashes; got {out!r}."
        )
    if samples_file(out).exists():
        raise InvalidValue(
            f"there are samples called {out} already: choose another name, or delete {samples_file(out)}."
        )
    settings = type(settings).from_dict(settings.to_dict() | dict(changed or {}))
    x = settings.draw(learned, labels, spec.shape, seeded(seed, device))
    facts = {
        "name": out, "dataset": about.dataset, "generator": name, "key": about.generator, "generator_sha256": about.sha256,
        "hyper": settings.to_dict(), "n": n, "seed": seed, "device": device.type, "torch": torch.__version__,
    }  # fmt: skip
    return write_samples(out, (x * 255).round().to(torch.uint8).cpu(), labels, facts)
