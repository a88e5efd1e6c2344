"""A pursuit network's inference steps at test time: what the page shows of each, and what is measured of each."""

import json

import pytest
import torch

from explorer.cli import main
from explorer.core import InvalidValue
from explorer.engine import AttackRequest
from explorer.engine.settling import STEPS, settling_work
from explorer.engine.tracing import picture
from explorer.models import zoo
from explorer.models.pursuit import with_iterations
from explorer.plots.settling import answers_over_steps

NAME = "fashion_mnist/tiny-pursuit"


def test_every_number_of_steps_is_shown_for_the_picture_and_the_attacked_one(engine):
    request = AttackRequest("fashion_mnist", 3, NAME).checked()
    x0 = picture(engine, request)[0]
    moved = (x0 + 0.1).clamp(0, 1)
    *_, found = settling_work(engine, request, moved.numpy(), 2)()
    assert found.trained == 2 and found.probabilities.shape == (STEPS + 1, 2, 10) and found.label == 2
    model = with_iterations(zoo.load(NAME), 5)
    both = torch.stack([x0, moved])
    torch.testing.assert_close(torch.from_numpy(found.rebuilt[5]), model.reconstruction(both))
    torch.testing.assert_close(torch.from_numpy(found.probabilities[5]), model(both).softmax(1))
    torch.testing.assert_close(torch.from_numpy(found.energy[5]), model.energy(both))
    assert (found.energy[1:] <= found.energy[:-1] + 1e-3).all()
    apart = (model.reconstruction(both) - both).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(torch.from_numpy(found.rebuilt_apart[5]), apart)
    figure = answers_over_steps(found.energy, found.trained, "energy")
    assert [list(line.y) for line in figure.data] == [list(found.energy[:, 0]), list(found.energy[:, 1])]


def test_another_model_takes_no_steps(engine):
    request = AttackRequest("fashion_mnist", 3, "fashion_mnist/tiny").checked()
    with pytest.raises(InvalidValue, match="takes no inference steps"):
        settling_work(engine, request, picture(engine, request)[0].numpy(), 0)


def test_each_number_of_steps_is_attacked_through_itself(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    monkeypatch.setattr("explorer.evaluation.inference.QUERIES", 5)
    words = f"evaluate {NAME} --inference 0,2 --n 10 --eps 0.1 --twin fashion_mnist/tiny --json {tmp_path / 'm.json'}"
    assert main(words.split()) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "m.json").read_text("utf-8"))["measures"]
    assert [m["variant"] for m in found] == ["0 inference steps"] * 5 + [None] * 5
    assert [m["kind"] for m in found[:5]] == ["clean", "white-box", "white-box", "white-box", "transfer"]
    assert [m["hyper"].get("loss") for m in found[1:3]] == ["ce", "margin"] and found[4]["source_model"]
    assert all(m["eps"] == 0.1 for m in found if m["attack"]) and found[3]["n"] == 5 and found[0]["n"] == 2000


def test_only_a_pursuit_network_has_inference_steps(capsys):
    assert main(["evaluate", "fashion_mnist/tiny", "--inference", "0,2", "--n", "10"]) == 2
    assert "inference steps can be changed of a pursuit network only" in capsys.readouterr().err
