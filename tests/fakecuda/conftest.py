"""The impersonated GPU as a fixture."""

import shutil

import pytest
import torch

from tests.fakecuda import impersonate


@pytest.fixture
def gpu():
    """Two CUDA devices that are not there."""
    if shutil.which("g++") is None or torch.cuda.is_available():
        pytest.skip("the impersonated GPU needs g++, and no CUDA device, which would be hidden")
    with impersonate(devices=2):
        yield
