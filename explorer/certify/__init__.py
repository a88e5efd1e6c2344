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
from explorer.certify.params import CertifyParams, PredictParams
from explorer.certify.run_log import RunLog
from explorer.certify.smoothing import (
    Certificate,
    Precision,
    Prediction,
    Tally,
    TopClass,
    certify,
    certifying,
    noisy_copies,
    predict,
    predict_each,
    predicting,
    top_class,
)

__all__ = [
    "Certificate",
    "CertifiedAccuracy",
    "CertifyParams",
    "Mean",
    "Precision",
    "PredictParams",
    "Prediction",
    "RunLog",
    "Tally",
    "TopClass",
    "accuracy_under_noise",
    "anytime_lower_bound",
    "average_radius",
    "certified_accuracy",
    "certify",
    "certify_many",
    "certifying",
    "fewest_draws",
    "largest_radius",
    "lower_bound",
    "noisy_copies",
    "predict",
    "predict_each",
    "predicting",
    "top_class",
]
