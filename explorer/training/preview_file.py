"""Preview files, one an epoch: the same few held-out images, as the recipe's loss sees them now; read without torch."""

from __future__ import annotations

import io
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from explorer.core.files import write_atomically

PREVIEWS = "sights"  # what the folder has been called from the first version on
DRAWS = 16  # passes of a stochastic network that are averaged
NAME = re.compile(r"epoch-(\d{4,})\.npz")


@dataclass(frozen=True, eq=False)
class EpochPreview:
    """The previewed images after an epoch. N images, K classes; the probabilities are the averaged model's.

    `trained_on` is shown cut to [0,1] and rounded to 8 bits; `p_trained_on` is that of the pixels as they are (noise,
    for one, leaves [0,1]). A stochastic network's probabilities are means over `DRAWS` passes.
    """

    clean: np.ndarray  # (N,C,H,W) uint8
    trained_on: np.ndarray  # (N,C,H,W) uint8: attacked, noisy or plain
    labels: np.ndarray  # (N,) int64
    p_clean: np.ndarray  # (N,K) float32
    p_trained_on: np.ndarray  # (N,K) float32


def write_preview(folder: Path, epoch: int, preview: EpochPreview) -> None:
    """`folder`/sights/epoch-0003.npz after three epochs, durably; 0: before the first. Raises OSError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **asdict(preview))
    write_atomically(Path(folder) / PREVIEWS / f"epoch-{epoch:04d}.npz", buffer.getvalue())


def read_preview(folder: Path, epoch: int) -> EpochPreview:
    """What `write_preview` wrote. Raises FileNotFoundError."""
    with np.load(Path(folder) / PREVIEWS / f"epoch-{epoch:04d}.npz", allow_pickle=False) as file:
        return EpochPreview(**{name: file[name] for name in file.files})


def preview_epochs(folder: Path) -> list[int]:
    """After how many epochs there are previews, in order."""
    found = (NAME.fullmatch(path.name) for path in (Path(folder) / PREVIEWS).glob("epoch-*.npz"))
    return sorted(int(name.group(1)) for name in found if name)
