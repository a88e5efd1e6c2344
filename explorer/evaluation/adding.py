"""Adding an external model to the zoo: looked at from all sides first, and refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import Tensor, nn

from explorer.core import BadCheckpoint, Classifier, InvalidValue, seeded, use_generator
from explorer.core.confinement import Told
from explorer.core.files import sha256_of
from explorer.core.paths import published
from explorer.data import dataset
from explorer.data.specs import Dataset
from explorer.evaluation.checking import remove
from explorer.evaluation.probing import ATOL, RTOL, Probe, about_range, first_line, probe, sample
from explorer.models import confined, robustbench, zoo
from explorer.models.external import FACTORY, ExternalClassifier, has_own_code, is_external, last_linear, net_of
from explorer.models.own_code import Code, allow
from explorer.training.export import NAME

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
PICKLES = (b"PK\x03\x04", b"\x80")  # a zip archive, as torch.save writes it; a bare pickle
PROBES = 2  # images that the loaded model is asked again


@dataclass(frozen=True)
class Addition:
    """What somebody says about a model of theirs. mean and std are of pixels in [0,1], one number or one a channel."""

    name: str  # "cifar10/mine"
    architecture: str  # torchvision:NAME, timm:NAME, robustbench:NAME, module:factory, or a model it is built as
    weights: Path  # a safetensors file; with `convert` any usual form
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    size: int = 0  # pixels a side that images are enlarged to; 0: not
    title: str = ""
    command: str = ""
    convert: bool = False  # read the weights in a confined process, whatever their form
    facts: Mapping[str, str] = field(default_factory=dict)  # what is known of its training, for its card

    @property
    def built_as(self) -> zoo.Card | None:
        """The model here whose architecture it has, if it names one."""
        return zoo.card(self.architecture) if "/" in self.architecture and ":" not in self.architecture else None


def add(asked: Addition, say: Callable[[str], None] = lambda doing: None) -> zoo.Card:
    """Check everything, then write weights and card where the zoo finds what runs on this computer made.

    A user's factory is imported and called, and may from then on be imported for these weights: call this for the person
    at the keyboard only. What the probe says stands in the card. `say` is told what is being done.
    Raises InvalidValue, BadCheckpoint, UnknownName, Ended; nothing is left then.
    """
    spec = _checked(asked)
    mean, std = normalisation(asked.mean, asked.std, spec.shape[0])
    own = FACTORY.fullmatch(asked.architecture) is not None and has_own_code(asked.architecture)
    try:
        code = Code.of(asked.architecture.partition(":")[0], str(Path.cwd())) if own else None
    except InvalidValue as error:
        raise InvalidValue(f"{asked.architecture} could not be made: ModuleNotFoundError: {error}") from error
    say("Reading the weights")
    model, notes = _filled(asked, spec, mean, std, code)
    images = sample(spec.name)
    say("Probing it")
    found = probe(model, images, _what(asked, spec.shape), strict=True)
    if isinstance(model, ExternalClassifier):
        doubt = about_range(_others(model, spec), images, found.correct)
        found = replace(found, findings=(*found.findings, *([doubt] if doubt else [])))
    card = zoo.write(published() / spec.name, _card(asked, model, spec.name, found, code, notes), model)
    say("Loading it again")
    try:
        if code is not None:
            allow(asked.architecture, card.sha256, str(code.folder), code.files, card.name)
        if not _answers_alike(zoo.load(card.name), model, images.x[:PROBES]):
            raise BadCheckpoint(
                f"{card.name} answers differently once it is loaded from its file: it keeps something beside its weights."
            )
    except BaseException:
        remove(card.name)
        raise
    return card


def check_name(name: str) -> Dataset:
    """The dataset of a new model's name. Raises InvalidValue or UnknownName for what no new model may be called."""
    if not NAME.fullmatch(name):
        raise InvalidValue(f"name must be DATASET/ and then small letters, digits, dots and dashes; got {name!r}.")
    spec = dataset(name.partition("/")[0])
    if name in {card.name for card in zoo.cards()}:
        raise InvalidValue(f"{name} is there already; choose another name.")
    return spec


