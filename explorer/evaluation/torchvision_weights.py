"""torchvision's own ImageNet weights: downloaded where somebody asks for them, verified, and added to the models for photographs.

torchvision publishes them as pickles whose names end in the first digits of their sha256, as `torch.hub` expects. A file whose hash
begins otherwise is not opened; one that fits is read as any other file of weights, in a confined process (`confined.convert`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from explorer.core import DataUnavailable, InvalidValue
from explorer.core.files import sha256_of
from explorer.core.paths import published
from explorer.data.fetching import fetch
from explorer.data.folders import STAGE, cache_folder, sweep
from explorer.data.specs import PHOTOS
from explorer.evaluation.adding import Addition, add, check_name
from explorer.models import zoo

OFFERED = {"resnet18": "ResNet-18", "resnet50": "ResNet-50", "convnext_tiny": "ConvNeXt-T"}
LICENCE = (
    "the code is torchvision's, under the BSD-3-Clause licence; of the weights torchvision says that terms derived from their training "
    "data (ImageNet: non-commercial research and education) may apply, and that it is yours to find out"
)
REMEDY = "check the internet connection and ask again"
NEEDED = 2  # times the download's size that has to be free: for it and for the safetensors file made of it


@dataclass(frozen=True)
class Published:
    """What torchvision says of one network's weights. mean and std are of pixels in [0,1], one number a channel."""

    network: str  # "resnet50"
    title: str
    version: str  # "IMAGENET1K_V2"
    url: str
    size: int  # bytes, as torchvision rounds them
    accuracy: float  # top 1 on ImageNet's validation images in %, as its authors measured it
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def name(self) -> str:
        """What it is called here where nobody says otherwise."""
        return f"{PHOTOS.name}/{self.network.replace('_', '-')}"

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def digits(self) -> str:
        """The first digits of the file's sha256, of its name."""
        return Path(self.file).stem.rpartition("-")[2]


def published_weights(network: str) -> Published:
    """The best weights that torchvision has of a network. Raises InvalidValue for one that is not offered."""
    if network not in OFFERED:
        raise InvalidValue(f"torchvision must be one of {', '.join(OFFERED)}; got {network!r}.")
    from torchvision import models  # takes a second to import: only who asks waits

    weights = models.get_model_weights(network).DEFAULT
    seen = weights.transforms()
    return Published(
        network, OFFERED[network], weights.name, weights.url, int(weights.meta["_file_size"] * 2**20),
        weights.meta["_metrics"]["ImageNet-1K"]["acc@1"], tuple(seen.mean), tuple(seen.std),
    )  # fmt: skip


def check_new(name: str, network: str) -> Published:
    """What is to be added. Raises InvalidValue and UnknownName for what cannot be."""
    about = published_weights(network)
    if check_name(name) is not PHOTOS:
        raise InvalidValue(f"name must begin with {PHOTOS.name}/, whose classes are ImageNet's; got {name!r}.")
    return about


def add_published(
    name: str, network: str, title: str = "", say: Callable[[str], None] = lambda doing: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> zoo.Card:  # fmt: skip
    """Download a network's weights and add it; `progress(bytes_so_far, bytes_expected)`, and `say` as of `add`.

    Raises as `check_new` and `add` do, and DataUnavailable where the network, the hash or the disk fails; nothing is left then.
    """
    about = check_new(name, network)
    room = cache_folder()
    try:
        for place in (room, published()):
            place.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(place).free) < NEEDED * about.size:
                raise DataUnavailable(
                    f"{about.title} needs {NEEDED * about.size / 2**20:,.0f} MB in {place}, which has {free / 2**20:,.0f} MB free."
                )
        sweep(room)
        with tempfile.TemporaryDirectory(prefix=STAGE, dir=room) as stage:
            file = Path(stage) / about.file
            say("Downloading")
            fetch(
                about.url, file, f"The weights of {about.title}", REMEDY,
                lambda done: progress(done, max(done, about.size)),
            )  # fmt: skip
            _check_hash(file, about)
            return add(_addition(name, about, title, file), say)
    except OSError as error:
        raise DataUnavailable(
            f"{about.title} cannot be stored ({error.strerror or error}): free some space in {room} and {published()}."
        ) from error


def _check_hash(file: Path, about: Published) -> None:
    found = sha256_of(file)
    if not found.startswith(about.digits):
        raise DataUnavailable(
            f"The weights of {about.title} arrived incomplete or altered from {about.url}: their sha256 begins with "
            f"{found[: len(about.digits)]}, not {about.digits}; ask again."
        )


def _addition(name: str, about: Published, title: str, file: Path) -> Addition:
    return Addition(
        name,
        f"torchvision:{about.network}",
        file,
        len(PHOTOS.classes),
        about.mean,
        about.std,
        title=title or about.title,
        command=f"python -m explorer models add {name} --torchvision {about.network}",
        convert=True,
        facts={
            "trained": f"on ImageNet-1k, by torchvision ({about.version})",
            "source": about.url,
            "licence": LICENCE,
            "accuracy": f"{about.accuracy:g} % top 1 on ImageNet's validation images, as its authors say; not measured here",
            "right": f"the label is among the {PHOTOS.top} most likely classes (top {PHOTOS.top})",
        },
    )
