"""Confined models: a course's submission (`model.py` with a class `Net`) in a process of its own, behind a Classifier.

Logits, features and gradients come over a pipe, so that every attack, map and certificate works on it as on any network. At
most four such processes live at once; the one that was not used for longest ends, and is started again when it is asked.
"""

from __future__ import annotations

import atexit
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from explorer.core import BadCheckpoint, Classifier
from explorer.core.confinement import IMAGE_SECONDS, REQUEST_SECONDS, START_SECONDS, Confined, Ended, Told
from explorer.core.rng import is_shared
from explorer.models.external import drawn_seed
from explorer.models.own_code import allowed, digest
from explorer.models.submission import fingerprint

ARCHITECTURE = "submission:Net"
INSIDE = Path(__file__).with_name("inside.py")
MOST = 4  # processes that live at once
FRESH_AFTER = 1800.0  # seconds of its own time, after which a process is started anew: half of what it is allowed
BUSY_SECONDS = 300.0  # that a request waits where all processes are at work


@dataclass(frozen=True)
class Submission:
    """What a confined process is to make its network of."""

    name: str  # for sentences
    folder: Path
    shape: tuple[int, ...]
    classes: int
    code: str | None = None  # the hash of its files, without which no process starts; None: whatever they are now

    def check_code(self) -> None:
        """Raises BadCheckpoint if its files are not what they were when it was added."""
        if self.code is not None and digest(fingerprint(self.folder)) != self.code:
            raise BadCheckpoint(
                f"{self.name} was not loaded: the files in {self.folder} have changed since it was added. "
                f"Look at them, then `python -m explorer models check {self.name} --accept`."
            )


@dataclass(eq=False)
class _Entry:
    users: int = 0
    process: Confined | None = None
    about: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Pool:
    """The processes that live, least recently used first."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._entries: OrderedDict[Submission, _Entry] = OrderedDict()
        self._changed = threading.Condition()

    @contextmanager
    def lease(self, submission: Submission) -> Iterator[_Entry]:
        """A live process with this network in it, which stays while the block lasts. Raises Ended and Told."""
        entry = self._taken(submission)
        try:
            with entry.lock:
                self._started(entry, submission)
            yield entry
        finally:
            with self._changed:
                entry.users -= 1
                self._changed.notify_all()

    def _taken(self, submission: Submission) -> _Entry:
        with self._changed:
            room = self._changed.wait_for(lambda: submission in self._entries or self._has_room(), BUSY_SECONDS)
            if not room:
                raise Ended(f"{submission.name} has to wait: all {self.most} confined processes are at work.")
            entry = self._entries.setdefault(submission, _Entry())
            self._entries.move_to_end(submission)
            entry.users += 1
            return entry

    def _has_room(self) -> bool:
        """Whether one more may live; ends the longest unused if it must."""
        if len(self._entries) < self.most:
            return True
        idle = next((key for key, entry in self._entries.items() if entry.users == 0), None)
        if idle is not None:
            _end(self._entries.pop(idle))
        return idle is not None

    def _started(self, entry: _Entry, submission: Submission) -> None:
        process = entry.process
        if process is not None and process.alive and (process.cpu < FRESH_AFTER or entry.users > 1):
            return
        _end(entry)
        submission.check_code()
        process = Confined(INSIDE, {"submission": submission.folder}, submission.name, torch.get_num_threads())
        try:
            wanted: dict[str, Any] = {"shape": list(submission.shape), "classes": submission.classes}
            entry.about, _ = process.ask("load", seconds=START_SECONDS, folder=process.places["submission"], **wanted)
        except BaseException:
            process.end()
            raise
        entry.process = process

    def end(self, submission: Submission | None = None) -> None:
        """End the process of one submission, or all."""
        with self._changed:
            for key in [key for key in self._entries if submission in (None, key)]:
                _end(self._entries.pop(key))
            self._changed.notify_all()

    def end_of(self, name: str) -> None:
        """End every process of this name."""
        for submission in [one for one in list(self._entries) if one.name == name]:
            self.end(submission)

    @property
    def live(self) -> list[Confined]:
        with self._changed:
            return [
                entry.process for entry in self._entries.values() if entry.process is not None and entry.process.alive
            ]


def _end(entry: _Entry) -> None:
    if entry.process is not None:
        entry.process.end()
        entry.process = None


pool = Pool()
atexit.register(pool.end)


class ConfinedClassifier(Classifier):
    """A submission's network; pixels (N,C,H,W) in [0,1] go to its process, logits (N,K) and features (N,D) come back."""

    rounds = False

    def __init__(self, submission: Submission, stochastic: bool = False) -> None:
        shape = submission.shape
        super().__init__([0.0] * shape[0], [1.0] * shape[0], shape, submission.classes)
        self.submission, self.stochastic, self.head = submission, stochastic, nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.both(pixels)[0]

    def features(self, pixels: Tensor) -> Tensor:
        """(N,D): what its last linear layer sees; its logits, if it has none."""
        return self.both(pixels)[1]

    def embed(self, normalised: Tensor) -> Tensor:
        return self.features(normalised)

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        seed = drawn_seed(pixels.device) if self.stochastic else None
        wants = torch.is_grad_enabled() and pixels.requires_grad
        asked = _Asked(self.submission, seed, wants, self.stochastic and is_shared(), self.num_classes)
        logits, features = _Pass.apply(pixels, asked)
        return logits, features


