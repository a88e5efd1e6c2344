"""A registry walks its folder: a new attack, architecture or recipe is one new file and no other edit."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from explorer.core.errors import UnknownName

T = TypeVar("T")  # what is registered
C = TypeVar("C")  # one such class, which the decorator gives back unchanged


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered class and what a chooser shows about it."""

    key: str
    cls: type[T]
    title: str
    paper: str = ""
    group: str = ""
    summary: str = ""  # one line: what it is for


class Registry(Generic[T]):
    """Names to classes of one kind (`Registry[Attack]`), filled by `register` and by importing every module of one package on first use.

    Examples:
        >>> from explorer.attacks import ATTACKS
        >>> ATTACKS["pgd"](steps=20).to_dict()["steps"]
        20
        >>> ATTACKS.entry("pgd").paper
        'arXiv:1706.06083'
        >>> ATTACKS["pgdd"]
        Traceback (most recent call last):
            ...
        explorer.core.errors.UnknownName: Unknown attack 'pgdd'. Did you mean 'pgd'? Known: ...
    """

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry[T]] = {}
        self._discovered = False

    def register(
        self, key: str, *, title: str, paper: str = "", group: str = "", summary: str = ""
    ) -> Callable[[type[C]], type[C]]:
        """Class decorator. Registering a key twice is an error, not an overwrite."""

        def keep(cls: type[C]) -> type[C]:
            known = self._entries.get(key)
            if known and (known.cls.__module__, known.cls.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"{self.kind} {key!r} is registered twice: {known.cls} and {cls}")
            self._entries[key] = Entry(key, cast("type[T]", cls), title, paper, group, summary)
            return cls

        return keep

    def discover(self) -> None:
        """Import every module of the package once, so that each can register itself."""
        if self._discovered:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")
        self._discovered = True

    def entry(self, key: str) -> Entry[T]:
        """Everything known about one key; raises UnknownName with the nearest known name."""
        self.discover()
        if key not in self._entries:
            raise UnknownName(self.kind, key, self._entries)
        return self._entries[key]

    def key_of(self, cls: Any) -> str:
        """The key a class (or an instance of it) was registered under."""
        cls = cls if isinstance(cls, type) else type(cls)
        for entry in self:
            if entry.cls is cls:
                return entry.key
        raise UnknownName(self.kind, cls.__name__, self._entries)

    def name_of(self, cls: Any) -> str:
        """The key of a class (or of an instance of it), or the class's own name if it is not registered."""
        cls = cls if isinstance(cls, type) else type(cls)
        return next((entry.key for entry in self if entry.cls is cls), cls.__name__)

    def keys(self) -> list[str]:
        self.discover()
        return sorted(self._entries)

    def __getitem__(self, key: str) -> type[T]:
        return self.entry(key).cls

    def __contains__(self, key: object) -> bool:
        self.discover()
        return key in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        self.discover()
        return iter([self._entries[key] for key in sorted(self._entries)])

    def __len__(self) -> int:
        self.discover()
        return len(self._entries)