def _checked(asked: Addition) -> Dataset:
    spec = check_name(asked.name)
    if asked.classes != len(spec.classes):
        raise InvalidValue(f"classes must be {len(spec.classes)}, as {spec.title} has so many; got {asked.classes}.")
    like = asked.built_as
    if like is not None and (is_external(like.architecture) or like.dataset != spec.name):
        raise InvalidValue(
            f"{asked.name} can be built as one of this project's models for {spec.title}; {like.name} is none."
        )
    if like is not None and asked.size:
        raise InvalidValue(f"size must be 0: what is built as {like.name} takes images as they are; got {asked.size}.")
    return spec


def _filled(
    asked: Addition, spec: Dataset, mean: Sequence[float], std: Sequence[float], code: Code | None
) -> tuple[Classifier, list[str]]:
    """The network with its weights, frozen, and in words what was done to these."""
    like = asked.built_as
    if like is not None:
        ours = zoo.empty(like)
        tensors, notes = _weights_for(asked, ours)
        given = {key: torch.tensor(values).view(1, -1, 1, 1) for key, values in (("mean", mean), ("std", std))}
        zoo.fill(ours, given | tensors, asked.name)  # its normalisation is among its weights, if the file has it
        return ours.freeze(), notes
    net = net_of(asked.architecture, spec, code).eval()
    tensors, notes = _weights_for(asked, net)
    if asked.architecture.startswith("robustbench:"):
        tensors, fitting = robustbench.fitted(tensors, net)
        notes += fitting
    zoo.fill(net, tensors, asked.name)
    return behind_the_door(net, asked, mean, std), notes


