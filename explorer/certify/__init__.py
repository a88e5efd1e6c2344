"""Randomized smoothing: what a network under Gaussian noise predicts, and how far that prediction is proven."""

from explorer.certify.accuracy import CertifiedAccuracy, certified_accuracy, certify_many
from explorer.certify.bounds import largest_radius, lower_bound
from explorer.certify.params import CertifyParams, PredictParams
from explorer.certify.smoothing import Certificate, Prediction, certify, predict

__all__ = [
    "Certificate",
    "CertifiedAccuracy",
    "CertifyParams",
    "PredictParams",
    "Prediction",
    "certified_accuracy",
    "certify",
    "certify_many",
    "largest_radius",
    "lower_bound",
    "predict",
]
