"""`proxy` from a generator to a trained network, by commands alone."""

import json

import pytest

from explorer.data import raw

TINY = [word for pair in ("channels=4-4", "hidden=8", "batch=20") for word in ("--set", pair)]


@pytest.fixture(autouse=True)
def on_the_sample(monkeypatch, tmp_path, training_images):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    for module in ("explorer.proxies.generator", "explorer.evaluation.proxies"):
        monkeypatch.setattr(f"{module}.raw", lambda name, split: raw(name, "test", "sample"))
    from explorer.evaluation import proxy_experiment
    from explorer.training import trainer

    monkeypatch.setattr(proxy_experiment, "as_needed", trainer.as_needed)


def test_fit_draw_measure_and_train(cli, tmp_path):
    said = cli("proxy", "train", "flow", "--smoke", "--json", "-")
    assert said.code == 0, said.err
    card = json.loads(said.out)
    assert card["name"] == "fashion_mnist/flow-smoke" and card["hyper"]["width"] == 8
    said = cli(
        "proxy", "sample", card["name"], "--n", 40, "--set", "steps=1", "--out", "fashion_mnist/few", "--json", "-"
    )
    drawn = json.loads(said.out)
    assert said.code == 0 and drawn["generator_sha256"] == card["sha256"] and drawn["hyper"]["steps"] == 1
    listed = cli("proxy")
    assert listed.code == 0 and "flow-smoke" in listed.out and "fashion_mnist/few" in listed.out
    words = (
        "--model",
        "fashion_mnist/fashion-mlp",
        "--n",
        40,
        "--seeds",
        2,
        "--eps",
        "0,0.1",
        "--updates",
        3,
        "--discriminator",
        "mlp",
    )
    said = cli("proxy", "measure", "fashion_mnist/few", *words, "--json", tmp_path / "m.json")
    assert said.code == 0 and "control" in said.out, said.err
    control, few = json.loads((tmp_path / "m.json").read_text())["measures"]
    assert few["sha256"] == drawn["sha256"] and len(few["areas"]) == 2 and control["sha256"] == ""
    sizes = ("--real", "20", "--updates", 1, "--seeds", 1, "--images", 20, "--steps", 1)
    said = cli(
        "proxy",
        "experiment",
        "fashion_mnist/few",
        *sizes,
        *TINY,
        "--out",
        tmp_path / "e",
        "--json",
        tmp_path / "e.json",
    )
    assert said.code == 0 and "paired" in said.out, said.err
    assert [g["samples"] for g in json.loads((tmp_path / "e.json").read_text())["gains"]] == ["", "fashion_mnist/few"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("train", "flo"), "Unknown generator 'flo'. Did you mean 'flow'?"),
        (("train", "ppca", "--dataset", "none"), "Unknown dataset 'none'"),
        (("train", "ppca", "--set", "components=0"), "components must be a whole number"),
        (("sample", "fashion_mnist/none", "--n", "10"), "Unknown fitted generator"),
        (("sample", "fashion_mnist/none", "--n", "0"), "n must be a whole number in [1"),
        (("measure", "fashion_mnist/none", "--model", "fashion_mnist/fashion-mlp"), "Unknown samples"),
        (("measure", "x", "--model", "fashion_mnist/fashion-mlp", "--eps", "0,a"), "eps must be numbers"),
        (
            ("measure", "x", "--model", "fashion_mnist/fashion-mlp", "--discriminator", "vit"),
            "Unknown discriminator 'vit'",
        ),
        (("experiment", "x", "--recipe", "nfgsm", "--out", "y"), "recipe must train with samples"),
    ],
)
def test_refusals_are_one_sentence(words, sentence, cli):
    said = cli("proxy", *words)
    assert said.code == 2 and sentence in said.err and said.err.count("\n") == 1
