"""What others published about randomized smoothing on CIFAR-10, with the source of each number. Ours stand in the cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where numbers were read, and under which conditions they were made."""

    name: str
    what: str
    conditions: str
    url: str = ""


@dataclass(frozen=True)
class Predicted:
    """Shares of test images after PREDICT with n draws: its class is the true one, is what far more draws say, or neither."""

    right_accurate: float
    right_inaccurate: float
    wrong_accurate: float
    wrong_inaccurate: float
    abstained: float


REPORT = Source(
    "Report",
    "Belhkir, Covili, de la Seiglière: Training Robust Neural Networks, project report, 2021, tables 1, 3 and 4",
    "ResNet-50 trained under Gaussian noise; alpha 0.001. How many images and draws stand behind table 3 is not said.",
)
COHEN = Source(
    "Cohen et al.",
    "Cohen, Rosenfeld, Kolter: Certified Adversarial Robustness via Randomized Smoothing, ICML 2019",
    "ResNet-110 trained under Gaussian noise; 500 test images, n0 100, n 100,000, alpha 0.001.",
    "https://arxiv.org/abs/1902.02918",
)

SIGMAS = (0.25, 0.5, 1.0)
RADII = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # L2, pixel units

UNDER_NOISE: Mapping[float, tuple[float, float]] = {  # REPORT, table 1: sigma -> (train, test) accuracy on noisy images
    0.25: (0.823, 0.761),
    0.5: (0.67, 0.652),
    1.0: (0.489, 0.484),
}
UNDER_NOISE_NOTE = "The report prints sigma 0.25 in all three rows of its table 1; the order is that of its text."

CERTIFIED: Mapping[str, Mapping[float, tuple[float, ...]]] = {  # source -> sigma -> certified accuracy at RADII
    REPORT.name: {  # table 3
        0.25: (0.55, 0.40, 0.26, 0.0, 0.0, 0.0),
        0.5: (0.52, 0.43, 0.30, 0.19, 0.15, 0.13),
        1.0: (0.39, 0.33, 0.28, 0.23, 0.19, 0.18),
    },
    COHEN.name: {
        0.25: (0.60, 0.43, 0.27, 0.0, 0.0, 0.0),
        0.5: (0.55, 0.41, 0.32, 0.23, 0.15, 0.09),
        1.0: (0.39, 0.34, 0.28, 0.22, 0.17, 0.14),
    },
}

PREDICT_SIGMA = 0.25
PREDICT: Mapping[int, Predicted] = {  # REPORT, table 4: n -> shares; "accurate": what PREDICT says with 100,000 draws
    100: Predicted(0.55, 0.0, 0.18, 0.0, 0.27),
    1000: Predicted(0.69, 0.0, 0.25, 0.0, 0.06),
    10_000: Predicted(0.72, 0.0, 0.27, 0.0, 0.01),
}
