"""The model zoo: a card (JSON) and weights (safetensors) a model, verified before they are believed.

A card is read once for as long as its file's stamp stays the same: whoever asks again gets the very same Card, so never
change what its dicts and lists hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import Tensor, nn

from explorer.core import BadCheckpoint, Classifier, DataUnavailable, InvalidValue, UnknownName
from explorer.core.files import write_atomically
from explorer.core.paths import published, shipped
from explorer.data import dataset
from explorer.models import ARCHITECTURES, confined
from explorer.models.external import build, is_external

PRECISIONS = ("float16", "float32")  # of stored weights
LARGEST_FILE = 512 * 2**20  # bytes; far above anything here, far below what would exhaust memory
OWN_ROOT = shipped("checkpoints")
SETTLED_NS = 2 * 10**9  # a file changed less long ago is read each time: one more change might not show in its stamp


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

    @property
    def identity(self) -> str:
        """What its answers follow from, as a sha256: of the weights, and with them of code of its own where it has some."""
        code = self.training.get("code_sha256")
        return self.sha256 if code is None else hashlib.sha256(f"{self.sha256} {code}".encode()).hexdigest()


def roots() -> list[Path]:
    """Folders that hold models, a later one's before an earlier one's of the same name.

    What runs on this computer published, the project's own, those of EXPLORER_CHECKPOINTS, and `with_extra_root`'s.
    """
    named = os.environ.get("EXPLORER_CHECKPOINTS", "")
    return [published(), OWN_ROOT, *(Path(part) for part in named.split(os.pathsep) if part), *_extra_roots.get()]


_extra_roots: ContextVar[tuple[Path, ...]] = ContextVar("extra_roots", default=())


@contextmanager
def with_extra_root(root: Path) -> Iterator[None]:
    """For this thread, the models of one more folder are there, too: of a run that has not published its own yet."""
    token = _extra_roots.set((*_extra_roots.get(), root))
    try:
        yield
    finally:
        _extra_roots.reset(token)


def cards() -> list[Card]:
    """All readable cards, by name. A damaged one is left out here, and one of a dataset that is not here; `card(name)` and
    `load` say what is wrong."""
    found = {}
    for path in _card_paths():
        try:
            card = _read_card(path)
            dataset(card.dataset)
        except (BadCheckpoint, UnknownName, DataUnavailable):
            continue
        found[card.name] = card
    return [found[name] for name in sorted(found)]


def card(name: str) -> Card:
    """The card of one model; raises UnknownName or BadCheckpoint.

    Examples:
        >>> from explorer.models import zoo
        >>> card = zoo.card("cifar10/lenet")
        >>> card.title, card.parameters, card.stochastic
        ('LeNet', 62006, False)
        >>> next(m["n"] for m in card.measures if m["kind"] == "clean")
        10000
    """
    return _read_card(card_path(name))


def load(name: str, device: torch.device | str = "cpu") -> Classifier:
    """The model of this name, frozen, in eval mode, float32. Raises UnknownName or BadCheckpoint.

    Examples:
        >>> from explorer.data import load
        >>> from explorer.models import zoo
        >>> model, images = zoo.load("cifar10/lenet"), load("cifar10", n=10, source="sample")
        >>> model(images.x).shape, model.features(images.x).shape
        (torch.Size([10, 10]), torch.Size([10, 84]))
    """
    return load_file(card_path(name), device)


def load_file(card_path: Path, device: torch.device | str = "cpu") -> Classifier:
    """As `load`, for a card anywhere on the disk (`.../<dataset>/<name>.json`, its weights beside it)."""
    about = _read_card(card_path)
    if about.architecture == confined.ARCHITECTURE:
        return _load_confined(card_path, about).to(device)
    own = not is_external(about.architecture)  # others may keep what is not among their weights
    with torch.device(
        "meta" if own else "cpu"
    ):  # no memory, and no draw from torch's global generator, for weights that are replaced
        model = empty(about)
    tensors = _read_weights(card_path.parent / about.file, about)
    fill(model, tensors, about.name)
    model = model.freeze().to(device)
    return model.to(memory_format=model.layout)


def _load_confined(card_path: Path, about: Card) -> Classifier:
    """A submission, whose process fills its network itself: of files that are still what they were."""
    _read_weights(card_path.parent / about.file, about)
    spec, code = dataset(about.dataset), about.training.get("code_sha256")
    return confined.load(about.name, about.sha256, code, spec.shape, len(spec.classes), about.stochastic).freeze()


def is_published(name: str) -> bool:
    """Whether a model was made or added on this computer, and did not come with the project. Raises UnknownName."""
    return card_path(name).is_relative_to(published())


def features_file(name: str) -> Path:
    """Where the reference features that come with a model stand, if they do."""
    return features_path(card_path(name))


def features_path(card: Path) -> Path:
    """The file of reference features that belongs to a card's file."""
    return card.with_name(f"{card.stem}.features.safetensors")


