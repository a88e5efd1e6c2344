"""Adding models from a page: what somebody uploads (weights, Python code, a zip of submissions), with its limits, as work.

Whatever was uploaded is read in confined processes (`core/confinement.py`), code is run in one for as long as the model stands.
Each function checks what can be checked at once and returns the work for `engine/aside.py`; `zoo.cards()` has the model then.
"""

from __future__ import annotations

import keyword
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from explorer.core import Cancelled, ExplorerError, InvalidValue
from explorer.core.confinement import refused_on_pages
from explorer.data import dataset
from explorer.engine.aside import Aside, Work
from explorer.evaluation import checking, submissions
from explorer.evaluation.adding import SUFFIXES, Addition, add, check_name, normalisation
from explorer.evaluation.torchvision_weights import add_published, check_new, published_weights
from explorer.models import zoo
from explorer.models.external import LIBRARIES

MOST_MB = 400  # of a file of weights, and of a zip; as .streamlit/config.toml takes
CODE_KB = 256  # of a Python file
WEIGHTS = (*SUFFIXES[:4], ".safetensors")


@dataclass(frozen=True, eq=False)
class File:
    """An uploaded file: its name as the browser gave it, and its bytes."""

    name: str
    data: bytes

    @property
    def plain(self) -> str:
        """Its own name: no folder, printable, short."""
        name = "".join(c for c in PureWindowsPath(self.name).name if c.isprintable())
        return (name if len(name) <= 60 else f"{name[:40]}{name[-15:]}").lstrip(".") or "upload"


@dataclass(frozen=True, eq=False)
class WeightsUpload:
    """A file of weights, and what it is of: a library's network, one of ours (`architecture`), or what `code` makes.

    mean and std are of pixels in [0,1], one number or one a channel; `size`: images are enlarged to so many pixels a side.
    """

    name: str
    file: File
    architecture: str = ""
    code: File | None = None
    factory: str = ""  # in the code: what makes the network, a function or a class
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    size: int = 0
    title: str = ""


@dataclass(frozen=True)
class Added:
    """What became of one model: its card; else the sentence that refuses it, or says what a check has found."""

    name: str
    card: zoo.Card | None
    said: str = ""


def weights_work(asked: WeightsUpload) -> Work[Added]:
    """Add a network with the uploaded weights. Raises InvalidValue and UnknownName at once for what cannot be."""
    spec = check_name(asked.name)
    check_file(asked.file, WEIGHTS, MOST_MB << 20)
    check_pages()
    normalisation(asked.mean, asked.std, spec.shape[0])
    if not 0 <= asked.size <= 1024:
        raise InvalidValue(f"size must be a whole number in [0, 1024]; got {asked.size!r}.")
    if asked.code is not None:
        check_file(asked.code, (".py",), CODE_KB << 10)
        _check_factory(asked.factory)
        return lambda aside: aside.give(_add_code(asked, spec.shape[0], aside))
    library = asked.architecture.partition(":")[0]
    if library not in LIBRARIES and ("/" not in asked.architecture or ":" in asked.architecture):
        raise InvalidValue(
            f"a page takes torchvision:NAME, timm:NAME, robustbench:NAME, a model here, or a Python file; got {asked.architecture!r}."
        )
    return lambda aside: aside.give(_add_weights(asked, len(spec.classes), aside))


def zip_work(name: str, file: File) -> Work[Added]:
    """Add every submission of an uploaded zip, one after another. `name`: the dataset, or DATASET/PREFIX (as `add_zip`)."""
    dataset(name.partition("/")[0])
    check_file(file, (".zip",), MOST_MB << 20)
    check_pages()

    def work(aside: Aside[Added]) -> None:
        with tempfile.TemporaryDirectory() as room:
            archive = Path(room) / file.plain
            archive.write_bytes(file.data)
            aside.say("Unpacking")
            command = f"python -m explorer models add {name} --zip {file.plain}"
            for full, came in submissions.add_zip(name, archive, command, aside.say):
                aside.give(Added(full, None, came) if isinstance(came, str) else Added(full, came))

    return work


def torchvision_work(network: str) -> Work[Added]:
    """Download torchvision's own weights of a network, and add it. Raises InvalidValue at once for what cannot be."""
    name = published_weights(network).name
    check_new(name, network)
    check_pages()

    def work(aside: Aside[Added]) -> None:
        def come(done: int, total: int) -> None:
            aside.say(f"Downloading, {done / 2**20:.0f} of {total / 2**20:.0f} MB", done / total)

        aside.give(_outcome(name, lambda: add_published(name, network, say=aside.say, progress=come)))

    return work


