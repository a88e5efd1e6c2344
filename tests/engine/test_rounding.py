"""One rule of rounding: what bounds is rounded up, what is shared is never a false 0 or 100 %."""

import numpy as np
import pytest

from explorer.engine.rounding import of_change, percent, share, size


@pytest.mark.parametrize(
    ("value", "norm", "says"),
    [
        (4.2361 / 255, "linf", "4.24/255"),
        (4.2301 / 255, "linf", "4.24/255"),  # up, not to the nearest
        (
            float(np.float32(8) / 255 + np.float32(0.3)) - float(np.float32(0.3)),
            "linf",
            "8/255",
        ),  # a rounding error apart
        (0.0001234 / 255, "linf", "0.000124/255"),
        (1.0, "linf", "255/255"),
        (0.0, "linf", "0/255"),
        (0.5, "l2", "0.5"),
        (0.50001, "l2", "0.501"),
        (0.9991, "l2", "1"),
        (1234.0, None, "1240"),
        (12.041, "l1", "12.1"),
        (1.0, "l0", "1 pixel"),
        (1024.0, "l0", "1024 pixels"),
        (2.51, "l0", "2.51 pixels"),  # a mean
    ],
)
def test_sizes_are_rounded_up_to_three_digits(value, norm, says):
    assert size(value, norm) == says


def test_what_is_said_is_never_less_than_what_was_measured():
    values = np.random.default_rng(0).uniform(1e-6, 300, 500)
    assert all(float(size(value, "l2")) >= value * (1 - 1e-5) for value in values)


@pytest.mark.parametrize(
    ("p", "says"),
    [(0.9797, "98 %"), (0.928, "93 %"), (0.1, "10 %"), (0.29, "29 %"), (0.994, "99 %"), (0.997, "over 99 %"),
     (0.9997, "over 99.9 %"), (1.0, "over 99.9 %")],
)  # fmt: skip
def test_percent_is_rounded_as_in_the_player_and_never_100(p, says):
    assert percent(p) == says


@pytest.mark.parametrize(
    ("part", "n", "says"),
    [
        (11 / 15, 15, "73 %"),
        (0.725, 200, "72.5 %"),
        (0.9999, 200, "over 99 %"),
        (0.001, 16, "under 1 %"),
        (1.0, 9, "100 %"),
    ],
)
def test_a_share_is_as_fine_as_its_number_allows(part, n, says):
    assert share(part, n).replace("\N{NO-BREAK SPACE}", " ") == says


def test_what_a_change_does_is_said_in_its_norm():
    words = {norm: of_change(3.0, norm) for norm in ("l2", "l1", "l0")} | {"linf": of_change(8 / 255, "linf")}
    assert words["linf"] == "moves no pixel by more than 8/255 (L∞)" and words["l2"] == "has length 3 (L2)"
    assert words["l1"] == "adds up to 3 (L1)" and words["l0"] == "touches 3 pixels (L0)"
