"""A newcomer is one new file."""

import sys

import pytest

from explorer.core import Registry, UnknownName


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that makes a registry of itself, with two members, and a helper module that must not be imported."""
    name = "registry_under_test"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(f"from explorer.core import Registry\nTHINGS = Registry('thing', '{name}')\n")
    member = (
        "from {name} import THINGS\n"
        "@THINGS.register('{key}', title='{title}', paper='p', group='g', summary='s')\n"
        "class Member: pass\n"
    )
    for key, title in (("beta", "Beta"), ("alpha", "Alpha")):
        (folder / f"{key}.py").write_text(member.format(name=name, key=key, title=title))
    (folder / "_private.py").write_text("raise RuntimeError('helpers are not discovered')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


def test_every_module_is_discovered_on_first_use(package):
    from registry_under_test import THINGS

    assert THINGS.keys() == ["alpha", "beta"] and len(THINGS) == 2 and "alpha" in THINGS and "gamma" not in THINGS
    entry = THINGS.entry("beta")
    assert (entry.key, entry.title, entry.paper, entry.group, entry.summary) == ("beta", "Beta", "p", "g", "s")
    assert [e.key for e in THINGS] == ["alpha", "beta"]
    assert THINGS["alpha"].__module__ == "registry_under_test.alpha"
    assert THINGS.key_of(THINGS["alpha"]) == THINGS.key_of(THINGS["alpha"]()) == "alpha"
    assert THINGS.name_of(THINGS["alpha"]()) == "alpha" and THINGS.name_of(3) == "int"


def test_the_same_key_in_two_files_is_an_error(package):
    (package / "copy_of_alpha.py").write_text((package / "alpha.py").read_text())
    from registry_under_test import THINGS

    with pytest.raises(ValueError, match="thing 'alpha' is registered twice"):
        THINGS.keys()


def test_a_reloaded_class_replaces_itself():
    registry = Registry("thing", "explorer.core")
    for _ in range(2):

        @registry.register("a", title="A")
        class Same:
            pass

    assert registry["a"] is Same


def test_unknown_keys_and_classes_are_refused(package):
    from registry_under_test import THINGS

    with pytest.raises(UnknownName, match="Unknown thing 'alpa'. Did you mean 'alpha'\\? Known: alpha, beta."):
        THINGS["alpa"]
    with pytest.raises(UnknownName, match="Unknown thing 'int'"):
        THINGS.key_of(3)
