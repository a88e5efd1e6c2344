"""RobustBench's networks by name, where its package is installed: built as its model zoo says, filled from a file at hand.

Nothing is downloaded. RobustBench (arXiv:2010.09670) keeps each checkpoint as `models/<dataset>/<threat model>/<name>.pt`; its
networks take pixels in [0,1] and normalise inside. Two threat models may hold one name: "L2/NAME" says which.

differs: its `load_model` also takes the entry "last" of two checkpoints and loads others without their normalisation; here
`fitted` keeps the network's own buffers that a file lacks, leaves out what the network does not have, and names both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from explorer.core import InvalidValue

THREATS = ("Linf", "L2", "corruptions")  # as its folders are called, in the order in which a name is looked for
FOLDER = Path("models")  # where it keeps its checkpoints, in the working folder


def network(name: str, dataset: str) -> nn.Module:
    """Its untrained network of this name for a dataset. Raises InvalidValue for what is not there, or would be downloaded."""
    entry = _entry(name, dataset)[1]
    if not isinstance(entry.get("gdrive_id"), str) or not callable(entry.get("model")):
        raise InvalidValue(
            f"robustbench:{name} is not one network with one file (timm downloads it, or it is an ensemble), so it is not taken."
        )
    net = entry["model"]()
    if not isinstance(net, nn.Module):
        raise InvalidValue(f"robustbench:{name} must be a torch.nn.Module; got {type(net).__name__}.")
    return net


def checkpoint(name: str, dataset: str) -> Path:
    """Where RobustBench keeps the file of this name. Raises InvalidValue if it is not there."""
    threat, _ = _entry(name, dataset)
    file = FOLDER / dataset / threat / f"{name.rpartition('/')[2]}.pt"
    if not file.is_file():
        raise InvalidValue(f"robustbench:{name} needs its file: {file} is not there, and no --weights names another.")
    return file


def fitted(tensors: Mapping[str, Tensor], net: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that are the network's, with its own buffers where the file has none; and what was done, in words."""
    wanted, notes = net.state_dict(), []
    own = {name for name, _ in net.named_buffers()} & (wanted.keys() - tensors.keys())
    spare = sorted(tensors.keys() - wanted.keys())
    if own:
        notes.append(f"kept the network's own {', '.join(sorted(own)[:6])}")
    if spare:
        notes.append(f"left out {', '.join(spare[:6])}")
    kept = {name: tensor for name, tensor in tensors.items() if name in wanted}
    return kept | {name: wanted[name] for name in own}, notes


def _entry(name: str, dataset: str) -> tuple[str, dict[str, Any]]:
    """The threat model and the model zoo's entry of a name."""
    zoo = _zoo(name)
    threat, _, short = name.rpartition("/")
    if threat and threat not in THREATS:
        raise InvalidValue(f"a threat model of RobustBench must be one of {', '.join(THREATS)}; got {threat!r}.")
    by_threat = next((found for key, found in zoo.items() if _word(key) == dataset), None)
    if by_threat is None:
        raise InvalidValue(f"RobustBench has no models for {dataset}.")
    known = {_word(key): found for key, found in by_threat.items()}
    for one in [threat] if threat else THREATS:
        if short in known.get(one, {}):
            return one, known[one][short]
    raise InvalidValue(f"RobustBench has no model {name!r} for {dataset}.")


def _zoo(name: str) -> Mapping[Any, Any]:
    try:
        from robustbench.model_zoo import model_dicts
    except ImportError as error:
        raise InvalidValue(
            f"robustbench is not installed, so robustbench:{name} cannot be made: "
            "`pip install git+https://github.com/RobustBench/robustbench.git` first."
        ) from error
    zoo: Mapping[Any, Any] = model_dicts
    return zoo


def _word(key: Any) -> str:
    """Of an enumeration's member, or a plain word."""
    return str(getattr(key, "value", key))
