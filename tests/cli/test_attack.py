"""`python -m explorer attack`: a sentence, exact arrays, and the same walk as everywhere else."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.attacks import ATTACKS
from explorer.core import Ball, Goal, run
from explorer.data import load
from explorer.models import zoo

WORDS = ("attack", "--model", "cifar10/tiny", "--image", "17", "--set", "steps=3")


def test_an_attack_is_told_in_words_and_saved_exactly(cli, tiny, tmp_path):
    said = cli(*WORDS, "--seed", "4", "--save", tmp_path / "walk.npz")
    assert said.code == 0, said.err
    assert "seed 4" in said.out and "no pixel moved by more than 8/255" in said.out and "inside the ball" in said.out
    facts = json.loads((tmp_path / "walk.json").read_text("utf-8"))
    with np.load(tmp_path / "walk.npz", allow_pickle=False) as walk:
        arrays = dict(walk)
    images = load("cifar10", source="sample")
    x, y = images.x[17:18], images.y[17:18]
    assert np.array_equal(arrays["original"], x[0].numpy()) and arrays["frames"].shape == (5, 3, 32, 32)
    outcome = run(
        ATTACKS["pgd"](steps=3).walk(
            zoo.load("cifar10/tiny"), x, Goal.untargeted(y), Ball("linf", 8 / 255), torch.Generator().manual_seed(4)
        ),
        Goal.untargeted(y),
    )
    assert np.array_equal(arrays["adversarial"], outcome.x[0].numpy())
    assert facts["conditions"]["seed"] == 4 and facts["conditions"]["hyper"]["steps"] == 3
    before = zoo.load("cifar10/tiny")(x).argmax(1)
    word = "was wrong before any change" if before != y else "is fooled" if outcome.success[0] else "holds"
    assert f"the model {word}" in said.out and "the attack holds" not in said.out
    assert facts["verdict"]["inside"] and facts["verdict"]["linf"] <= 8 / 255


def test_the_json_is_what_is_saved_and_repeats(cli, tiny, tmp_path):
    first = json.loads(cli(*WORDS, "--json", "-").out)
    again = json.loads(cli(*WORDS, "--json", "-", "--save", tmp_path / "walk.npz").out)
    assert json.loads((tmp_path / "walk.json").read_text("utf-8")) == again
    assert first["verdict"] == again["verdict"]


def test_a_zip_holds_the_pictures_and_the_script_too(cli, tiny, tmp_path):
    assert cli(*WORDS, "--save", tmp_path / "walk.zip").code == 0
    with zipfile.ZipFile(tmp_path / "walk.zip") as bundle:
        assert {Path(name).suffix for name in bundle.namelist()} == {".png", ".npz", ".json", ".py"}
    refused = cli(*WORDS, "--save", tmp_path / "walk.pkl")
    assert refused.code == 2 and ".npz or a .zip" in refused.err


def test_a_target_and_l2_are_understood(cli, tiny):
    label = load("cifar10", source="sample").y[17]
    target = "cat" if label != 3 else "dog"
    said = cli(*WORDS, "--norm", "l2", "--target", target, "--json", "-")
    conditions = json.loads(said.out)["conditions"]
    assert conditions["norm"] == "l2" and conditions["eps"] == 0.5 and f"toward {target}" in said.err


def test_the_smallest_change_needs_no_eps_and_takes_none(cli, tiny):
    said = cli(
        "attack", "--model", "cifar10/tiny", "--image", "17", "--attack", "deepfool", "--norm", "l2", "--json", "-"
    )
    facts = json.loads(said.out)
    assert said.code == 0 and facts["conditions"]["eps"] is None and facts["verdict"]["reached"]
    assert "the smallest change found" in said.err and "inside the pixel range" in said.err
    refused = cli("attack", "--model", "cifar10/tiny", "--attack", "deepfool", "--eps", "8/255")
    assert refused.code == 2 and "--eps does not belong to deepfool" in refused.err


def test_an_attack_of_one_norm_takes_it_and_refuses_the_other(cli, tiny):
    words = ("attack", "--model", "cifar10/tiny", "--image", "17", "--attack", "cw", "--set", "steps=5")
    assert json.loads(cli(*words, "--json", "-").out)["conditions"]["norm"] == "l2"
    refused = cli(*words, "--norm", "linf")
    assert refused.code == 2 and "norm must be l2 for" in refused.err and refused.err.count("\n") == 1


def test_a_picture_file_is_attacked_and_its_changes_are_told(cli, tiny, tmp_path):
    Image.fromarray(np.arange(64 * 48 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)).save(
        tmp_path / "photo.png"
    )
    said = cli(
        "attack", "--model", "cifar10/tiny", "--image", tmp_path / "photo.png", "--attack", "fgsm", "--label", "ship"
    )
    assert said.code == 0, said.err
    assert "this picture" in said.out


@pytest.mark.parametrize("damage", [b"", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_a_bad_picture_file_is_one_sentence(damage, cli, tiny, tmp_path):
    (tmp_path / "photo.png").write_bytes(damage)
    said = cli("attack", "--model", "cifar10/tiny", "--image", tmp_path / "photo.png")
    assert said.code == 2 and "photo.png" in said.err and said.err.count("\n") == 1


def test_attacks_are_listed_with_their_hyper_parameters(cli):
    assert all(key in cli("attack", "--list").out for key in ATTACKS.keys())
    assert all(p.name in cli("attack", "--list", "--attack", "pgd").out for p in ATTACKS["pgd"].params())


def test_how_far_the_edge_is(cli, tiny):
    said = cli("attack", "--model", "cifar10/tiny", "--image", "17", "--norm", "linf", "--edge", "60", "--json", "-")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["norm"] == "linf" and found["passes"] <= 60 and found["tried"][0]["attack"] == "deepfool"
    assert found["wrong_before"] or found["left_out"]
    for words, sentence in (
        (("--edge", "5"), r"edge must be a whole number in [20, 20000]; got '5'"),
        (("--edge", "60", "--eps", "0.1"), "--edge tries the minimal attacks at their defaults"),
    ):
        refused = cli("attack", "--model", "cifar10/tiny", "--image", "17", *words)
        assert refused.code == 2 and sentence in refused.err


def test_a_rotation_is_told_in_degrees(cli, tiny):
    words = (
        "attack",
        "--model",
        "cifar10/tiny",
        "--image",
        "17",
        "--attack",
        "rotation",
        "--set",
        "tries=3",
        "--set",
        "angle=20",
    )
    said = cli(*words)
    assert (
        said.code == 0 and "rotation and shift up to 20° and 3 pixels" in said.out and "inside the limits" in said.out
    )
    refused = cli(*words, "--norm", "linf")
    assert refused.code == 2 and "norm must be rotation for Rotation and shift; got 'linf'" in refused.err
