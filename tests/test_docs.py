"""The documentation: its examples run, its tables are made from the cards, and the reference leaves no public name out."""

from __future__ import annotations

import doctest
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from explorer.attacks import ATTACKS
from explorer.evaluation import tables
from explorer.models import zoo
from explorer.testing import check_attack

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in ROOT.glob("explorer/**/*.py")
    if re.search(r"^\s*>>> ", file.read_text("utf-8"), re.MULTILINE)
)
DOORS = ("api", "core", "certify", "evaluation", "testing")  # all of what they offer stands in the reference
CONSTANTS = {"NORMS", "USUAL_EPS", "LOSSES", "LossName", "CLAUSES", "Case", "Precision"}  # no docstrings of their own


def fenced(document: str, language: str = "python") -> list[str]:
    """The code blocks of a document."""
    return re.findall(rf"^```{language}.*?\n(.*?)^```", (ROOT / document).read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_docstrings_are_true(name):
    module = importlib.import_module(name.removesuffix(".__init__"))
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0


def test_doors_have_examples():
    rooms = {name.split(".")[1] for name in EXAMPLES}
    assert rooms >= {"core", "data", "models", "certify", "evaluation", "testing"}


@pytest.fixture
def own_attack(tmp_path, monkeypatch) -> ModuleType:
    """The tutorial's file, saved as it says and imported."""
    document = "docs/tutorials/own-attack.md"
    assert '```python title="my_attack.py"' in (ROOT / document).read_text("utf-8")
    (tmp_path / "my_attack.py").write_text(fenced(document)[0], "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_attack")
    sys.modules.pop("my_attack")


def test_the_tutorials_attack_keeps_the_contract(own_attack):
    attack = own_attack.NesterovPGD
    check_attack(attack())
    assert {"weak", "standard", "strong"} == set(attack.presets)
    assert attack.from_dict(attack.presets["standard"]) == attack()


def test_the_tutorials_scripts_run(own_attack, capsys):
    _, asked, compared, registered = fenced("docs/tutorials/own-attack.md")
    assert "check_attack(NesterovPGD())" in asked  # the test above does
    exec(compile(compared.replace("n=100", "n=20"), "compared", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["PGD", "NesterovPGD"]
    assert all("of 20 wrong" in line for line in lines[:2]) and lines[2].startswith("20 images, linf")
    group, key = (re.search(pattern, registered).group(1) for pattern in (r'group="(.+?)"', r'register\(\n\s+"(.+?)"'))
    assert group in {entry.group for entry in ATTACKS} and key not in ATTACKS


def test_the_readmes_script_runs(capsys):
    (script,) = fenced("README.md")
    quick = script.replace("n=100", "n=4").replace("steps=20", "steps=2")
    assert quick != script
    exec(compile(quick, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("door", DOORS)
def test_the_reference_holds_every_public_name(door):
    shown = re.findall(rf"^::: explorer\.{door}\.(\w+)$", reference(), re.MULTILINE)
    offered = set(importlib.import_module(f"explorer.{door}").__all__) - CONSTANTS
    assert sorted(shown) == sorted(offered)


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)$", "\n".join(
    file.read_text("utf-8") for file in sorted(ROOT.glob("docs/reference/*.md"))), re.MULTILINE))  # fmt: skip
def test_what_the_reference_names_is_there(name):
    home, _, last = name.rpartition(".")
    shown = getattr(importlib.import_module(home), last)
    assert isinstance(shown, (dict, tuple, ModuleType)) or shown.__doc__


def reference() -> str:
    return "\n".join(file.read_text("utf-8") for file in sorted(ROOT.glob("docs/reference/*.md")))


def test_the_reference_lists_every_attack():
    pytest.importorskip("griffe", reason="mkdocstrings is not installed: pip install -r requirements-dev.txt")
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs/hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = hooks.on_page_markdown((ROOT / "docs/reference/attacks.md").read_text("utf-8"))
    assert sorted(re.findall(r"^`([a-z0-9-]+)`, ", page, re.MULTILINE)) == ATTACKS.keys()
    for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
        home, _, last = name.rpartition(".")
        assert getattr(importlib.import_module(home), last)


def test_every_page_is_in_the_navigation():
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    navigation = settings.partition("nav:\n")[2].partition("\n\n")[0]
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    assert set(re.findall(r"\S+\.md", navigation)) == pages


def test_the_pictures_are_small():
    assert 0 < sum(picture.stat().st_size for picture in ROOT.glob("docs/images/*")) < 400_000


def test_the_table_of_models_is_made_from_the_cards():
    text = (ROOT / "docs/models.md").read_text("utf-8")
    shown = text.partition("<!-- models: begin -->\n")[2].partition("<!-- models: end -->")[0].strip()
    assert shown == tables.markdown([card for card in zoo.cards() if zoo.card_path(card.name).is_relative_to(ROOT)])


def test_the_tables_of_the_stochastic_networks_are_made_from_their_cards():
    text = (ROOT / "docs/stochastic.md").read_text("utf-8")
    random = [card for card in zoo.cards() if card.stochastic and zoo.card_path(card.name).is_relative_to(ROOT)]
    assert random
    for card in random:
        begin, end = (f"<!-- {card.name}: {word} -->" for word in ("begin", "end"))
        assert text.partition(begin + "\n")[2].partition(end)[0].strip() == tables.measures(card)


@pytest.mark.parametrize("tutorial", sorted(file.name for file in ROOT.glob("docs/tutorials/*.md")))
def test_what_a_tutorial_names_in_bold_stands_on_a_page(tutorial):
    """Only that the words are somewhere in the program: renamed buttons and pages are found, no more."""
    files = [file for kind in ("py", "js", "md") for file in ROOT.glob(f"explorer/**/*.{kind}")]
    program = "\n".join(file.read_text("utf-8") for file in [*files, ROOT / "app.py"])
    named = re.findall(r"(?<!\*)\*\*([^*\n]+)\*\*", (ROOT / "docs/tutorials" / tutorial).read_text("utf-8"))
    assert [label for label in named for part in label.split(" > ") if part not in program] == []
