"""Randomized smoothing: what a network under Gaussian noise predicts, and how far that prediction is proven."""

from explorer.certify.accuracy import (
    CertifiedAccuracy,
    Mean,
    accuracy_under_noise,
    average_radius,
    certified_accuracy,
    certify_many,
)
from explorer.certify.bounds import anytime_lower_bound, fewest_draws, largest_radius, lower_bound
from explorer.certify.params import CertifyParams, Precision, PredictParams
from explorer.certify.results import Certificate, CertifyProgress, Prediction, TopClass
from explorer.certify.run_log import RunLog
from explorer.certify.smoothed import Smoothed, certify, predict

__all__ = [
    "Certificate",
    "CertifiedAccuracy",
    "CertifyParams",
    "CertifyProgress",
    "Mean",
    "Precision",
    "PredictParams",
    "Prediction",
    "RunLog",
    "Smoothed",
    "TopClass",
    "accuracy_under_noise",
    "anytime_lower_bound",
    "average_radius",
    "certified_accuracy",
    "certify",
    "certify_many",
    "fewest_draws",
    "largest_radius",
    "lower_bound",
    "predict",
]