def _weights_for(asked: Addition, net: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    if not asked.convert:
        return read_weights(asked.weights), []
    if not asked.weights.is_file():
        raise BadCheckpoint(f"{asked.weights.name} is not there.")
    zoo.check_size(asked.weights, f"{asked.weights.name} is")
    try:
        return confined.convert(asked.weights, list(net.state_dict()))
    except Told as refusal:
        raise BadCheckpoint(str(refusal)) from refusal


def _answers_alike(one: Classifier, other: Classifier, x: Tensor) -> bool:
    answers = []
    for model in (one, other):
        with torch.no_grad(), use_generator(seeded(0)):
            answers.append(model(x))
    return torch.allclose(answers[0], answers[1], rtol=RTOL, atol=ATOL)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, whatever it is called. Raises BadCheckpoint for a pickle, which is not opened, and
    for anything else."""
    if not path.is_file():
        raise BadCheckpoint(f"{path.name} is not there.")
    zoo.check_size(path, f"{path.name} is")
    data = path.read_bytes()
    try:
        return parse(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a type of numbers that torch does not have
        raise BadCheckpoint(f"{path.name} {_what_else(data, path.suffix.lower())}") from error


def _what_else(data: bytes, suffix: str) -> str:
    """What a file is that is no safetensors file, as the end of a sentence."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights: download the file itself."
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not weights: run `git lfs pull`."
    if data.startswith(PICKLES) or (suffix in SUFFIXES and data):
        return (
            "is a pickle, which can run code when it is read, so it was not opened: `python -m explorer models convert FILE` "
            "makes safetensors of it in a confined process."
        )
    return "is empty." if not data else "is not a readable safetensors file."


def behind_the_door(net: nn.Module, asked: Addition, mean: Sequence[float], std: Sequence[float]) -> ExternalClassifier:
    """The network as a Classifier, once a pass over two images went well. Raises InvalidValue if not."""
    spec = dataset(asked.name.partition("/")[0])
    shape = spec.shape
    side = (asked.size, asked.size) if asked.size else shape[1:]
    try:
        last = last_linear(net, torch.zeros(PROBES, shape[0], *side))
    except InvalidValue:
        raise
    except Exception as error:  # anything may go wrong in somebody's network; it is told with its reason
        raise InvalidValue(f"the probe failed, {_what(asked, shape)}: {first_line(error)}") from error
    return ExternalClassifier(mean, std, shape, asked.classes, net, last, asked.size).freeze()


def _what(asked: Addition, shape: Sequence[int]) -> str:
    side = (asked.size, asked.size) if asked.size else shape[1:]
    return f"{asked.architecture} on images of {' x '.join(map(str, (shape[0], *side)))}"


def _others(model: ExternalClassifier, spec: Dataset) -> dict[str, ExternalClassifier]:
    """The same network behind the usual ranges of pixels."""
    ones, channels = [1.0], spec.shape[0]
    ranges = {
        "pixels in [0, 1]": ([0.0], ones),
        "pixels in [-1, 1]": ([0.5], [0.5]),
        "pixels in [0, 255]": ([0.0], [1 / 255]),
        f"the mean and std of {spec.title}": (spec.mean, spec.std),
    }
    return {
        name: ExternalClassifier(
            [*mean] * (channels // len(mean)), [*std] * (channels // len(std)), spec.shape, model.num_classes,
            model.net, model.last, model.size, model.stochastic,
        ).eval()
        for name, (mean, std) in ranges.items()
    }  # fmt: skip


def normalisation(mean: Sequence[float], std: Sequence[float], channels: int) -> tuple[list[float], list[float]]:
    """mean and std, one number a channel. Raises InvalidValue for another number of them, or a std of 0 or below."""
    wide = _channels("mean", mean, channels), _channels("std", std, channels)
    if min(wide[1]) <= 0:
        raise InvalidValue(f"std must be above 0; got {min(wide[1]):g}.")
    return wide


def _channels(word: str, values: Sequence[float], channels: int) -> list[float]:
    values = list(values) * channels if len(values) == 1 else list(values)
    if len(values) != channels or not all(abs(v) < 1e6 for v in values):  # NaN compares false
        raise InvalidValue(f"{word} must be one number, or {channels} separated by commas; got {values}.")
    return values


def _card(
    asked: Addition, model: Classifier, name: str, found: Probe, code: Code | None, notes: Sequence[str]
) -> zoo.Card:
    digest = sha256_of(asked.weights)
    training = {
        "trained": "elsewhere; nothing is known here but what its owner said",
        "weights": asked.weights.name,
        "weights_sha256": digest,
        "mean": list(asked.mean),
        "std": list(asked.std),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "sample": found.sentence,
        "findings": list(found.findings),
    } | ({"notes": list(notes)} if notes else {})
    training |= asked.facts
    training |= {} if code is None else {"code_sha256": code.sha256}
    like, arguments = asked.built_as, {}
    if like is not None:
        arguments = dict(like.arguments)
        training |= {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
    elif isinstance(model, ExternalClassifier):
        arguments = {"last": model.last, "size": asked.size} | ({"stochastic": True} if found.stochastic else {})
    return card_from_elsewhere(
        asked.name,
        title=asked.title,
        summary=f"From elsewhere: {asked.architecture}, added on this computer.",
        architecture=asked.architecture if like is None else like.architecture,
        arguments=arguments,
        parameters=sum(p.numel() for p in model.parameters()),
        stochastic=found.stochastic,
        recipe="from elsewhere",
        training=training,
        command=asked.command,
    )


def card_from_elsewhere(name: str, *, title: str | None, **facts: Any) -> zoo.Card:
    """The card of a model that was not trained here: no history, no hyper-parameters. `facts`: the fields that are known."""
    return zoo.Card(
        name=name,
        title=title or name.partition("/")[2],
        dataset=name.partition("/")[0],
        hyper={},
        recipe_hash="",
        history=[],
        file="",
        precision="float32",
        sha256="",
        bytes=0,
        **facts,
    )
