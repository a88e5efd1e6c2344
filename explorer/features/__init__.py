"""Feature space (the penultimate layer): reference images on maps (PCA, UMAP), a walk drawn into them, and what is measured."""

from explorer.features.maps import METHODS, FeatureMap, Maps, Regions, regions
from explorer.features.measures import trustworthiness
from explorer.features.neighbours import OFF_MAP, Gauge, K, Neighbours
from explorer.features.paths import feature_path
from explorer.features.pca import Plane
from explorer.features.reference import Gathering, Reference, check_features, reference
from explorer.features.umap_map import Embedding, NoMap

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
