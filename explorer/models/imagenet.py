"""torchvision's ResNet-18 weights trained on ImageNet, as a safetensors file: downloaded once, then kept."""

from __future__ import annotations

import http.client
import urllib.request
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from explorer.core import DataUnavailable
from explorer.core.files import write_atomically
from explorer.data.folders import data_folders, download_folder

# The weights torchvision calls IMAGENET1K_V1. torchvision itself publishes them as a pickle, which is never loaded here.
URL = "https://huggingface.co/timm/resnet18.tv_in1k/resolve/590dfdd48494d2316a8385e1ca7fbec3b9359b35/model.safetensors"
FILE = Path("imagenet") / "resnet18.tv_in1k.safetensors"
TIMEOUT = 30.0  # seconds without an answer before the download is given up
LARGEST = 64 * 2**20  # bytes; the file has 46.8 MB


def imagenet_weights() -> dict[str, Tensor]:
    """Names and tensors, without the last layer. Raises DataUnavailable where they are not at hand and cannot be fetched."""
    for folder in data_folders():
        if (folder / FILE).is_file():
            return _parsed(
                (folder / FILE).read_bytes(), f"{folder / FILE} is damaged; delete it to have it fetched anew"
            )
    data = _fetched()
    found = _parsed(data, f"what came from {URL} is not a safetensors file of ResNet-18; try again later")
    try:
        write_atomically(download_folder() / FILE, data)
    except OSError as error:
        raise DataUnavailable(
            f"The ImageNet weights cannot be stored in {download_folder()} ({error.strerror or error}): free some space there."
        ) from error
    return found


def _fetched() -> bytes:
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT) as response:
            data: bytes = response.read(LARGEST + 1)
    except (OSError, http.client.HTTPException) as error:
        raise DataUnavailable(
            f"The ImageNet weights of ResNet-18 could not be downloaded from {URL} ({error}): check the internet connection, "
            f"put that file at {download_folder() / FILE}, or start without them (--set pretrained=false)."
        ) from error
    return data


def _parsed(data: bytes, otherwise: str) -> dict[str, Tensor]:
    try:
        found = load(data) if len(data) <= LARGEST else {}
    except SafetensorError:
        found = {}
    if "conv1.weight" not in found:
        raise DataUnavailable(f"The ImageNet weights cannot be used: {otherwise}.")
    return {
        name: tensor.float()
        for name, tensor in found.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
