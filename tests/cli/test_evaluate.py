"""`python -m explorer evaluate` and `bench`: numbers with all their conditions."""

import json

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.core import Ball, Cancelled
from explorer.data import load
from explorer.evaluation import robust_accuracy, standard, standard_measures
from explorer.features import reference
from explorer.models import zoo

ONE = ("evaluate", "cifar10/tiny", "--attack", "pgd", "--set", "steps=2", "--eps", "2/255", "--n", "20")
EXACT = (*ONE, "--precision", "float32")


@pytest.fixture(autouse=True)
def no_full_set(monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)


def test_one_attack_gives_the_librarys_number_and_says_its_conditions(cli, tiny, tmp_path):
    said = cli(*EXACT, "--seed", "5", "--json", tmp_path / "m.json")
    assert said.code == 0, said.err
    (found,) = json.loads((tmp_path / "m.json").read_text("utf-8"))["measures"]
    images = load("cifar10", n=20)
    again = robust_accuracy(zoo.load("cifar10/tiny"), images, ATTACKS["pgd"](steps=2), Ball("linf", 2 / 255), seed=5)
    assert {**found, "seconds": 0, "chosen": ""} == {**again.to_dict(), "seconds": 0, "chosen": ""}
    for part in (
        "n=20",
        "pgd (steps=2",
        "linf 2/255",
        "seed 5",
        "float32",
        "20, evenly from all classes",
        "bundled sample",
    ):
        assert part in said.out
    low, high = 100 * found["low"], 100 * found["high"]
    assert f"{100 * found['accuracy']:.1f} % [{low:.1f}, {high:.1f}]" in said.out


