"""Adding an external model to the zoo: looked at from all sides first, and refused by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import Tensor, nn

from explorer.core import BadCheckpoint, InvalidValue, seeded
from explorer.core.paths import published
from explorer.data import dataset
from explorer.models import zoo
from explorer.models.external import LIBRARIES, ExternalClassifier, allow, folder_of, last_linear, net_of
from explorer.training.export import NAME

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
HEADS = (b"PK\x03\x04", b"\x80")  # a zip archive, as torch.save writes it; a bare pickle
PROBES = 2  # images in the probe
RTOL, ATOL = 1e-3, 1e-4  # within which two passes over them agree


@dataclass(frozen=True)
class Addition:
    """What somebody says about a model of theirs. mean and std are of pixels in [0,1], one number or one a channel."""

    name: str  # "cifar10/mine"
    architecture: str  # torchvision:NAME, timm:NAME or package.module:factory
    weights: Path  # a safetensors file
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    size: int = 0  # pixels a side that images are enlarged to; 0: not
    title: str = ""
    command: str = ""


def add(asked: Addition) -> zoo.Card:
    """Check everything, then write weights and card where the zoo finds what runs on this computer made.

    A user's factory is imported and called, and may from then on be imported for these weights: call this for the person
    at the keyboard only. Raises InvalidValue, BadCheckpoint, UnknownName.
    """
    if not NAME.fullmatch(asked.name):
        raise InvalidValue(
            f"name must be DATASET/ and then small letters, digits, dots and dashes; got {asked.name!r}."
        )
    spec = dataset(asked.name.partition("/")[0])
    if asked.classes != len(spec.classes):
        raise InvalidValue(f"classes must be {len(spec.classes)}, as {spec.title} has so many; got {asked.classes}.")
    if asked.name in {card.name for card in zoo.cards()}:
        raise InvalidValue(f"{asked.name} is there already; choose another name.")
    mean, std = (_channels(word, values, spec.shape[0]) for word, values in (("mean", asked.mean), ("std", asked.std)))
    if min(std) <= 0:
        raise InvalidValue(f"std must be above 0; got {min(std):g}.")
    data = read_weights(asked.weights)
    net = net_of(asked.architecture, asked.classes, spec.shape[0], str(Path.cwd())).eval()
    zoo.fill(net, data, asked.name)
    probe = torch.rand((PROBES, *spec.shape), generator=seeded(0))
    model = probed(net, asked, mean, std, probe)
    own_code = asked.architecture.partition(":")[0] not in LIBRARIES
    folder = published() / spec.name
    card = zoo.write(folder, _card(asked, model, spec.name), model)
    if own_code:
        allow(asked.architecture, card.sha256, folder_of(asked.architecture))
    with torch.no_grad():
        same = torch.allclose(zoo.load(card.name)(probe), model(probe), rtol=RTOL, atol=ATOL)
    if not same:
        (folder / card.file).unlink()
        zoo.card_path(card.name).unlink()
        raise BadCheckpoint(
            f"{card.name} answers differently once it is loaded from its file: it keeps something beside its weights."
        )
    return card


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises BadCheckpoint for a pickle, which is not opened, and for anything else."""
    if not path.is_file():
        raise BadCheckpoint(f"{path.name} is not there.")
    with open(path, "rb") as file:
        head = file.read(4)
    if path.suffix.lower() in PICKLES or head.startswith(HEADS):
        raise BadCheckpoint(
            f"{path.name} is a pickle, which can run code when it is read, so it was not opened: save the state_dict with "
            "safetensors.torch.save_file instead."
        )
    if path.stat().st_size > zoo.LARGEST_FILE:
        raise BadCheckpoint(f"{path.name} is larger than {zoo.LARGEST_FILE >> 20} MB; refused.")
    try:
        return parse(path.read_bytes())
    except SafetensorError as error:
        raise BadCheckpoint(f"{path.name} is not a readable safetensors file.") from error


def probed(net: nn.Module, asked: Addition, mean: list[float], std: list[float], probe: Tensor) -> ExternalClassifier:
    """The network behind our door, after a forward and a backward pass over the `probe` (N,C,H,W) went well.

    Raises InvalidValue if not.
    """
    shape = tuple(probe.shape[1:])
    side = (asked.size, asked.size) if asked.size else shape[1:]
    what = f"{asked.architecture} on images of {' x '.join(map(str, (shape[0], *side)))}"
    try:
        last = last_linear(net, torch.zeros(len(probe), shape[0], *side))
        model = ExternalClassifier(mean, std, shape, asked.classes, net, last, asked.size).freeze()
        leaf = probe.clone().requires_grad_(True)
        logits = model(leaf)
    except InvalidValue:
        raise
    except Exception as error:  # anything may go wrong in somebody's network; it is told with its reason
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidValue(f"the probe failed, {what}: {first}") from error
    wanted = (len(probe), asked.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidValue(f"the probe must give logits of shape {wanted}, {what}; got {got}.")
    if not bool(torch.isfinite(logits).all()):
        raise InvalidValue(f"the probe gave logits that are not finite, {what}.")
    if not logits.requires_grad:
        raise InvalidValue(f"no gradient reaches the pixels, {what}: most attacks need one.")
    (gradient,) = torch.autograd.grad(logits.sum(), leaf, allow_unused=True)
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        raise InvalidValue(f"no finite gradient reaches the pixels, {what}: most attacks need one.")
    with torch.no_grad():
        again = model(probe)
    if not torch.allclose(again, logits.detach(), rtol=RTOL, atol=ATOL):
        raise InvalidValue(
            f"two passes over the same images differ, {what}: it draws at random by itself, which cannot be repeated."
        )
    return model


def _channels(word: str, values: Sequence[float], channels: int) -> list[float]:
    values = list(values) * channels if len(values) == 1 else list(values)
    if len(values) != channels or not all(abs(v) < 1e6 for v in values):  # NaN compares false
        raise InvalidValue(f"{word} must be one number, or {channels} separated by commas; got {values}.")
    return values


def _card(asked: Addition, model: ExternalClassifier, name: str) -> zoo.Card:
    digest = hashlib.sha256(asked.weights.read_bytes()).hexdigest()
    training = {
        "trained": "elsewhere; nothing is known here but what its owner said",
        "weights": asked.weights.name,
        "weights_sha256": digest,
        "mean": list(asked.mean),
        "std": list(asked.std),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
    }
    return zoo.Card(
        name=asked.name,
        title=asked.title or asked.name.partition("/")[2],
        summary=f"From elsewhere: {asked.architecture}, added on this computer.",
        dataset=name,
        architecture=asked.architecture,
        arguments={"last": model.last, "size": asked.size},
        parameters=sum(p.numel() for p in model.parameters()),
        stochastic=False,
        recipe="from elsewhere",
        hyper={},
        recipe_hash="",
        training=training,
        history=[],
        file="",
        precision="float32",
        sha256="",
        bytes=0,
        command=asked.command,
    )
