"""A run's state in one durable safetensors file: tensors, and JSON facts in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from explorer.core import BadCheckpoint
from explorer.core.files import write_atomically


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Tensors and JSON facts in one safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, metadata={"facts": json.dumps(facts)}))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_state` wrote. Raises BadCheckpoint when the file is missing, truncated or not one of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BadCheckpoint(
            f"The checkpoint {path.name} cannot be read ({type(error).__name__}); delete it to start over."
        ) from error
