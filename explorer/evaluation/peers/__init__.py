"""Other libraries' attacks with our settings, to be compared with ours. Nothing needs them: what is missing is named.

`requirements-peers.txt` installs them. Each adapter is one function for one library and attack: it translates our
hyper-parameters and returns the library's images; what a library cannot be told stands beside it as "differs:".
One file a library, imported here; the libraries themselves are imported by who calls an adapter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from explorer.core import Attack, Ball
from explorer.evaluation.peers import on_adv_lib, on_art, on_foolbox, on_pyautoattack, on_torchattacks
from explorer.evaluation.peers.library import quiet
from explorer.evaluation.peers.setting import ADAPTERS, Adapter, Setting

LIBRARIES = (on_torchattacks, on_foolbox, on_art, on_adv_lib, on_pyautoattack)


def adapter(library: str, attack: str, ball: Ball) -> Adapter | None:
    """None if the library has no such attack."""
    return ADAPTERS.get((library, attack, ball.norm))


def attacked(how: Adapter, model: nn.Module, x: Tensor, y: Tensor, setting: Setting[Attack]) -> Tensor:
    """The adapter's images (N,C,H,W) for the images x with labels y (N,), untargeted.

    torch's global generators are seeded for it and afterwards are as they were; numpy's, from which ART draws, is left
    alone.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), quiet():
        torch.manual_seed(setting.seed)
        return how(model, x, y, setting).detach()
