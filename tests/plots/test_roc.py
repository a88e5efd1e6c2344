"""ROC curves: the class's colour, the pictures' dash, and the rates as they are."""

import numpy as np

from explorer.plots.roc import RocCurve, class_roc
from explorer.plots.theme import class_color


def test_a_class_keeps_its_colour_and_a_set_of_pictures_its_dash():
    ends = np.array([0.0, 1.0])
    curves = [RocCurve("Dress", 3, "clean", ends, ends, 0.5), RocCurve("Dress", 3, "FGSM", ends, ends, 0.5)]
    _, clean, attacked = class_roc(curves, ["clean", "FGSM"]).data
    (_, alone) = class_roc(curves[1:], ["clean", "FGSM"]).data
    assert clean.line.color == attacked.line.color == class_color(3)
    assert clean.line.dash == "solid" != attacked.line.dash == alone.line.dash and "0.500" in clean.name
