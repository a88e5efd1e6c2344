"""The zoo: a card (JSON) and weights (safetensors) a model, verified before they are believed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor, nn

from explorer.core import BadCheckpoint, Classifier, InvalidValue, UnknownName
from explorer.core.files import write_atomically
from explorer.core.paths import published, shipped
from explorer.data import dataset
from explorer.models import ARCHITECTURES
from explorer.models.elsewhere import build, is_from_elsewhere

PRECISIONS = ("float16", "float32")  # of stored weights
LARGEST_FILE = 512 * 2**20  # bytes; far above anything here, far below what would exhaust memory


@dataclass(frozen=True)
class Card:
    """What a model is, where it came from, and what was measured on it. Every measure names its own conditions."""

    name: str  # "cifar10/pgd-linf"
    title: str
    summary: str
    dataset: str
    architecture: str
    arguments: dict[str, Any]
    parameters: int
    stochastic: bool
    recipe: str
    hyper: dict[str, Any]
    recipe_hash: str
    training: dict[str, Any]  # data, images, epochs, best epoch, seed, hardware, seconds, date, versions
    history: list[dict[str, float]]
    file: str
    precision: str
    sha256: str
    bytes: int
    command: str
    sigma: float | None = None  # noise level the model was made for, if it is the base of a smoothed classifier
    measures: list[dict[str, Any]] = field(default_factory=list)


def roots() -> list[Path]:
    """Folders that hold models, a later one's before an earlier one's of the same name.

    What runs on this computer published, the project's own, those of EXPLORER_CHECKPOINTS, and `beside`'s.
    """
    own = shipped("checkpoints")
    extra = os.environ.get("EXPLORER_CHECKPOINTS", "")
    return [published(), own, *(Path(part) for part in extra.split(os.pathsep) if part), *_beside.get()]


_beside: ContextVar[tuple[Path, ...]] = ContextVar("beside", default=())


@contextmanager
def beside(root: Path) -> Iterator[None]:
    """For this thread, the models of one more folder are there, too: of a run that has not published its own yet."""
    token = _beside.set((*_beside.get(), root))
    try:
        yield
    finally:
        _beside.reset(token)


def cards() -> list[Card]:
    """All readable cards, by name. A damaged card is left out here; `card(name)` says what is wrong with it."""
    found = {}
    for path in _card_paths():
        try:
            card = _read_card(path)
        except BadCheckpoint:
            continue
        found[card.name] = card
    return [found[name] for name in sorted(found)]


def card(name: str) -> Card:
    """The card of one model; raises UnknownName or BadCheckpoint."""
    return _read_card(card_path(name))


def load(name: str, device: torch.device | str = "cpu") -> Classifier:
    """The model of this name, frozen, in eval mode, float32. Raises UnknownName or BadCheckpoint."""
    return load_file(card_path(name), device)


def load_file(card_path: Path, device: torch.device | str = "cpu") -> Classifier:
    """As `load`, for a card anywhere on the disk (`.../<dataset>/<name>.json`, its weights beside it)."""
    about = _read_card(card_path)
    own = not is_from_elsewhere(about.architecture)  # others may keep what is not among their weights
    with torch.device("meta" if own else "cpu"):  # no memory, and no draw from torch's global generator, for weights that are replaced
        model = empty(about)
    tensors = _read_weights(card_path.parent / about.file, about)
    fill(model, tensors, about.name)
    model = model.freeze().to(device)
    return model.to(memory_format=model.layout)


def features_file(name: str) -> Path:
    """Where the reference features that come with a model stand, if they do."""
    return features_beside(card_path(name))


def features_beside(card: Path) -> Path:
    """The file of reference features that belongs to a card's file."""
    return card.with_name(f"{card.stem}.features.safetensors")


