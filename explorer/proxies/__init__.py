"""Proxy distributions: generators of labelled images, one file each, and how far what they draw is from real images.

`GENERATORS["flow"]()` says how one is fitted; `store` keeps it, `measures` compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core import Registry

if TYPE_CHECKING:  # without torch, as long as nobody asks for a generator
    from explorer.proxies.generator import Generator

GENERATORS: Registry[Generator] = Registry("generator", "explorer.proxies")

__all__ = ["GENERATORS"]
