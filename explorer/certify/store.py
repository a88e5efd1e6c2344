"""Cache of certificates on the disk, one for each question: asking again gives the same one, never another try.

A question's seed follows from the question and from a secret that was drawn once for this user: nobody chooses it, and
whoever stops a run, or loses its file, gets the very same draws when he asks again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from torch import Tensor

from explorer.certify.params import CertifyParams, Precision
from explorer.certify.results import Certificate
from explorer.core import InvalidValue
from explorer.core.files import write_atomically
from explorer.data.folders import cache_folder

FOLDER = "certificates"  # in the cache folder
SECRET_BYTES = 32
LARGEST_ENTRY = 2**20  # bytes of one file; they have some thousands

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What a certificate answers: everything that decides about it, but the draws."""

    weights: str  # sha256 of the model's weights, and of its own code if it has some: a card's `identity`
    picture: str  # `picture_hash`
    sigma: float
    n0: int = CertifyParams.n0
    n: int = CertifyParams.n
    alpha: float = CertifyParams.alpha
    precision: Precision = "float32"
    sound: bool = False

    @property
    def key(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def place(self) -> Path:
        """Of its file in the store: what was asked about one picture of one model lies together."""
        return Path(self.weights[:16]) / self.picture[:16] / f"{self.key[:32]}.json"

    def is_answered_by(self, certificate: Certificate) -> bool:
        names = ("sigma", "n0", "n", "alpha", "precision", "sound")
        return all(getattr(self, name) == getattr(certificate, name) for name in names) and not certificate.skipped


@dataclass(frozen=True)
class Answer:
    """A certificate, and how its votes came in."""

    certificate: Certificate
    course: tuple[tuple[int, int], ...] = field(default=(), compare=False)  # estimation draws, votes for the class


def picture_hash(x: Tensor) -> str:
    """Of one picture (C,H,W): its shape and its pixels as float32."""
    pixels = np.ascontiguousarray(x.detach().cpu().float().numpy())
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


class Store:
    """All answers of this user, in files; in memory alone where the folder cannot be written. Safe in any thread or process."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or cache_folder() / FOLDER
        self._memory: dict[str, Answer] = {}
        self._secret: bytes | None = None

    def seed(self, question: Question) -> int:
        """The seed of this question's draws (53 bits)."""
        digest = hmac.new(self._the_secret(), question.key.encode(), "sha256").digest()
        return int.from_bytes(digest[:8], "big") >> 11

    def find(self, question: Question) -> Answer | None:
        """The answer that was given before. A damaged file is set aside: the draws, which can be repeated, make it anew."""
        path = self.folder / question.place
        try:
            if path.stat().st_size > LARGEST_ENTRY:
                raise ValueError("it is too large")
            return _read(path.read_bytes(), question)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("A kept certificate cannot be read (%s): its draws are made once more.", error)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning(
                "The kept certificate %s is damaged (%s): the same draws are made once more.", path.name, error
            )
        return self._memory.get(question.key)

    def keep(self, question: Question, answer: Answer) -> Answer:
        """Keep an answer; returns the one that counts: the first that was kept."""
        if not question.is_answered_by(answer.certificate):
            raise InvalidValue("only a whole certificate of the very question is kept.")
        path = self.folder / question.place
        facts = {"question": asdict(question), "certificate": asdict(answer.certificate), "course": answer.course}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                found = self.find(question)
                if found is None:
                    write_atomically(path, json.dumps(facts, indent=1).encode())
        except OSError as error:
            _log.warning("The certificate cannot be kept on the disk (%s): it is kept until the app ends.", error)
            found = self._memory.setdefault(question.key, answer)
        return found or answer

    def others(self, question: Question) -> int:
        """How many other certificates there are of the same picture and model: each may be wrong with its own alpha."""
        folder = (self.folder / question.place).parent
        kept = {path.name for path in folder.glob("*.json")} if folder.is_dir() else set()
        return len(kept - {question.place.name})

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock")

    def _the_secret(self) -> bytes:
        if self._secret is None:
            path = self.folder / "secret"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with self._lock():
                    self._secret = _secret_of(path)
                    if self._secret is None:
                        self._secret = secrets.token_bytes(SECRET_BYTES)
                        write_atomically(path, self._secret.hex().encode())
            except OSError as error:
                _log.warning("%s cannot be written (%s): seeds hold until the app ends.", self.folder, error)
                self._secret = secrets.token_bytes(SECRET_BYTES)
        return self._secret


def _secret_of(path: Path) -> bytes | None:
    if not path.exists():
        return None
    try:
        found = bytes.fromhex(path.read_text("ascii"))
    except ValueError:
        found = b""
    if len(found) == SECRET_BYTES:
        return found
    _log.warning("The file %s is damaged: certificates from now on have seeds of a new one.", path)
    return None


def _read(data: bytes, question: Question) -> Answer:
    facts: dict[str, Any] = json.loads(data)
    if facts["question"] != asdict(question):
        raise ValueError("it answers another question")
    certificate = Certificate.from_dict(facts["certificate"])
    if not question.is_answered_by(certificate):
        raise ValueError("it answers another question")
    return Answer(certificate, _course(facts["course"], certificate))


def _course(rows: Sequence[Sequence[int]], certificate: Certificate) -> tuple[tuple[int, int], ...]:
    course = tuple((int(drawn), int(votes)) for drawn, votes in rows)
    if course and course[-1] != (certificate.n, certificate.estimation[certificate.selected]):
        raise ValueError("the course of its votes ends elsewhere")
    return course
