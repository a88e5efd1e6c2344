"""Robustness Explorer: adversarial attacks, robustness measures, certificates and robust training, made visible.

    >>> import explorer
    >>> from explorer.data import load
    >>> images = load("fashion_mnist", n=10)
    >>> result = explorer.attack("fashion_mnist/fashion-mlp", images.x, images.y, "pgd", eps=8 / 255)
    >>> result.success.shape
    torch.Size([10])

`import explorer` costs next to nothing: what needs torch is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer import api, attacks, certify, core, data, defenses, evaluation, models, testing
    from explorer.api import AttackResult, Robustness, attack, robustness
    from explorer.certify import Smoothed

__version__ = "0.1.0"

_ROOMS = ("api", "attacks", "certify", "core", "data", "defenses", "evaluation", "models", "testing")
_HOME = {
    "AttackResult": "api", "Robustness": "api", "attack": "api", "robustness": "api", "Smoothed": "certify"
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"explorer.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'explorer' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"explorer.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AttackResult",
    "Robustness",
    "Smoothed",
    "__version__",
    "api",
    "attack",
    "attacks",
    "certify",
    "core",
    "data",
    "defenses",
    "evaluation",
    "models",
    "robustness",
    "testing",
]
