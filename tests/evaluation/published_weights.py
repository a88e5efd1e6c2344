"""A small network of torchvision's with drawn weights, offered by a server as torchvision offers its own."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torchvision import models

from explorer.evaluation import torchvision_weights
from tests.data.serving import Server

NETWORK = "shufflenet_v2_x0_5"


def offer(server: Server, monkeypatch: pytest.MonkeyPatch, state: Any = None) -> None:
    """`state`: what its file holds (default: the network's weights)."""
    if state is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = models.get_model(NETWORK, weights=None)
        state = {name: tensor + 0.1 * (name.endswith("bias")) for name, tensor in net.state_dict().items()}
    room = io.BytesIO()
    torch.save(state, room)
    data = room.getvalue()
    digits = hashlib.sha256(data).hexdigest()[:8]
    server.files = {f"/{NETWORK}-{digits}.pth": data}
    for proxy in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(proxy, "127.0.0.1")
    monkeypatch.setitem(torchvision_weights.OFFERED, NETWORK, "ShuffleNet")
    asked = torchvision_weights.published_weights

    def published_here(network: str) -> torchvision_weights.Published:
        found = asked(network)
        url = f"{server.url}{NETWORK}-{digits}.pth"
        return replace(found, url=url, size=len(data)) if network == NETWORK else found

    monkeypatch.setattr(torchvision_weights, "published_weights", published_here)
    monkeypatch.setattr("explorer.engine.adding.published_weights", published_here)
    monkeypatch.setattr("explorer.ui.add_model.form.published_weights", published_here)
