"""The package: what a wheel holds, what `import explorer` costs, and that the extras name what each part needs."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zlib
from functools import cache
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import explorer
from explorer.core import paths

ROOT = Path(__file__).parents[1]
LARGEST = 120 * 10**6  # bytes
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@cache
def wheel() -> dict[str, Path]:
    """Where in the wheel: which file."""
    return {file.distribution_path: Path(file.path) for file in WheelBuilder(str(ROOT)).recurse_included_files()}


def test_a_wheel_holds_the_library_the_models_and_the_app():
    files = {place for place in wheel() if not place.endswith(".pyc")}
    code = {str(path.relative_to(ROOT)) for path in ROOT.glob("explorer/**/*.py")}
    pages = {f"explorer/app/pages/{path.name}" for path in ROOT.glob("pages/*.py")}
    models = {f"explorer/{path.relative_to(ROOT)}" for path in ROOT.glob("checkpoints/*/*.json")}
    models |= {name.replace(".json", ".safetensors") for name in models}
    assert len(code) > 200 and len(pages) >= 7 and len(models) >= 70
    assert code | pages | models | {"explorer/app/app.py", "explorer/app/.streamlit/config.toml"} <= files
    assert {
        "explorer/data/sample/cifar10-test.webp",
        "explorer/ui/components/trace_player/player.js",
        "explorer/ui/logo.svg",
    } <= files
    assert {place.partition("/")[0] for place in files} == {"explorer"}  # nothing beside it in site-packages


def test_a_wheel_leaves_out_what_is_computed_when_needed_and_stays_small():
    kept = {place for place in wheel() if place.endswith(".features.safetensors")}
    cards = {path: json.loads(path.read_text("utf-8")) for path in ROOT.glob("checkpoints/*/*.json")}
    random = {
        path.relative_to(ROOT).with_suffix(".features.safetensors")
        for path, card in cards.items()
        if card["stochastic"]
    }
    assert kept == {f"explorer/{path}" for path in random}  # eight passes an image, and other draws on another computer
    assert [place for place in wheel() if place.endswith(".umap.safetensors")]  # minutes, and another library
    assert (
        sum(len(zlib.compress(path.read_bytes(), 1)) for path in wheel().values()) < LARGEST
    )  # packed better it is smaller


def test_the_installed_places_are_those_of_the_wheel(monkeypatch, tmp_path):
    package = tmp_path / "site-packages" / "explorer"
    for place in ("checkpoints", "app"):
        (package / place).mkdir(parents=True)
    (package / "app" / "app.py").touch()
    monkeypatch.setattr(paths, "_PACKAGE", package)
    assert paths.shipped("checkpoints") == package / "checkpoints" and paths.app() == package / "app" / "app.py"
    assert {"explorer/app/app.py"} <= wheel().keys()


def test_importing_the_library_imports_nothing_heavy():
    ask = (
        "import sys, explorer; print(sorted({'torch', 'numpy', 'streamlit'} & {*sys.modules}), len(sys.modules)); "
        "explorer.testing; print('torch' in sys.modules, callable(explorer.attack), explorer.Smoothed.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("[] ") and int(first.split()[1]) < 200 and second == "True True Smoothed"


def test_every_public_name_is_there_and_no_other():
    for name in explorer.__all__:
        assert getattr(explorer, name) is not None and name in dir(explorer)
    with pytest.raises(AttributeError, match="no attribute 'atack'"):
        explorer.atack


@pytest.mark.parametrize(
    ("words", "said"), [(["--version"], f"explorer {explorer.__version__}\n"), (["--help"], "usage: ")]
)
def test_the_command_says_what_it_is_without_loading_torch(words, said):
    ask = f"import sys; from explorer.__main__ import main; sys.argv = ['x', *{words}]; print(main(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said) and done.stdout.endswith("0 False\n")


def names(lines: list[str]) -> set[str]:
    """The projects that requirements name."""
    cut = [line.partition("#")[0].strip() for line in lines]
    found = {"".join(c if c not in "=<>~[;! " else " " for c in line).split()[0].lower() for line in cut if line}
    return {name for name in found if not name.startswith("-")}


def required(file: str) -> set[str]:
    return names((ROOT / file).read_text("utf-8").splitlines())


def test_the_ranges_cover_what_is_locked():
    extras = PROJECT["optional-dependencies"]
    assert names(PROJECT["dependencies"]) | names(extras["app"]) == required("requirements.txt")
    assert names(extras["slurm"]) <= required("requirements-slurm.txt")
    assert names(extras["dev"]) - {PROJECT["name"]} == required("requirements-dev.txt")
