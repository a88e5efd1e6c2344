"""Everything that can be run on the impersonated GPU: `python -m tests.fakecuda.all` (minutes; pytest's options may follow).

Every attack under all its threat models, untargeted and targeted, with generators of the CPU and of the device, on a
deterministic and a stochastic network; every work of the engine; the commands; one epoch of every recipe; on two devices.
"""

import os
import sys

import pytest

if __name__ == "__main__":
    os.environ["FAKECUDA"] = "all"
    sys.exit(pytest.main(["tests/fakecuda", "tests/gpu", "--timeout", "600", *sys.argv[1:]]))
