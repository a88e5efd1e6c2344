"""Zip archives from others, extracted safely: no `..`, no links, no bombs; refused whole, in one sentence, or unpacked whole."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from explorer.core import InvalidValue

MOST_BYTES = 2 << 30  # unpacked
MOST_ENTRIES = 20_000
MOST_RATIO = 300  # unpacked over packed, of an archive that unpacks to more than SMALL; weights hardly shrink
SMALL = 64 << 20
LONGEST = 200  # characters of a name
CHUNK = 1 << 20
SKIPPED = ("__MACOSX", "__pycache__", ".DS_Store", ".git")


def extract(archive: Path, into: Path) -> None:
    """Unpack `archive` as the folder `into`, which must not be there. Raises InvalidValue; nothing is left then."""
    name = archive.name
    if not archive.is_file():
        raise InvalidValue(f"{name} is not there.")
    into.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=into.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, name, room)
        room.chmod(0o755)
        room.rename(into)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{name} is damaged, locked by a password, or no zip archive.") from error
    except OSError as error:
        raise InvalidValue(f"{name} cannot be unpacked: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _unpack(opened: zipfile.ZipFile, name: str, room: Path) -> None:
    entries = opened.infolist()
    if len(entries) > MOST_ENTRIES:
        raise InvalidValue(f"{name} holds more than {MOST_ENTRIES:,} files; refused.")
    unpacked, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries)
    if unpacked > MOST_BYTES or (unpacked > SMALL and unpacked > MOST_RATIO * max(packed, 1)):
        raise InvalidValue(f"{name} would unpack to {unpacked / 1e6:,.0f} MB, too much to be believed; refused.")
    seen: set[str] = set()
    left = MOST_BYTES
    for entry in entries:
        parts = _parts(entry, name)
        if any(part in SKIPPED for part in parts) or not parts:
            continue
        key = "/".join(parts).lower()
        if key in seen:
            raise InvalidValue(f"{name} holds {'/'.join(parts)!r} twice; refused.")
        seen.add(key)
        target = room.joinpath(*parts)
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        left = _write(opened, entry, target, left, name)


def _parts(entry: zipfile.ZipInfo, name: str) -> tuple[str, ...]:
    """The entry's path; InvalidValue for one that is no plain file or folder inside the archive."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    shown = repr(entry.filename[:60])
    if kind == stat.S_IFLNK:
        raise InvalidValue(f"{name} holds a link, {shown}; refused.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidValue(f"{name} holds {shown}, which is no plain file; refused.")
    path = PurePosixPath(entry.filename)
    odd = any(c in entry.filename for c in "\\:\0") or not entry.filename.isprintable()
    if odd or path.is_absolute() or ".." in path.parts or any(len(part) > LONGEST for part in path.parts):
        raise InvalidValue(f"{name} holds {shown}, a name that could lead out of its folder; refused.")
    return path.parts


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int, name: str) -> int:
    """Write one file, counting what really comes; returns how many bytes may still come."""
    with opened.open(entry) as source, open(target, "xb") as file:
        while part := source.read(CHUNK):
            left -= len(part)
            if left < 0:
                raise InvalidValue(f"{name} unpacks to more than {MOST_BYTES >> 30} GB; refused.")
            file.write(part)
    return left