@dataclass(frozen=True)
class _Asked:
    """One pass: which network, which seed, whether a gradient may follow, and whether each image goes alone."""

    submission: Submission
    seed: int | None
    grad: bool
    alone: bool
    classes: int

    def forward(self, entry: _Entry, x: np.ndarray) -> tuple[int, bool, np.ndarray, np.ndarray]:
        process = entry.process
        assert process is not None
        seconds = REQUEST_SECONDS + IMAGE_SECONDS * len(x)
        more = {"seed": self.seed, "grad": self.grad, "alone": self.alone}
        header, found = process.ask("pass", {"x": x}, seconds, **more)
        logits, features = found.get("logits"), found.get("features")
        if logits is None or logits.dtype != np.float32 or logits.shape != (len(x), self.classes):
            got = "nothing" if logits is None else f"shape {logits.shape}"
            raise Told(f"its logits must have shape {(len(x), self.classes)}; got {got}.")
        if features is None or features.dtype != np.float32 or features.ndim != 2 or len(features) != len(x):
            raise Told("its features must have one row for each image.")
        return int(header["number"]), bool(header.get("differentiable")), logits, features

    def backward(self, ticket: int, pixels: Tensor, grads: dict[str, np.ndarray]) -> np.ndarray:
        with _named(self.submission), pool.lease(self.submission) as entry:
            assert entry.process is not None
            seconds = REQUEST_SECONDS + IMAGE_SECONDS * len(pixels)
            header, found = entry.process.ask("gradient", grads, seconds, ticket=ticket)
            if header.get("lost"):  # another pass, or another process, since then
                ticket, *_ = self.forward(entry, _array(pixels))
                header, found = entry.process.ask("gradient", grads, seconds, ticket=ticket)
            gradient = found.get("x")
            if gradient is None or gradient.dtype != np.float32 or gradient.shape != tuple(pixels.shape):
                raise Told("its gradient must have the shape of the images.")
            return gradient


class _Pass(torch.autograd.Function):
    """Logits and features of a confined network, whose gradient is asked of its process."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, asked: _Asked) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with _named(asked.submission), pool.lease(asked.submission) as entry:
            ctx.ticket, differentiable, logits, features = asked.forward(entry, _array(pixels))
        ctx.asked = asked
        ctx.save_for_backward(pixels)
        found = tuple(torch.from_numpy(part).to(pixels.device) for part in (logits, features))
        if not differentiable:
            ctx.mark_non_differentiable(*found)
        return found[0], found[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        (pixels,) = ctx.saved_tensors
        named = {name: _array(g) for name, g in zip(("logits", "features"), grads, strict=True) if g is not None}
        if not named:
            return None, None
        found = ctx.asked.backward(ctx.ticket, pixels, named)
        return torch.from_numpy(found).to(pixels.device, pixels.dtype), None


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


@contextmanager
def _named(submission: Submission) -> Iterator[None]:
    """What its code says about itself is said with its name."""
    try:
        yield
    except Told as refusal:
        raise Ended(f"{submission.name}: {refusal}") from refusal


def load(
    name: str, sha256: str, code: str | None, shape: tuple[int, ...], classes: int, stochastic: bool
) -> Classifier:
    """The submission's model that a card names. Raises BadCheckpoint if it was not added here, or its files have changed."""
    submission = Submission(name, allowed(ARCHITECTURE, sha256, code, name).folder, shape, classes, code)
    submission.check_code()
    return ConfinedClassifier(submission, stochastic)


def convert(file: Path, wanted: Collection[str] = ()) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a weights file of any usual form, read in a confined process, and in words what was done to them.

    `wanted`: the names that a network has, so that what is missing is filled and no prefix of its own is stripped.
    Raises Told, whose sentence names the file, and Ended.
    """
    if not file.is_file():
        raise BadCheckpoint(f"{file.name} is not there.")
    process = Confined(INSIDE, {"file": file}, f"The converter of {file.name}")
    try:
        about: dict[str, Any] = {"file": process.places["file"], "name": file.name, "wanted": list(wanted)}
        header, arrays = process.ask("convert", seconds=START_SECONDS, **about)
    finally:
        process.end()
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, [str(n) for n in header.get("notes", [])]
