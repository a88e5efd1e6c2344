"""External networks as Classifiers: torchvision's, timm's, and what a factory of the user's makes.

A card names them in `architecture`: "torchvision:resnet18", "timm:resnet18" or "package.module:factory". The first two
are looked up in these libraries' own lists. The third runs the user's code, so it is imported only where a person has
added that very model on this computer (`allow`): a card that somebody else has put into a folder imports nothing.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import BadCheckpoint, Classifier, InvalidValue
from explorer.core.files import write_atomically
from explorer.data.folders import cache_folder

LIBRARIES = ("torchvision", "timm")
FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d)  # a convolution is linear at each place: some nets end in one

_seen: ContextVar[list[Tensor] | None] = ContextVar("seen_by_last_layer", default=None)


def is_external(architecture: str) -> bool:
    """Whether a card's architecture is not one of our own."""
    return ":" in architecture


class ExternalClassifier(Classifier):
    """`net` maps normalised pixels (N,C,H,W) to logits (N,K); `last` names its last linear layer.

    What that layer sees are the features, means over places where it sees several. `size`: pixels are first enlarged to
    size x size (bilinear), for nets made for larger images; 0: left as they are.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        input_shape: Sequence[int],
        num_classes: int,
        net: nn.Module,
        last: str,
        size: int = 0,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        self.net, self.last, self.size = net, last, size
        net.get_submodule(last).register_forward_pre_hook(_keep)

    @property
    def head(self) -> nn.Module:
        return self.net.get_submodule(self.last)

    def forward(self, pixels: Tensor) -> Tensor:
        return self._logits((pixels - self.mean) / self.std)

    def embed(self, normalised: Tensor) -> Tensor:
        return self._pass(normalised)[1]

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self._pass((pixels - self.mean) / self.std)

    def _pass(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        box: list[Tensor] = []
        token = _seen.set(box)
        try:
            logits = self._logits(normalised)
        finally:
            _seen.reset(token)
        return logits, _flat(box[-1])

    def _logits(self, normalised: Tensor) -> Tensor:
        if self.size:
            normalised = F.interpolate(normalised, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return self.net(normalised)


def _keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    box = _seen.get()
    if box is not None:
        box.append(inputs[0])


def _flat(seen: Tensor) -> Tensor:
    """(N,D) of what a layer sees: (N,D), (N,D,H,W), or (N,T,D) of tokens."""
    if seen.ndim == 4:
        return seen.mean((2, 3))
    return seen.mean(1) if seen.ndim == 3 else seen


def net_of(architecture: str, num_classes: int, channels: int, folder: str | None = None) -> nn.Module:
    """The untrained network. A factory of the user's is IMPORTED AND CALLED, from `folder` if it is found nowhere else.

    A factory gets `num_classes` if it takes it. Raises InvalidValue for what is no such name, or cannot be made.
    """
    library, _, name = architecture.partition(":")
    if library not in LIBRARIES and not FACTORY.fullmatch(architecture):
        raise InvalidValue(
            f"architecture must be torchvision:NAME, timm:NAME or package.module:factory; got {architecture!r}."
        )
    with torch.random.fork_rng(devices=[]):  # layer constructors draw from torch's global generator
        if library == "torchvision":
            return _from_torchvision(name, num_classes, channels)
        if library == "timm":
            return _from_timm(name, num_classes, channels)
        return _from_factory(architecture, num_classes, folder)


def _from_torchvision(name: str, num_classes: int, channels: int) -> nn.Module:
    from torchvision import models  # takes a second to import: only who asks waits

    if name not in models.list_models(module=models):
        raise InvalidValue(f"torchvision has no classifier {name!r}; `torchvision.models.list_models()` names them.")
    if channels != 3:
        raise InvalidValue(f"torchvision's classifiers take 3 channels; this dataset's images have {channels}.")
    return models.get_model(name, weights=None, num_classes=num_classes)


def _from_timm(name: str, num_classes: int, channels: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise InvalidValue("timm is not installed, so timm:NAME cannot be made: `pip install timm` first.") from error
    if name not in timm.list_models():  # also no name that would be looked up on the network
        raise InvalidValue(f"timm has no classifier {name!r}; `timm.list_models()` names them.")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)


def _from_factory(architecture: str, num_classes: int, folder: str | None) -> nn.Module:
    module_name, _, name = architecture.partition(":")
    if folder and folder not in sys.path:
        sys.path.append(folder)  # last: it hides nothing
    try:
        factory = getattr(importlib.import_module(module_name), name)
        takes = inspect.signature(factory).parameters
        named = "num_classes" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values())
        net = factory(num_classes=num_classes) if named else factory()
    except Exception as error:  # anything may go wrong in somebody's code; it is told with its reason
        first = str(error).splitlines()[0] if str(error) else ""
        raise InvalidValue(f"{architecture} could not be made: {type(error).__name__}: {first}") from error
    if not isinstance(net, nn.Module):
        raise InvalidValue(f"{architecture} must return a torch.nn.Module; got {type(net).__name__}.")
    return net


def folder_of(architecture: str) -> str:
    """Where the user's package or module that this factory is in lies: what would have to be on sys.path."""
    module_name = architecture.partition(":")[0]
    file = getattr(sys.modules[module_name], "__file__", None)
    up = module_name.count(".") + (1 if file and Path(file).name == "__init__.py" else 0)
    return str(Path(file).resolve().parents[up]) if file else ""


def last_linear(net: nn.Module, x: Tensor) -> str:
    """The name of the linear layer (or convolution) that runs last in a pass over x; raises InvalidValue if none does."""
    order: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, __, name=name: order.append(name))
        for name, module in net.named_modules()
        if isinstance(module, LINEAR)
    ]
    try:
        with torch.no_grad():
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not order:
        raise InvalidValue("the network has no linear layer, so it is not known which features its answer is made of.")
    return order[-1]


def build(architecture: str, arguments: dict[str, Any], spec: Any, name: str, sha256: str) -> ExternalClassifier:
    """A card's network, untrained, for the dataset `spec`. Raises BadCheckpoint if it may not or cannot be made here."""
    folder = None
    if architecture.partition(":")[0] not in LIBRARIES:
        folder = allowed(architecture, sha256)
        if folder is None:
            raise BadCheckpoint(
                f"{name} needs code of its own, {architecture}, which was not added on this computer, so none of it was run: "
                "`python -m explorer models add` does that."
            )
    try:
        net = net_of(architecture, len(spec.classes), spec.shape[0], folder)
        return ExternalClassifier(spec.mean, spec.std, spec.shape, len(spec.classes), net, **arguments)
    except (InvalidValue, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{name} cannot be loaded: {error}") from error


# Which code of others may run on this computer


def _list() -> Path:
    return cache_folder() / "factories.json"


def _entries() -> list[dict[str, str]]:
    try:
        found = json.loads(_list().read_text("utf-8"))
    except (OSError, ValueError):
        return []  # nothing is allowed
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def allow(architecture: str, sha256: str, folder: str) -> None:
    """From now on, on this computer and for this user, the model of these weights may import this factory."""
    entry = {"factory": architecture, "sha256": sha256, "folder": folder}
    kept = [other for other in _entries() if other != entry]
    write_atomically(_list(), json.dumps([*kept, entry], indent=1).encode())


def allowed(architecture: str, sha256: str) -> str | None:
    """The folder to import the factory from, None if a model of these weights may not import it."""
    for entry in _entries():
        if entry.get("factory") == architecture and entry.get("sha256") == sha256:
            return entry.get("folder", "")
    return None