def empty(about: Card) -> Classifier:
    """The card's architecture with untrained weights."""
    spec = dataset(about.dataset)
    if is_from_elsewhere(about.architecture):
        return build(about.architecture, about.arguments, spec, about.name, about.sha256)
    try:
        return ARCHITECTURES[about.architecture](spec.mean, spec.std, spec.shape, len(spec.classes), **about.arguments)
    except TypeError as error:
        raise BadCheckpoint(
            f"The card of {about.name} has arguments that {about.architecture} does not take."
        ) from error


def write(folder: Path, about: Card, model: Classifier) -> Card:
    """Save weights and card; returns the card with hash and size.

    The card's `precision` rules: "float16" (batch-norm statistics and buffers stay float32) or "float32".
    """
    if about.precision not in PRECISIONS:
        raise InvalidValue(f"precision must be one of {', '.join(PRECISIONS)}; got {about.precision!r}.")
    half = about.precision == "float16"
    data = save({name: _stored(name, tensor, half) for name, tensor in model.state_dict().items()})
    stem = about.name.split("/")[-1]
    facts = asdict(about) | {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "file": f"{stem}.safetensors",
    }
    done = Card(**facts)
    write_atomically(folder / done.file, data)
    write_card(folder, done)
    return done


def write_card(folder: Path, about: Card) -> None:
    """Save the card alone (its measures changed)."""
    text = json.dumps(asdict(about), indent=1, ensure_ascii=False)
    write_atomically(folder / f"{about.name.split('/')[-1]}.json", text.encode() + b"\n")


def _stored(name: str, tensor: Tensor, half: bool) -> Tensor:
    keep = not half or not tensor.is_floating_point() or "running_" in name or name in ("mean", "std")
    return tensor.detach().cpu().contiguous() if keep else tensor.detach().cpu().half().contiguous()


def _card_paths() -> list[Path]:
    return [path for root in roots() if root.is_dir() for path in sorted(root.glob("*/*.json"))]


def card_path(name: str) -> Path:
    """Where the card of one model lies; raises UnknownName."""
    known = {f"{path.parent.name}/{path.stem}": path for path in _card_paths()}
    if name not in known:
        raise UnknownName("model", name, known)
    return known[name]


def _read_card(path: Path) -> Card:
    name = f"{path.parent.name}/{path.stem}"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise ValueError("not an object")
        about = Card(**{f.name: facts[f.name] for f in fields(Card) if f.name in facts})
    except (OSError, ValueError, TypeError) as error:
        raise BadCheckpoint(f"The card of {name} cannot be read: {path.name} is damaged or incomplete.") from error
    if about.name != name or "/" in about.file or about.file.startswith("."):
        raise BadCheckpoint(f"The card {path.name} names another model or file ({about.name}, {about.file}).")
    return about


def _read_weights(path: Path, about: Card) -> dict[str, Tensor]:
    if not path.is_file():
        raise BadCheckpoint(f"The weights of {about.name} are missing: {path.name} does not stand beside its card.")
    if path.stat().st_size > LARGEST_FILE:
        raise BadCheckpoint(f"The weights of {about.name} are larger than {LARGEST_FILE >> 20} MB; refused.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != about.sha256:
        raise BadCheckpoint(f"The weights of {about.name} are damaged: {path.name} does not match its card's checksum.")
    try:
        return parse(data)
    except SafetensorError as error:
        raise BadCheckpoint(f"The weights of {about.name} are not a readable safetensors file.") from error


def fill(model: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """The weights into the model; raises BadCheckpoint for a name, a shape or a value that does not belong there."""
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        raise BadCheckpoint(
            f"The weights of {name} do not fit its architecture: missing {missing[:3]}, unexpected {extra[:3]}."
        )
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise BadCheckpoint(
                f"The weights of {name} do not fit: {key} has shape {tuple(tensor.shape)}, expected {tuple(wanted[key].shape)}."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadCheckpoint(f"The weights of {name} hold values that are not finite, in {key}.")
    model.load_state_dict({key: tensor.to(wanted[key].dtype) for key, tensor in tensors.items()}, assign=True)
