"""Own code: a factory's Python module under a private name, its siblings from its own folder, known by its files' hashes.

Two folders may both hold `model.py` with a class `Net` and a sibling `utils.py`: each network gets its own, in any order and
in one process. The names that `import` finds in the folder are found there only; whatever the folder lacks is imported as
everywhere. It runs in this process, so only who is at the keyboard may have it loaded; `confined.py` is for all others' code.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import itertools
import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from explorer.core import BadCheckpoint, InvalidValue
from explorer.core.files import sha256_of, write_atomically
from explorer.data.folders import cache_folder

PREFIX = "_own_code_"  # of the private packages in sys.modules
NEVER = {*sys.stdlib_module_names, "torch", "torchvision", "numpy", "explorer"}  # what no sibling hides
_numbers = itertools.count()


class Code:
    """The Python files of one folder that a factory is made of: loaded once, under a name that nobody else has.

    `files`: the sha256 of each file that was run, by its path in the folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).resolve()
        self.files: dict[str, str] = {}
        self.name = f"{PREFIX}{next(_numbers)}"

    @classmethod
    def of(cls, module: str, folder: str | None = None) -> Code:
        """The code that holds `module`: in `folder` if it is there, else where Python would import it from."""
        top = module.partition(".")[0]
        if folder and _is_sibling(Path(folder), top):
            return cls(folder)
        spec = None if top in sys.builtin_module_names else importlib.util.find_spec(top)
        if spec is None:
            raise InvalidValue(f"there is no module {top!r}, neither in {folder or 'a folder'} nor installed.")
        if spec.origin and spec.origin != "frozen":
            place = Path(spec.origin).parent
            return cls(str(place.parent if spec.submodule_search_locations else place))
        return cls(next(iter(spec.submodule_search_locations or [str(folder)])) + "/..")

    def module(self, name: str) -> ModuleType:
        """The module of this name, imported now; sys.argv is empty meanwhile. Raises whatever its code raises."""
        with _own_arguments(name):
            if self._is_library:  # installed for everybody: no private copy of what it imports
                module = importlib.import_module(name)
                self._note(Path(str(module.__file__)))
                return module
            package = ModuleType(self.name)
            package.__path__ = [str(self.folder)]
            sys.modules[self.name] = package
            if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
                sys.meta_path.insert(0, _Finder())
            _codes[self.name] = self
            return importlib.import_module(f"{self.name}.{name}")

    @property
    def sha256(self) -> str:
        """One hash of all files that were run."""
        return digest(self.files)

    def changed(self, files: Mapping[str, str]) -> list[str]:
        """Those of `files` that are not what they were."""
        return [name for name, was in files.items() if _sha256(self.folder / name) != was]

    @property
    def _is_library(self) -> bool:
        return any(self.folder == Path(sysconfig.get_path(one)).resolve() for one in ("purelib", "platlib", "stdlib"))

    def _note(self, file: Path) -> None:
        self.files[str(file.resolve().relative_to(self.folder))] = _sha256(file) or ""

    def imported(
        self, name: str, names: Any = None, local: Any = None, wanted: Sequence[str] = (), level: int = 0
    ) -> Any:
        """`import` as the folder's own files do it: its siblings first, and only there."""
        if level or not _is_sibling(self.folder, name.partition(".")[0]):
            return builtins.__import__(name, names, local, wanted, level)
        found = builtins.__import__(f"{self.name}.{name}", names, local, wanted or ("__name__",), 0)
        return found if wanted else sys.modules[f"{self.name}.{name.partition('.')[0]}"]


_codes: dict[str, Code] = {}