def empty(about: Card) -> Classifier:
    """The card's architecture with untrained weights."""
    spec = dataset(about.dataset)
    if is_external(about.architecture):
        code = about.training.get("code_sha256")
        return build(about.architecture, about.arguments, spec, about.name, about.sha256, code)
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
    return write_tensors(folder, about, model.state_dict())


def write_tensors(folder: Path, about: Card, tensors: Mapping[str, Tensor]) -> Card:
    """As `write`, of tensors by their names."""
    half = about.precision == "float16"
    data = save({name: _stored(name, tensor, half) for name, tensor in tensors.items()})
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


# Reading cards: once, for as long as nothing has changed

Stamp = tuple[int, int, int]


def _stamp(path: Path) -> Stamp | None:
    """What another change of this file, or of this folder's entries, would change; None if that is not sure to show.

    Raises OSError for what is not there.
    """
    facts = path.stat()
    settled = time.time_ns() - facts.st_mtime_ns > SETTLED_NS
    return (facts.st_mtime_ns, facts.st_size, facts.st_ino) if settled else None


def _card_paths() -> list[Path]:
    return [path for root in roots() for folder in _found(root, "*") for path in _found(folder, "*.json")]


def _found(folder: Path, pattern: str) -> tuple[Path, ...]:
    """What in a folder fits a pattern, sorted; nothing if it is none."""
    try:
        stamp = _stamp(folder)
    except OSError:
        return ()
    return _searched(folder, pattern) if stamp is None else _searched_once(folder, pattern, stamp)


def _searched(folder: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob(pattern)))


@lru_cache(maxsize=256)
def _searched_once(folder: Path, pattern: str, stamp: Stamp) -> tuple[Path, ...]:
    return _searched(folder, pattern)


def card_path(name: str) -> Path:
    """Where the card of one model lies; raises UnknownName."""
    known = {_name(path): path for path in _card_paths()}
    if name not in known:
        raise UnknownName("model", name, known)
    return known[name]


@lru_cache(maxsize=4096)
def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _read_card(path: Path) -> Card:
    try:
        stamp = _stamp(path)
    except OSError:
        stamp = None  # reading says what is wrong
    return _parsed(path) if stamp is None else _parsed_once(path, stamp)


@lru_cache(maxsize=1024)
def _parsed_once(path: Path, stamp: Stamp) -> Card:
    return _parsed(path)


def _parsed(path: Path) -> Card:
    name = _name(path)
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
    check_size(path, f"The weights of {about.name} are")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != about.sha256:
        raise BadCheckpoint(f"The weights of {about.name} are damaged: {path.name} does not match its card's checksum.")
    try:
        return parse(data)
    except SafetensorError as error:
        raise BadCheckpoint(f"The weights of {about.name} are not a readable safetensors file.") from error


def check_size(path: Path, subject: str) -> None:
    """Raises BadCheckpoint for a file above 512 MB, or above what EXPLORER_WEIGHTS_MB allows."""
    named = os.environ.get("EXPLORER_WEIGHTS_MB", "")
    limit = int(named) << 20 if named.isdecimal() else LARGEST_FILE
    if path.stat().st_size > limit:
        raise BadCheckpoint(f"{subject} larger than {limit >> 20} MB; refused. EXPLORER_WEIGHTS_MB=NUMBER allows more.")


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
