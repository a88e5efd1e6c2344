"""The project as a whole: what the README promises, and the rules that no single file can hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import explorer
from explorer.attacks import ATTACKS
from explorer.core import Ball
from explorer.evaluation.peers import attacked
from explorer.evaluation.peers.setting import Setting

ROOT = Path(__file__).parents[1]
LARGEST = 16 * 2**20  # bytes of one tracked file
CODE = sorted([ROOT / "app.py", *ROOT.glob("pages/*.py"), *ROOT.glob("explorer/**/*.py")])
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def readme_command(ending: str) -> str:
    """The one command of the README that makes an environment and ends like this."""
    found = re.findall(
        rf"^python3 -m venv .*{re.escape(ending)}$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(found) == 1, f"README.md must hold one command that ends in {ending!r}, found {len(found)}"
    return found[0]


@pytest.mark.parametrize("ending", ["streamlit run app.py", "-m pytest"])
def test_the_readmes_command_names_files_and_programs_that_exist(ending):
    command = readme_command(ending)
    (requirements,) = re.findall(r"-r (\S+)", command)
    assert (ROOT / requirements).is_file()
    assert command.count("&&") == 2 and command.startswith("python3 -m venv .venv && .venv/bin/pip install -r ")
    program = command.rpartition("&& ")[2].split()[0]
    assert program in (".venv/bin/streamlit", ".venv/bin/python")


def test_the_app_that_the_readme_opens_exists():
    assert (ROOT / "app.py").is_file()


def test_continuous_integration_runs_the_readmes_test_command():
    script = (ROOT / ".ci/run").read_text("utf-8")
    pattern = re.search(r"sed -n 's/(.+?)/\\1/p' README.md", script).group(1)
    expression = pattern.replace(r"\(", "(").replace(r"\)", ")")  # sed's groups to Python's
    assert re.findall(expression, (ROOT / "README.md").read_text("utf-8"), re.MULTILINE) == [
        readme_command("-m pytest")
    ]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-slurm.txt"])
def test_every_requirement_has_one_exact_version(name):
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("-r ")]
    loose = [line for line in wanted if not re.fullmatch(r"[a-z0-9-]+==\d+(\.\d+)+", line)]
    assert wanted and not loose
    assert {"torch==2.14.1", "torchvision==0.29.1"} <= set(wanted) or name != "requirements.txt"


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_every_link_in_the_documents_leads_somewhere(document):
    prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    broken = [link for link in local if not (document.parent / link).exists()]
    assert not broken


def test_the_changelog_knows_this_version():
    assert re.search(
        rf"^## {re.escape(explorer.__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )


def test_the_rooms_are_kept_apart():
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_code_is_clean():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def mentions(pattern: str, files: list[Path]) -> list[str]:
    """file:line of every line of code that matches."""
    return [
        f"{file.relative_to(ROOT)}:{number}"
        for file in files
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_no_pickle_is_loaded_outside_a_confined_process():
    """converting.py reads what people bring; the one module that imports it is what the confined process runs."""
    found = mentions(r"torch\.load\(|weights_only|pickle\.load", CODE)
    assert {place.split(":")[0] for place in found} == {"explorer/models/converting.py"}
    importing = mentions(r"^\s*(from|import) explorer\.models(\.converting| import .*\bconverting\b)", CODE)
    assert {place.split(":")[0] for place in importing} == {"explorer/models/inside.py"}


def test_no_process_wide_seed_is_set():
    """Only other libraries and networks that came from outside, which draw from torch's own generator, and the network that
    checks of attacks are made on: after each it is as it was before. `inside.py` seeds a confined process of its own."""
    found = mentions(r"torch\.manual_seed\(|np\.random\.seed\(|random\.seed\(", CODE)
    assert sorted({place.split(":")[0] for place in found}) == [
        "explorer/evaluation/peers/__init__.py",
        "explorer/models/external.py",
        "explorer/models/inside.py",
        "explorer/testing/networks.py",
    ]


def test_another_library_leaves_the_process_s_randomness_as_it_was():
    before, setting = torch.random.get_rng_state(), Setting(ATTACKS["pgd"](), Ball("linf", 0.1), 10, seed=0)
    x, y = torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64)
    attacked(lambda model, x, y, setting: x + torch.rand(1), torch.nn.Identity(), x, y, setting)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_is_shown_by_the_command_line_alone():
    below = [file for file in CODE if "cli" not in file.parts]  # `print` is refused by ruff (T20)
    assert len(below) > 40 and mentions(r"^\s*(import|from) tqdm\b", below) == []


def test_streamlit_is_known_to_the_pages_and_ui_alone():
    below = [file for file in CODE if "explorer" in file.parts and "ui" not in file.parts]
    assert len(below) > 40 and mentions(r"^\s*(import|from) streamlit\b", below) == []


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: which files are tracked is unknown")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_tracked_file_is_large():
    large = [file.name for file in tracked() if file.is_file() and file.stat().st_size > LARGEST]
    assert large == []


def test_every_checkpoint_is_tracked_with_its_card():
    for card in ROOT.glob("checkpoints/*/*.json"):
        assert card.with_name(json.loads(card.read_text("utf-8"))["file"]).is_file()


def test_no_garbage_collection_follows_a_rerun_and_nobody_is_counted():
    ask = "from streamlit import config; print(*map(config.get_option, ['runner.postScriptGC', 'browser.gatherUsageStats']))"
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