class _Finder:
    """Modules of the private packages."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX) or path is None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs the source as it stands, not bytecode that was kept of an earlier one, and notes its hash."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        code = _codes[module.__name__.partition(".")[0]]
        code._note(Path(self.path))
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": code.imported}
        super().exec_module(module)


def _is_sibling(folder: Path, top: str) -> bool:
    if top in NEVER:
        return False
    return (folder / f"{top}.py").is_file() or any((folder / top).glob("*.py"))


@contextmanager
def _own_arguments(name: str) -> Iterator[None]:
    """A module that reads the command line finds none."""
    before, sys.argv = sys.argv, [name]
    try:
        yield
    finally:
        sys.argv = before


def _sha256(file: Path) -> str | None:
    try:
        return sha256_of(file)
    except OSError:
        return None


def digest(files: Mapping[str, str]) -> str:
    """One hash of files by their names and hashes."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


# Which code of others may run on this computer


def _list() -> Path:
    return cache_folder() / "factories.json"


def _entries() -> list[dict[str, Any]]:
    try:
        found = json.loads(_list().read_text("utf-8"))
    except (OSError, ValueError):
        return []  # nothing is allowed
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def allow(architecture: str, sha256: str, folder: str, files: Mapping[str, str], model: str) -> None:
    """From now on, on this computer and for this user, the model of these weights may run these files of the folder."""
    entry: dict[str, Any] = {"factory": architecture, "sha256": sha256, "model": model, "folder": folder}
    entry |= {"code": digest(files), "files": dict(files)}
    kept = [other for other in _entries() if other != entry]
    write_atomically(_list(), json.dumps([*kept, entry], indent=1).encode())


def forget(architecture: str, sha256: str, model: str) -> None:
    """Take back what `allow` has said of a model."""
    said = ((architecture, sha256, model), (architecture, sha256, None))  # None: as earlier versions allowed
    kept = [e for e in _entries() if (e.get("factory"), e.get("sha256"), e.get("model")) not in said]
    write_atomically(_list(), json.dumps(kept, indent=1).encode())


def as_it_stands(architecture: str, sha256: str, code: str | None) -> dict[str, str]:
    """The hashes that the files of an allowed code have now; {} for one that was allowed without hashes.

    Raises BadCheckpoint if it was not allowed here.
    """
    entry = _entry(architecture, sha256, code)
    folder = Code(entry["folder"])
    return {name: _sha256(folder.folder / name) or "" for name in entry.get("files", {})}


def accept(architecture: str, sha256: str, code: str | None, files: Mapping[str, str], model: str) -> None:
    """Allow the code of a model as these hashes say, and no longer as it was."""
    entry = _entry(architecture, sha256, code)
    forget(architecture, sha256, model)
    allow(architecture, sha256, entry["folder"], files, model)


def _entry(architecture: str, sha256: str, code: str | None) -> dict[str, Any]:
    found = [
        e for e in _entries() if (e.get("factory"), e.get("sha256"), e.get("code")) == (architecture, sha256, code)
    ]
    if not found:
        raise BadCheckpoint(
            f"{architecture} was not added on this computer: `python -m explorer models add` does that."
        )
    return found[-1]


def allowed(architecture: str, sha256: str, code: str | None, name: str) -> Code:
    """The code that a model of these weights may run; `code` is the hash that its card names.

    An entry of a version that knew no hashes allows what its folder holds. Raises BadCheckpoint if nothing is allowed, or
    what was allowed has changed.
    """
    entries = [e for e in _entries() if e.get("factory") == architecture and e.get("sha256") == sha256]
    entries = [e for e in entries if e.get("code") == code]
    if not entries:
        raise BadCheckpoint(
            f"{name} needs code of its own, {architecture}, which was not added on this computer, so none of it was run: "
            "`python -m explorer models add` does that."
        )
    changed: list[str] = []
    for entry in entries:
        found = Code(entry["folder"]) if code else Code.of(architecture.partition(":")[0], entry.get("folder"))
        changed = found.changed(entry.get("files", {}))
        if not changed:
            return found
    raise BadCheckpoint(
        f"{name} was not loaded: its code has changed since it was added ({', '.join(changed[:3])} in {found.folder}). "
        f"Look at it, then `python -m explorer models check {name} --accept`."
    )
