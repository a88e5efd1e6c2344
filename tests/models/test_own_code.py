"""Modules of one name from several folders: each network gets its own code, and its own siblings."""

import sys
from itertools import permutations

import pytest
import torch

from explorer.core import BadCheckpoint
from explorer.models import own_code
from explorer.models.own_code import Code, allow, allowed, digest

NET = """
import torch
from torch import nn
from utils import bend
from parts import layer

class Net(nn.Module):
    def forward(self, x):
        from late import again  # found while it runs, in its own folder, too
        return again(layer(bend(x.flatten(1)[:, :10])))
"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    for number in (2, 3, 5):
        folder = tmp_path / str(number)
        (folder / "parts").mkdir(parents=True)
        (folder / "model.py").write_text(NET)
        (folder / "utils.py").write_text(f"def bend(x):\n    return {number} * x\n")
        (folder / "parts" / "__init__.py").write_text("from .inner import layer\n")
        (folder / "parts" / "inner.py").write_text(f"def layer(x):\n    return x + {number}\n")
        (folder / "late.py").write_text(f"def again(x):\n    return x ** {number}\n")
    return tmp_path


def test_every_network_has_its_own_code_and_siblings_in_any_order(folders):
    x = torch.full((1, 10), 0.5)
    before = set(sys.modules)
    for order in permutations((2, 3, 5)):
        nets = {number: Code(folders / str(number)).module("model").Net() for number in order}
        for number, net in nets.items():
            assert torch.equal(net(x), (number * x + number) ** number)
    left = {name for name in set(sys.modules) - before if not name.startswith(own_code.PREFIX)}
    assert not left & {"model", "utils", "parts", "parts.inner", "late"}


def test_the_hash_knows_all_files_that_were_run(folders):
    code = Code(folders / "2")
    code.module("model").Net()(torch.zeros(1, 10))
    assert set(code.files) == {"model.py", "utils.py", "parts/__init__.py", "parts/inner.py", "late.py"}
    assert code.sha256 == digest(code.files) and not code.changed(code.files)
    (folders / "2" / "parts" / "inner.py").write_text("def layer(x):\n    return x - 2\n")
    assert code.changed(code.files) == ["parts/inner.py"]


def test_two_codes_of_one_weights_file_are_told_apart_and_a_changed_one_is_refused(folders):
    codes = [Code(folders / name) for name in ("2", "3")]
    for code in codes:
        code.module("model").Net()(torch.zeros(1, 10))
        allow("model:Net", "weights", str(code.folder), code.files, "x/y")
    for code in reversed(codes):
        assert allowed("model:Net", "weights", code.sha256, "x/y").folder == code.folder
    (folders / "3" / "utils.py").write_text("def bend(x):\n    return -x\n")
    with pytest.raises(BadCheckpoint, match=r"changed since it was added \(utils.py"):
        allowed("model:Net", "weights", codes[1].sha256, "x/y")
    assert allowed("model:Net", "weights", codes[0].sha256, "x/y")
    with pytest.raises(BadCheckpoint, match="none of it was run"):
        allowed("model:Net", "weights", "another", "x/y")


def test_what_an_earlier_version_allowed_is_still_allowed(folders):
    own_code.write_atomically(
        own_code._list(), f'[{{"factory": "model:Net", "sha256": "w", "folder": "{folders}/5"}}]'.encode()
    )
    assert allowed("model:Net", "w", None, "x/y").folder == (folders / "5").resolve()


def test_code_that_changes_within_a_second_is_not_run_from_kept_bytecode(folders):
    file = folders / "2" / "late.py"
    assert Code(folders / "2").module("late").again(2) == 4
    file.write_text(file.read_text().replace("**", "+ "))
    assert Code(folders / "2").module("late").again(3) == 5


@pytest.mark.parametrize(
    "line", ["import argparse; argparse.ArgumentParser().parse_args()", "import sys; assert sys.argv[1:] == []"]
)
def test_a_module_that_reads_the_command_line_finds_none(folders, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["explorer", "models", "add", "--nothing"])
    (folders / "2" / "late.py").write_text(line)
    Code(folders / "2").module("late")
    assert sys.argv[1:] == ["models", "add", "--nothing"]