def check_work(name: str) -> Work[Added]:
    """Load a model from elsewhere and probe it again; what it finds is said as its card would."""
    check_pages()

    def work(aside: Aside[Added]) -> None:
        aside.say("Probing it")
        found = checking.check(name)
        aside.give(Added(name, None, " ".join([found.sentence, *map(sentence, found.findings)])))

    return work


def accept_work(name: str) -> Work[Added]:
    """Take a submission's changed files as they stand now, once somebody has looked at them."""
    check_pages()

    def work(aside: Aside[Added]) -> None:
        aside.say("Probing its code as it stands now")
        aside.give(Added(name, submissions.accept(name)))

    return work


def sentence(text: str) -> str:
    """With a capital letter."""
    return f"{text[:1].upper()}{text[1:]}"


def check_file(file: File, suffixes: Sequence[str], most: int) -> None:
    """Raises InvalidValue for an upload of another kind, an empty one, and one of more than `most` bytes."""
    if Path(file.plain).suffix.lower() not in suffixes:
        raise InvalidValue(f"{file.plain} must be a file of the kind {', '.join(suffixes)}.")
    if not file.data:
        raise InvalidValue(f"{file.plain} is empty.")
    if len(file.data) > most:
        raise InvalidValue(f"{file.plain} has {len(file.data) / 2**20:,.1f} MB; the most is {most / 2**20:g} MB.")


def check_pages() -> None:
    """Raises InvalidValue where a page may not run or read what others handed in."""
    if said := refused_on_pages():
        raise InvalidValue(sentence(said))


def _check_factory(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidValue(f"the factory must be the name of a function or class in the Python file; got {name!r}.")


def _add_weights(asked: WeightsUpload, classes: int, aside: Aside[Added]) -> Added:
    with tempfile.TemporaryDirectory() as room:
        weights = Path(room) / asked.file.plain
        weights.write_bytes(asked.file.data)
        addition = Addition(
            asked.name,
            asked.architecture,
            weights,
            classes,
            asked.mean,
            asked.std,
            asked.size,
            asked.title,
            convert=True,
        )
        return _outcome(asked.name, lambda: add(addition, aside.say))


def _add_code(asked: WeightsUpload, channels: int, aside: Aside[Added]) -> Added:
    """As a submission, whose model.py is written here: it calls the factory and normalises."""
    assert asked.code is not None
    mean, std = normalisation(asked.mean, asked.std, channels)
    contents = {
        f"{_module(asked.code)}.py": asked.code.data,
        f"models/default_model{Path(asked.file.plain).suffix.lower()}": asked.file.data,
        "model.py": MODEL_PY.format(
            module=_module(asked.code), factory=asked.factory, mean=mean, std=std, size=asked.size,
            classes=len(dataset(asked.name.partition("/")[0]).classes),
        ).encode(),
    }  # fmt: skip
    what = f"{asked.factory} of an uploaded {asked.code.plain}"
    return _outcome(asked.name, lambda: submissions.add_files(asked.name, contents, asked.title, what, aside.say))


def _outcome(name: str, make: Callable[[], zoo.Card]) -> Added:
    try:
        return Added(name, make())
    except Cancelled:
        raise
    except ExplorerError as refusal:
        return Added(name, None, str(refusal))


def _module(code: File) -> str:
    """What the Python file is called as a module; `model` is taken."""
    stem = Path(code.plain).stem
    return stem if stem.isidentifier() and not keyword.iskeyword(stem) and stem != "model" else "uploaded_model"


MODEL_PY = '''"""Written by Robustness Explorer: the network that {module}.py makes, on pixels in [0,1]."""
import inspect

import torch
from torch import nn
from torch.nn import functional as F

from {module} import {factory} as factory


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        takes = inspect.signature(factory).parameters
        self.net = factory(num_classes={classes}) if "num_classes" in takes else factory()
        self.mean = torch.tensor({mean}).view(1, -1, 1, 1)
        self.std = torch.tensor({std}).view(1, -1, 1, 1)

    def forward(self, x):
        if {size}:
            x = F.interpolate(x, size=({size}, {size}), mode="bilinear", align_corners=False)
        return self.net((x - self.mean) / self.std)

    def state_dict(self, *rest, **more):
        return self.net.state_dict(*rest, **more)

    def load_state_dict(self, *rest, **more):
        return self.net.load_state_dict(*rest, **more)
'''
