"""External networks as Classifiers: torchvision's, timm's, RobustBench's, and what a factory of the user's makes.

A card names them in `architecture`: "torchvision:resnet18", "timm:resnet18", "robustbench:NAME" or "package.module:factory". The
first three are looked up in these libraries' own lists. The last runs the user's code, so it is imported only where a person has
added that very model on this computer (`own_code.allow`): a card that somebody else has put into a folder imports nothing.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.core import BadCheckpoint, Classifier, InvalidValue, current_rng
from explorer.core.rng import is_shared
from explorer.data.specs import Dataset
from explorer.models import robustbench
from explorer.models.own_code import Code, allowed

LIBRARIES = ("torchvision", "timm", "robustbench")
FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d)  # a convolution is linear at each place: some nets end in one

_box: ContextVar[list[Tensor] | None] = ContextVar("seen_by_last_layer", default=None)


def is_external(architecture: str) -> bool:
    """Whether a card's architecture is not one of our own."""
    return ":" in architecture


def has_own_code(architecture: str) -> bool:
    """Whether a card's architecture is code that somebody brought: neither ours nor a library's."""
    return is_external(architecture) and architecture.partition(":")[0] not in LIBRARIES


class ExternalClassifier(Classifier):
    """`net` maps normalised pixels (N,C,H,W) to logits (N,K); `last` names its last linear layer.

    What that layer sees are the features, means over places where it sees several. `size`: pixels are first enlarged to
    size x size (bilinear), for nets made for larger images; 0: left as they are. `stochastic`: the network draws from torch's
    global generator, which each pass seeds from the generator in use and then puts back.
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
        stochastic: bool = False,
    ):
        super().__init__(mean, std, input_shape, num_classes)
        self.net, self.last, self.size, self.stochastic = net, last, size, stochastic
        net.get_submodule(last).register_forward_pre_hook(_keep)

    @property
    def head(self) -> nn.Module:  # type: ignore[override]  # part of `net`, and never set
        return self.net.get_submodule(self.last)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.both(pixels)[0]

    def embed(self, normalised: Tensor) -> Tensor:
        return self._pass(normalised)[1]

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self._pass((pixels - self.mean) / self.std)

    def _pass(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        if self.size:
            normalised = enlarged(normalised, self.size)
        if not self.stochastic:
            return self._seen(normalised)
        seed, found = drawn_seed(normalised.device), []
        for some in normalised.split(1) if is_shared() else [normalised]:  # a shared draw: each image alone, one seed
            with _drawing, torch.random.fork_rng(devices=[some.device] if some.is_cuda else []):
                torch.manual_seed(seed)
                found.append(self._seen(some))
        logits, features = zip(*found, strict=True)
        return torch.cat(logits), torch.cat(features)

    def _seen(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and what the last layer saw, in one pass."""
        box: list[Tensor] = []
        token = _box.set(box)
        try:
            logits = self.net(normalised)
        finally:
            _box.reset(token)
        return logits, _flat(box[-1])


_drawing = threading.Lock()  # one network at a time draws from the global generator


def drawn_seed(device: torch.device) -> int:
    """A seed for one pass of somebody's random network, from the generator in use."""
    rng = current_rng(device)
    return int(torch.randint(2**62, (1,), generator=rng, device=device if rng is None else rng.device))


def enlarged(x: Tensor, size: int) -> Tensor:
    """x (N,C,H,W) at size x size, bilinear; on a GPU as two matrix products, as interpolation's gradient is not repeatable there."""
    if x.device.type == "cpu":
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    rows, columns = (_bilinear(n, size, x.device).to(x.dtype) for n in x.shape[2:])
    return rows @ x @ columns.T


def _bilinear(n: int, size: int, device: torch.device) -> Tensor:
    """(size,n): row i holds the weights of the old pixels in new pixel i."""
    source = ((torch.arange(size, device=device) + 0.5) * (n / size) - 0.5).clamp(0, n - 1)
    return (1 - (source[:, None] - torch.arange(n, device=device)).abs()).clamp(min=0)


def _keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    box = _box.get()
    if box is not None:
        box.append(inputs[0])


def _flat(seen: Tensor) -> Tensor:
    """(N,D) of what a layer sees: (N,D), (N,D,H,W), or (N,T,D) of tokens."""
    if seen.ndim == 4:
        return seen.mean((2, 3))
    return seen.mean(1) if seen.ndim == 3 else seen


def net_of(architecture: str, spec: Dataset, code: Code | None = None) -> nn.Module:
    """The untrained network for a dataset. A factory of the user's is IMPORTED AND CALLED: of `code`, else of the working folder.

    A factory gets `num_classes` if it takes it. Raises InvalidValue for what is no such name, or cannot be made.
    """
    library, _, name = architecture.partition(":")
    if library not in LIBRARIES and not FACTORY.fullmatch(architecture):
        raise InvalidValue(
            "architecture must be torchvision:NAME, timm:NAME, robustbench:NAME, package.module:factory, or a model here that it "
            f"is built as; got {architecture!r}."
        )
    classes, channels = len(spec.classes), spec.shape[0]
    with torch.random.fork_rng(devices=[]):  # layer constructors draw from torch's global generator
        if library == "torchvision":
            return _from_torchvision(name, classes, channels)
        if library == "timm":
            return _from_timm(name, classes, channels)
        if library == "robustbench":
            return robustbench.network(name, spec.name)
        return _from_factory(architecture, classes, code)


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
    if name.partition(".")[0] not in timm.list_models():  # also no name that would be looked up on the network
        raise InvalidValue(f"timm has no classifier {name!r}; `timm.list_models()` names them.")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)


def _from_factory(architecture: str, num_classes: int, code: Code | None) -> nn.Module:
    module_name, _, name = architecture.partition(":")
    try:
        code = Code.of(module_name, str(Path.cwd())) if code is None else code
        factory = getattr(code.module(module_name), name)
        takes = inspect.signature(factory).parameters
        named = "num_classes" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values())
        net = factory(num_classes=num_classes) if named else factory()
    except SystemExit as error:
        raise InvalidValue(f"{architecture} could not be made: its module ends the program when imported.") from error
    except Exception as error:  # anything may go wrong in somebody's code; it is told with its reason
        first = str(error).splitlines()[0] if str(error) else ""
        raise InvalidValue(f"{architecture} could not be made: {type(error).__name__}: {first}") from error
    if not isinstance(net, nn.Module):
        raise InvalidValue(f"{architecture} must return a torch.nn.Module; got {type(net).__name__}.")
    return net


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


def build(
    architecture: str, arguments: dict[str, Any], spec: Dataset, name: str, sha256: str, code: str | None = None
) -> ExternalClassifier:
    """A card's network, untrained, for the dataset `spec`; `code` is the hash of its own code that the card names.

    Raises BadCheckpoint if it may not or cannot be made here.
    """
    own = allowed(architecture, sha256, code, name) if has_own_code(architecture) else None
    try:
        net = net_of(architecture, spec, own)
        return ExternalClassifier(spec.mean, spec.std, spec.shape, len(spec.classes), net, **arguments)
    except (InvalidValue, TypeError, AttributeError) as error:
        raise BadCheckpoint(f"{name} cannot be loaded: {error}") from error