def test_gradients_are_in_bfloat16_unless_a_card_is_written(cli, tiny, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert "bfloat16 attack, float32 verdict" in cli(*ONE).out and "bfloat16 attack" not in cli(*EXACT).out
    assert "bfloat16 attack" not in cli(*ONE, "--write").out
    assert {m["precision"] for m in zoo.card("cifar10/tiny").measures} == {"float32"}


def test_common_corruptions_are_a_table_in_the_card(cli, tiny):
    said = cli("evaluate", "cifar10/tiny", "--corruptions", "--n", "10", "--write")
    assert said.code == 0, said.err
    found = zoo.card("cifar10/tiny").measures[-1]
    assert found["kind"] == "corrupted" and len(found["outcomes"]) == 16 and found["n"] == 10
    assert "JPEG compression" in said.out and "severity 5" in said.out and "right under all 75" in said.out
    assert "JPEG compression" in cli("models", "cifar10/tiny").out


def test_the_standard_measures_go_into_the_card(cli, tiny, monkeypatch):
    label, _, ball = standard.IN_TURN
    monkeypatch.setattr(standard, "IN_TURN", (label, (("apgd-ce", {"steps": 2}), ("apgd-t", {"steps": 2})), ball))
    said = cli("evaluate", "cifar10/tiny", "--n", "4", "--write")
    assert said.code == 0, said.err
    kinds = [(m["kind"], m["attack"], m["norm"], m["n"]) for m in zoo.card("cifar10/tiny").measures]
    assert kinds == [
        ("clean", None, None, 2000),
        ("white-box", "fgsm", "linf", 4),
        ("white-box", "pgd", "linf", 4),
        ("white-box", "pgd", "l2", 4),
        ("white-box", "apgd-ce+apgd-t", "linf", 4),
    ]
    assert "s an image" in said.out and "restarts=3" in said.out
    assert "n=2,000" in cli("models").out


def test_what_was_measured_before_a_stop_stands_in_the_card(cli, tiny, monkeypatch):
    def stopped_after_two(*args, **options):
        for index, measure in enumerate(standard_measures(*args, **options)):
            if index == 2:
                raise Cancelled("stopped")
            yield measure

    monkeypatch.setattr("explorer.cli.evaluate.standard_measures", stopped_after_two)
    assert cli("evaluate", "cifar10/tiny", "--n", "4", "--write").code != 0
    assert [m["kind"] for m in zoo.card("cifar10/tiny").measures] == ["clean", "white-box"]


def test_a_stochastic_model_stands_the_adaptive_attacks_and_no_other_does(cli, tiny):
    said = cli("evaluate", "cifar10/tiny", "--adaptive")
    assert said.code != 0 and "must be stochastic" in said.err
    said = cli(*ONE, "--twin", "cifar10/tiny")
    assert said.code != 0 and "--twin belongs to --adaptive" in said.err


def test_transfer_names_the_model_it_was_made_on(cli, tiny):
    said = cli(*ONE, "--craft-on", "cifar10/tiny")
    assert said.code == 0 and "transfer pgd" in said.out and "made on cifar10/tiny" in said.out


def test_the_smallest_change_gives_a_median_and_a_share_beyond_eps(cli, tiny):
    words = ("evaluate", "cifar10/tiny", "--attack", "deepfool", "--norm", "l2", "--n", "20", "--json", "-")
    found = {}
    for eps in ("0.0001", "50"):
        said = cli(*words, "--eps", eps)
        assert said.code == 0, said.err
        (found[eps],) = json.loads(said.out)["measures"]
        assert "median distance" in said.err
    near, far = found["0.0001"], found["50"]
    assert far["correct"] == 0 < near["correct"] and 0 < near["median_distance"] == far["median_distance"]
    refused = cli("evaluate", "cifar10/tiny", "--attack", "cw", "--norm", "linf", "--n", "2")
    assert refused.code == 2 and "norm must be l2" in refused.err


def test_clean_alone(cli, tiny):
    (found,) = json.loads(cli("evaluate", "cifar10/tiny", "--clean", "--n", "30", "--json", "-").out)["measures"]
    assert (found["kind"], found["n"]) == ("clean", 30)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["evaluate"], "needs a model's name, or --reports"),
        (["evaluate", "cifar10/tinny"], "Did you mean 'cifar10/tiny'?"),
        (["evaluate", "cifar10/tiny", "--attack", "fsgm"], "Did you mean 'fgsm'?"),
        (["evaluate", "cifar10/tiny", "--set", "steps=3"], "belong to --attack"),
        (["evaluate", "cifar10/tiny", "--attack", "pgd", "--clean"], "not allowed with"),
        ([*ONE, "--eps", "8"], "Did you mean 8/255?"),
        ([*ONE, "--norm", "l1"], "norm must be linf or l2 for PGD"),
        ([*ONE, "--n", "0"], "n must be a whole number in [1, 10000]; got '0'."),
        ([*ONE, "--n", "5000"], "data download cifar10"),
        ([*ONE, "--craft-on", "cifar10/nobody"], "Unknown model 'cifar10/nobody'"),
        (["bench", "cifar10/tinny"], "Did you mean 'cifar10/tiny'?"),
        (["bench", "--repeats", "0"], "repeats must be a whole number"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(words, part, cli, tiny):
    said = cli(*words)
    assert said.code == 2 and part in said.err and said.err.count("\n") == 1


def test_the_benchmark_reports_ratio_target_and_load(cli, tiny, monkeypatch):
    import explorer.cli.bench as command

    whole_bench = command.bench
    monkeypatch.setattr(
        command, "bench", lambda *rest, **options: whole_bench(*rest, **options, steps=2, batches=(1, 3))
    )
    said = cli("bench", "cifar10/tiny", "--repeats", "1", "--json", "-")
    rows = json.loads(said.out)
    assert [row["batch"] for row in rows] == [1, 3, 1] and rows[0]["ratio"] > 0
    assert "at most 1.10 is wanted" in said.err and "load" in said.err


def test_detection_goes_into_the_card_beside_the_accuracies(cli, tiny, tiny_folder, monkeypatch):
    model = zoo.load("cifar10/tiny")
    with torch.no_grad():
        model.head.bias.sub_(model(load("cifar10", n=100).x).mean(0))  # untrained, but not of one mind about all images
    zoo.write(tiny_folder, tiny, model)
    few = reference(model, "cifar10", n=100)
    monkeypatch.setattr("explorer.evaluation.detection.reference", lambda model, dataset, key: few)
    words = ("evaluate", "cifar10/tiny", "--detection", "--n", "40", "--eps", "0.5", "--set", "steps=2", "--write")
    said = cli(*words)
    assert said.code == 0, said.err
    assert (
        said.out.count("AUC ") == 3
        and "caught at 5% false alarms" in said.out
        and "40, evenly from all classes" in said.out
    )
    assert cli(*words).code == 0  # the same again replaces them
    found = zoo.card("cifar10/tiny").measures
    assert [(m["kind"], m["detector"], m["knows_detector"], m["eps"]) for m in found] == [
        ("detection", "centre", False, 0.5),
        ("detection", "neighbours", False, 0.5),
        ("detection", "centre", True, 0.5),
    ]
    assert all(0 <= m["low"] <= m["auc"] <= m["high"] <= 1 and m["n"] <= m["clean"] <= 40 for m in found)
    assert [("not adaptive" in m["note"]) for m in found] == [True, True, False]
    assert "detection: AUC " in cli("models", "cifar10/tiny").out
    assert "far from its class's centre; PGD, 2 steps, evading it" in cli("models", "cifar10/tiny", "--markdown").out


@pytest.mark.parametrize("words", [("--set", "steps=2"), ("--eps", "0.1"), ("--norm", "l2")])
def test_an_attack_s_options_need_an_attack(cli, tiny, words):
    said = cli("evaluate", "cifar10/tiny", *words)
    assert said.code == 2 and "belong to --attack" in said.err


def test_detection_is_in_float32(cli, tiny):
    said = cli("evaluate", "cifar10/tiny", "--detection", "--precision", "bfloat16")
    assert said.code == 2 and "float32" in said.err
