"""`python -m explorer verify`, `models claim` and `evaluate --masking`: what they say last, and what they hand out."""

import json
import shutil
from dataclasses import asdict

import pytest

from explorer.models import zoo
from tests.evaluation import repeats

NAME = "cifar10/lenet"


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A card's file with one measure made here, and the weights beside it."""
    folder = tmp_path_factory.mktemp("zoo") / "cifar10"
    folder.mkdir()
    card = repeats.card(n=100)
    shutil.copy(zoo.card_path(NAME).parent / card.file, folder)
    (folder / "lenet.json").write_text(json.dumps(asdict(card)))
    return folder / "lenet.json"


def last(said):
    return said.out.strip().splitlines()[-1]


def edited(path, to, **fields):
    facts = json.loads(path.read_text())
    facts["measures"][0] |= fields
    to.mkdir(parents=True)
    shutil.copy(path.parent / facts["file"], to)
    (to / path.name).write_text(json.dumps(facts))
    return to / path.name


def test_a_card_s_file_is_the_same_and_an_edited_one_another(cli, copied, tmp_path):
    said = cli("verify", copied, "--sample", "60", "--draw", "1", "--json", tmp_path / "v.json")
    assert (said.code, last(said).partition(":")[0]) == (0, "same"), said.out + said.err
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["conclusion"] == "same" and found["measures"][0]["differing"] == 0
    said = cli("verify", edited(copied, tmp_path / "a" / "cifar10", eps=6 / 255), "--draw", "1")
    assert (said.code, last(said).partition(":")[0]) == (1, "other")
    other = edited(copied, tmp_path / "b" / "cifar10")
    weights = other.parent / "lenet.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    said = cli("verify", other)
    assert last(said).startswith("other") and "damaged" in said.out


def test_a_shipped_card_is_verified_by_its_name(cli):
    said = cli("verify", NAME, "--only", "clean", "--sample", "200", "--draw", "0")
    assert last(said).startswith("same"), said.out
    assert "Did you mean" in cli("verify", "cifar10/lenett").err


def test_a_claim_is_written_and_verified(cli, tmp_path):
    assert cli("models", "claim", NAME, "--to", tmp_path / "claim.json").code == 0
    told = json.loads((tmp_path / "claim.json").read_text())
    assert told["weights_sha256"] == zoo.card(NAME).sha256 and told["clean_acc"] and told["autoattack_acc"] is None
    assert last(cli("verify", tmp_path / "claim.json", "--only", "clean")).startswith("same")
    (tmp_path / "claim.json").write_text(json.dumps(told | {"identity_sha256": "0" * 64}))
    assert "other weights" in cli("verify", tmp_path / "claim.json").err
    row = cli("models", "claim", NAME, "--as", "latex").out
    assert row.splitlines()[0].startswith("% Model &") and row.strip().endswith("\\\\") and row.count("&") == 18
    head, _, cells = cli("models", "claim", NAME, "--as", "markdown").out.strip().splitlines()
    assert head.count("|") == cells.count("|") == 11


def test_masking_in_the_terminal(cli, tmp_path):
    said = cli("evaluate", NAME, "--masking", "--n", "12", "--twin", "cifar10/lenet-at", "--json", tmp_path / "m.json")
    assert said.code == 0 and "No flag was raised by" in last(said) and "robust" not in said.out.lower()
    assert json.loads((tmp_path / "m.json").read_text())["checks"]["zero"]["raised"] is False
    assert "--write is not for --masking" in cli("evaluate", NAME, "--masking", "--write").err
