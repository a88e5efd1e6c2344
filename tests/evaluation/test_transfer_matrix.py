"""Transfer matrix: its diagonal is the white-box attack, and a cell does not depend on which other models are asked."""

import torch

from explorer.attacks import ATTACKS
from explorer.core import Linf
from explorer.data import load
from explorer.evaluation import robust_accuracy
from explorer.evaluation.measure import unpacked
from explorer.evaluation.transfer_matrix import Tried, tried_on_each
from explorer.models import zoo

NAMES = ("cifar10/lenet", "cifar10/lenet-at")


def test_the_diagonal_is_the_white_box_attack_and_cells_stand_alone():
    images, attack, ball = load("cifar10", n=30, source="sample"), ATTACKS["fgsm"](), Linf(4 / 255)
    models = {name: zoo.load(name) for name in NAMES}
    found = tried_on_each(models[NAMES[0]], models, images, attack, ball)
    white = robust_accuracy(models[NAMES[0]], images, attack, ball)
    own = found[NAMES[0]]
    still = [right and not fooled for right, fooled in zip(own.right, own.fooled, strict=True)]
    assert still == unpacked(white.verdicts, 30)
    alone = tried_on_each(models[NAMES[0]], {NAMES[1]: models[NAMES[1]]}, images, attack, ball)
    assert alone[NAMES[1]] == found[NAMES[1]]
    over = robust_accuracy(models[NAMES[1]], images, attack, ball, craft_on=models[NAMES[0]], source_model=NAMES[0])
    other = found[NAMES[1]]
    assert sum(other.right) - sum(other.fooled) == over.correct  # FGSM draws nothing
    assert torch.tensor(other.right)[torch.tensor(other.fooled)].all()


def test_a_cell_without_a_right_picture_has_no_share():
    assert Tried([False], [False]).facts() == {"n": 0, "correct": 0, "accuracy": 0.0, "low": 0.0, "high": 1.0}
