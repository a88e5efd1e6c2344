"""An attack of one's own, from a file: run confined, on a copy of the model, its steps recorded and its end handed out.

The file holds a function `attack(model, x, y, eps)` that returns the attacked images, or one class of ours (`core.Attack`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue, Region
from explorer.core.confinement import IMAGE_SECONDS, START_SECONDS, Confined, Ended, Told
from explorer.models import confined, own_code, zoo
from explorer.models.external import has_own_code

PROGRAM = Path(__file__).with_name("attack_program.py")
ROUNDING = 2e-7  # of a pixel: what float32 loses in x - eps and back; clip(x_adv, x - eps, x + eps) is no fault
WALK_SECONDS = 120.0  # and IMAGE_SECONDS for each image


@dataclass(frozen=True, eq=False)
class Walked:
    """What an attack did: the inputs it asked the model at, and what it returned."""

    frames: Tensor  # (T,N,C,H,W) float32, each a batch of the attack's own; those of another shape are not among them
    end: Tensor  # (N,C,H,W) float32
    forwards: int  # passes, all images together
    backwards: int
    left: tuple[str, ...]  # in words, what it did not leave as it was


def unrounded(point: Tensor, region: Region) -> Tensor:
    """The images, those that lie outside by a rounding error alone moved back inside, exactly."""
    back = region.project(point)
    return torch.where((back - point).abs().amax((1, 2, 3), keepdim=True) <= ROUNDING, back, point)


class OwnAttack:
    """A live process that has the attack and a copy of the model."""

    def __init__(self, process: Confined, file: Path, inside: str, model: dict[str, Any]) -> None:
        self._process, self.file, self._inside, self._model = process, file, inside, model
        self.name = ""

    def choose(self, function: str | None) -> None:
        """Load the file and take this function of it, None for `attack` or its one class. Raises InvalidValue."""
        said, _ = self._ask("open", {}, START_SECONDS, file=self._inside, function=function, model=self._model)
        self.name = str(said.get("function", ""))[:100]

    def walk(self, x: Tensor, y: Tensor, norm: str, eps: float, seed: int = 0, flat: bool = False) -> Walked:
        """Attack the images x (N,C,H,W) of classes y (N,); `flat`: a model whose gradient is zero. Raises InvalidValue."""
        arrays = {"x": x.detach().cpu().float().numpy(), "y": y.cpu().numpy()}
        seconds = WALK_SECONDS + IMAGE_SECONDS * len(x)
        header, found = self._ask("walk", arrays, seconds, norm=norm, eps=eps, seed=seed, flat=flat)
        frames, end = found.get("frames"), found.get("end")
        right = frames is not None and end is not None and end.dtype == frames.dtype == np.float32
        if not right or end.shape != tuple(x.shape) or frames.shape[1:] != end.shape:
            raise InvalidValue(f"{self.file.name} must return images of shape {tuple(x.shape)}.")
        left = tuple(str(words)[:200] for words in header.get("left", []))
        return Walked(
            torch.from_numpy(frames), torch.from_numpy(end), int(header["forwards"]), int(header["backwards"]), left
        )

    def tests(self, x: Tensor, y: Tensor, classes: int) -> dict[str, Any]:
        """What the file's test functions say where the last of four batches alone is right."""
        return self._ask("test", {"x": x.numpy(), "y": y.numpy()}, WALK_SECONDS, classes=classes)[0]

    def _ask(self, what: str, arrays: dict[str, np.ndarray], seconds: float, **more: Any) -> Any:
        try:
            return self._process.ask(what, arrays, seconds, **more)
        except Told as refusal:
            raise InvalidValue(f"{self.file.name}: {refusal}") from refusal
        except Ended as end:
            raise InvalidValue(str(end)) from end


@contextmanager
def own_attack(file: Path, model: str | None = None, function: str | None = None) -> Iterator[OwnAttack]:
    """The attack in `file`, in a process of its own while the block lasts.

    `model`: the zoo's name of what it attacks; None: the small network of `explorer.testing`. `function`: its name in the file,
    where it is not `attack`. Raises InvalidValue, UnknownName and BadCheckpoint.
    """
    file = file.expanduser()
    if not file.is_file() or file.suffix != ".py":
        raise InvalidValue(f"the attack must be a Python file with attack(model, x, y, eps); got {str(file)!r}.")
    with _copy_of(model) as (about, folders):
        process = Confined(PROGRAM, {"attack": file.resolve().parent, **folders}, file.name, torch.get_num_threads())
        try:
            places = process.places
            where = {"path": f"{places['model']}{about.pop('below')}"} if "model" in places else {}
            attack = OwnAttack(process, file, f"{places['attack']}/{file.name}", about | where)
            attack.choose(function)
            yield attack
        finally:
            process.end()


@contextmanager
def _copy_of(model: str | None) -> Iterator[tuple[dict[str, Any], dict[str, Path]]]:
    """What the process makes its copy of, and the folder it needs for that."""
    if model is None:
        yield {"kind": "small"}, {}
        return
    card, path = zoo.card(model), zoo.card_path(model)
    if card.architecture == confined.ARCHITECTURE:
        folder = own_code.allowed(card.architecture, card.sha256, card.training.get("code_sha256"), model).folder
        yield {"kind": "submission", "below": ""}, {"model": folder}
        return
    if has_own_code(card.architecture):
        raise InvalidValue(f"{model} is made by code of your own, which is not copied to an attack file's process.")
    with tempfile.TemporaryDirectory() as room:  # the two files alone
        folder = Path(room) / card.dataset
        folder.mkdir()
        for one in (path, path.with_name(card.file)):
            shutil.copyfile(one, folder / one.name)
        yield {"kind": "card", "below": f"/{card.dataset}/{path.name}"}, {"model": Path(room)}
