"""The attacks that a stochastic model must stand, on a tiny untrained one."""

import pytest
import torch

from explorer.core import InvalidValue
from explorer.data import dataset, load
from explorer.evaluation import tables
from explorer.evaluation.adaptive import adaptive_measures, adaptive_tests, flip_rate
from explorer.evaluation.standard import write_measures
from explorer.jobs.adaptive import ALL, CLEAN, KIND
from explorer.models import ARCHITECTURES, zoo

SIZES = {"n": 6, "source": "sample", "batch": 20, "draws": (1, 4), "queries": 5, "twins": ["cifar10/plain"]}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """cifar10/plain and cifar10/random (stochastic), each of a few hundred parameters."""
    monkeypatch.setattr(zoo, "roots", lambda: [tmp_path])
    spec = dataset("cifar10")
    for name, units in (("plain", 0), ("random", 2)):
        arguments = {"width": 2, "units": units}
        model = ARCHITECTURES["preact-resnet18"](spec.mean, spec.std, spec.shape, 10, **arguments).freeze()
        about = zoo.Card(
            name=f"cifar10/{name}", title=name, summary="", dataset="cifar10", architecture="preact-resnet18",
            arguments=arguments, parameters=0, stochastic=units > 0, recipe="", hyper={}, recipe_hash="", training={},
            history=[], file="", precision="float16", sha256="", bytes=0, command="",
        )  # fmt: skip
        zoo.write(tmp_path / "cifar10", about, model)
    return tmp_path


def test_every_attack_is_named_and_the_worst_of_all_stands_last(models):
    seen = []
    measures = list(adaptive_measures("cifar10/random", **SIZES, progress=lambda *at: seen.append(at)))
    clean, *attacked, worst = measures
    assert clean.kind == "clean" and "of single draws say otherwise" in clean.note
    assert [(m.kind, m.attack, m.draws, m.source_model, m.variant, m.n) for m in attacked] == [
        ("fixed draw", "pgd", 1, None, "one draw, fixed, and judged by it", 6),
        ("white-box", "pgd", 1, None, None, 6),
        ("adaptive", "pgd", 4, None, None, 6),
        ("adaptive", "pgd", 1, None, "expected winners, no draw", 6),
        ("adaptive", "pgd", 20, None, "the training's relaxed winners", 6),
        ("transfer", "pgd", 1, "cifar10/plain", None, 6),
        ("adaptive", "square", 20, None, None, 3),
    ]
    assert attacked[1].verdict_draws == 20 and attacked[0].verdict_draws == 1
    assert worst.n == 3 and worst.correct <= min(m.correct for m in attacked[1:])
    assert ("made on cifar10/plain", 6, 6) in seen


def test_the_measures_stand_beside_each_other_in_the_card_and_its_table(models):
    found = list(adaptive_measures("cifar10/random", **SIZES))
    card = write_measures("cifar10/random", found)
    assert len(card.measures) == len(found) == len(write_measures("cifar10/random", found).measures)
    lines = tables.measures(card).splitlines()
    assert len(lines) == 2 + len(found)
    assert any("expected winners, no draw" in line and "PGD, 50 steps, L∞ 8/255" in line for line in lines)
    assert any("5 queries, 20 draws a step" in line for line in lines)
    fixed = next(m for m in found if m.kind == "fixed draw")
    assert fixed.accuracy is not None and tables.headlines(card)["PGD, L∞ 8/255"].endswith(("n=6", "adaptive**"))


def test_a_deterministic_model_is_refused(models):
    with pytest.raises(InvalidValue, match="must be stochastic"):
        next(adaptive_measures("cifar10/plain", **SIZES))


def test_the_flip_rate_of_a_coin():
    class Coin(torch.nn.Module):
        """Class 0 in 15 of 20 draws, class 1 in the others."""

        stochastic, device, looks = True, torch.device("cpu"), 0

        def forward(self, x):
            at = torch.arange(self.looks, self.looks + len(x)) // 4  # four images, draw after draw
            self.looks += len(x)
            return torch.nn.functional.one_hot((at % 20 < 5).long(), 2).float()

    images = load("cifar10", n=4, source="sample")
    assert flip_rate(Coin(), images, seed=0, batch=4) == pytest.approx(0.25)


def test_a_network_with_noise_on_its_input_is_also_attacked_without_it():
    model = ARCHITECTURES["lenet"]((0.5,) * 3, (0.25,) * 3, noise=0.1).freeze()
    found = {test.label: test for test in adaptive_tests(model, "cpu", (), (1,), 5, 0)}
    assert not any("winners" in label for label in found)
    assert found["its noise switched off"].options["craft_on"].stochastic is False


def test_a_run_measures_the_same_attack_by_attack(models):
    asked = {"model": "cifar10/random", "twin": "cifar10/plain", "images": 6, "most": 4, "queries": 5}
    settings = KIND.checked(asked)
    (question,) = KIND.questions(settings, torch.device("cpu"), lambda: False)
    cells = [question.make(k) for k in range(len(question.pictures))]
    row = KIND.row(question.conditions, cells)
    assert [one["draws"] for one in row["shares"]] == [None, None, 1, 2, 4, None, None, None, None, None]
    assert row["shares"][0]["what"] == CLEAN and row["shares"][-1]["what"] == ALL and row["shares"][-1]["n"] == 3
    assert cells[3] == question.make(3)  # of its index alone
    held = [cell["held"] for cell in cells if cell["held"]]
    assert row["shares"][-1]["accuracy"] == sum(all(one[k] for one in held) for k in range(3)) / 3
    for wrong, words in (
        ({"model": "cifar10/plain"}, "must be stochastic"),
        ({"twin": "cifar10/random"}, "twin must be"),
    ):
        with pytest.raises(InvalidValue, match=words):
            KIND.checked(asked | wrong)
