"""What the penultimate layer says: reference images on maps (PCA, UMAP), a walk drawn into them, and what is measured."""

from explorer.features.embedding import Embedding, NoMap
from explorer.features.maps import METHODS, FeatureMap, Maps, Regions, regions, trustworthiness
from explorer.features.neighbours import OFF_MAP, Gauge, K, Neighbours
from explorer.features.plane import Plane
from explorer.features.reference import Gathering, Reference, check_features, reference
from explorer.features.ways import feature_path

__all__ = [
    "METHODS",
    "OFF_MAP",
    "Embedding",
    "FeatureMap",
    "Gathering",
    "Gauge",
    "K",
    "Maps",
    "Neighbours",
    "NoMap",
    "Plane",
    "Reference",
    "Regions",
    "check_features",
    "feature_path",
    "reference",
    "regions",
    "trustworthiness",
]
