"""Real images: datasets, the bundled sample, uploads."""

from explorer.data.archives import download
from explorer.data.folders import data_folders, download_folder
from explorer.data.lazy import LazyPixels
from explorer.data.loading import Images, as_needed, load, raw
from explorer.data.specs import DATASETS, SPLITS, Dataset, dataset
from explorer.data.upload import Upload, read_upload

__all__ = [
    "DATASETS",
    "SPLITS",
    "Dataset",
    "Images",
    "LazyPixels",
    "Upload",
    "as_needed",
    "data_folders",
    "dataset",
    "download",
    "download_folder",
    "load",
    "raw",
    "read_upload",
]
