"""Measures over many images, each with its conditions."""

from explorer.evaluation.adaptive import adaptive_measures
from explorer.evaluation.bench import bench
from explorer.evaluation.corrupted import corrupted_accuracy
from explorer.evaluation.detection import DetectionMeasure, detection_measures
from explorer.evaluation.measure import Measure
from explorer.evaluation.robustness import clean_accuracy, noisy_accuracy, robust_accuracy
from explorer.evaluation.standard import standard_measures, write_measures
from explorer.evaluation.verdict import Verdict, round_to_8bit, verify

__all__ = [
    "DetectionMeasure",
    "Measure",
    "Verdict",
    "adaptive_measures",
    "bench",
    "clean_accuracy",
    "corrupted_accuracy",
    "detection_measures",
    "noisy_accuracy",
    "robust_accuracy",
    "round_to_8bit",
    "standard_measures",
    "verify",
    "write_measures",
]
