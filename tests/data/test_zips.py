"""Zip archives that try to leave their folder, or to be larger than they look, are refused whole and leave nothing behind."""

import stat
import zipfile

import pytest

from explorer.core import InvalidValue
from explorer.data import zips
from explorer.data.zips import extract


def packed(place, *entries, kind=stat.S_IFREG):
    with zipfile.ZipFile(place / "class.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return place / "class.zip"


def test_a_right_archive_is_unpacked_without_what_systems_add(tmp_path):
    names = ("group/model.py", "group/models/w.pth", "__MACOSX/group/._model.py", "group/__pycache__/model.pyc")
    extract(packed(tmp_path, *((name, b"x") for name in names)), tmp_path / "into")
    found = {str(p.relative_to(tmp_path / "into")) for p in (tmp_path / "into").rglob("*") if p.is_file()}
    assert found == {"group/model.py", "group/models/w.pth"}


REFUSED = {
    "a way up": (("../evil.py", b"x"),),
    "a way up inside": (("group/../../evil.py", b"x"),),
    "an absolute name": (("/tmp/evil.py", b"x"),),
    "a drive": (("C:/evil.py", b"x"),),
    "backslashes": (("group\\..\\..\\evil.py", b"x"),),
    "a control character": (("group/\nevil.py", b"x"),),
    "a long name": (("a" * 300, b"x"),),
    "a bomb": (("zeros", bytes(80 << 20)),),
    "the same twice": (("a/model.py", b"x"), ("A/model.py", b"y")),
    "a file that is a folder": (("a", b"x"), ("a/b", b"y")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_leads_out_or_is_too_large_is_refused_and_nothing_is_left(tmp_path, what):
    archive = packed(tmp_path, *REFUSED[what])
    with pytest.raises(InvalidValue, match=r"^class.zip [^\n]*\.$"):
        extract(archive, tmp_path / "deep" / "into")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["class.zip"]
    assert not list((tmp_path / "deep").iterdir())


@pytest.mark.parametrize(
    "kind, word", [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "no plain file"), (stat.S_IFBLK, "no plain file")]
)
def test_links_and_devices_are_refused(tmp_path, kind, word):
    with pytest.raises(InvalidValue, match=word):
        extract(packed(tmp_path, ("group/model.py", b"/etc/passwd"), kind=kind), tmp_path / "into")


def test_an_archive_that_lies_about_its_size_damaged_or_missing_ones(tmp_path, monkeypatch):
    archive = packed(tmp_path, ("a", b"x" * 5000))
    monkeypatch.setattr(zips, "MOST_BYTES", 4000)
    with pytest.raises(InvalidValue, match="too much to be believed"):
        extract(archive, tmp_path / "into")
    data = bytearray(archive.read_bytes())
    data[40:60] = b"garbage" * 2 + b"123456"
    archive.write_bytes(data)
    monkeypatch.undo()
    for damaged in (bytes(data), b"no zip at all", b""):
        archive.write_bytes(damaged)
        with pytest.raises(InvalidValue, match="damaged"):
            extract(archive, tmp_path / "into")
    with pytest.raises(InvalidValue, match="is not there"):
        extract(tmp_path / "none.zip", tmp_path / "into")
    assert not (tmp_path / "into").exists()
