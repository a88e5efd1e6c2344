"""Two cards beside each other: paired where both keep verdicts of the same images, by counts otherwise, adjusted together."""

from dataclasses import replace

import pytest

from explorer.core.statistics import mcnemar
from explorer.evaluation.measure import packed
from explorer.evaluation.pairing import FISHER, MCNEMAR, compared, differences
from explorer.models import zoo
from tests.evaluation.test_measure import stored

N = 1000


def card(each, **changes):
    found = stored(correct=sum(each), accuracy=sum(each) / N, verdicts=packed(each), rows="r", **changes)
    return replace(zoo.card("cifar10/lenet"), measures=[found])


def test_the_same_images_are_paired_and_others_are_not():
    a, b = [i % 2 == 0 for i in range(N)], [i % 2 == 0 and i > 40 for i in range(N)]
    (found,) = compared(card(a), card(b))
    assert (found.test, found.only_first, found.only_second) == (MCNEMAR, 21, 0)
    assert found.p == found.adjusted == pytest.approx(mcnemar(21, 0))
    others = replace(card(b), measures=[card(b).measures[0] | {"rows": "s"}])
    (other,) = compared(card(a), others)
    assert (other.test, other.only_first) == (FISHER, None) and other.p > found.p  # conservative on the same images
    assert compared(card(a), card(b, eps=1 / 255)) == []


def test_what_differs_is_told_field_by_field():
    first, second = zoo.card("cifar10/lenet"), zoo.card("cifar10/lenet-at")
    found = {key: (a, b) for key, a, b in differences(first, second)}
    assert found["recipe"] == ("lenet", "lenet-at") and "dataset" not in found and "sha256" not in found
    assert any(key.startswith("hyper.") for key in found) and differences(first, first) == []
