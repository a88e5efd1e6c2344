"""A map on its way in a process of its own: what it says, how it ends, and that it can be stopped."""

import sys
import time

import pytest

from explorer.core import InvalidValue
from explorer.engine.mapmaking import MapMaker
from explorer.engine.scheduler import Busy

SOON = 60
SAYS = "import sys; print(sys.argv[1] + ': Laying out 90 images'); print(' '.join(sys.argv[2:]), flush=True)"
SLEEPS = "import time; print('cifar10/x: Loading', flush=True); time.sleep(600)"
FAILS = "import sys; sys.exit('No such model.')"


def maker(script):
    return MapMaker((sys.executable, "-c", script))


def test_it_ends_well_and_has_said_what_it_did():
    making = maker(SAYS).start("cifar10/x")
    assert making.wait(SOON) and making.state == "done" and making.seconds > 0
    assert making.doing == "--background --device cpu"  # the last line: how it was called


def test_a_failure_is_told_in_its_own_words():
    making = maker(FAILS).start("cifar10/x")
    assert making.wait(SOON) and (making.state, making.doing) == ("failed", "No such model.")
    silent = maker("import sys; sys.exit(3)").start("cifar10/x")
    assert silent.wait(SOON) and "code 3" in silent.doing


def test_one_at_a_time_for_everybody_and_cancelled_soon():
    room = maker(SLEEPS)
    making = room.start("cifar10/x")
    try:
        assert room.start("cifar10/x") is making is room.of("cifar10/x") and room.of("cifar10/y") is None
        with pytest.raises(Busy, match="map of cifar10/x is being computed"):
            room.start("cifar10/y")
        until = time.monotonic() + SOON
        while making.doing == "Starting" and time.monotonic() < until:
            time.sleep(0.02)
        assert (making.state, making.doing) == ("running", "Loading") and not making.wait(0)
    finally:
        making.cancel()
    assert making.wait(SOON) and making.state == "cancelled"
    making.cancel()
    assert making.state == "cancelled" and room.start("cifar10/x") is not making
    room.of("cifar10/x").cancel()
    assert room.of("cifar10/x").wait(SOON)


def test_a_name_is_no_option():
    with pytest.raises(InvalidValue, match="got '--all'"):
        maker(SAYS).start("--all")
