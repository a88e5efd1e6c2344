"""Real images: datasets, the bundled sample, uploads."""

from explorer.data.archives import download
from explorer.data.decoder import Look
from explorer.data.folders import data_folders, download_folder
from explorer.data.lazy import LazyPixels
from explorer.data.loading import Images, as_needed, chosen_rows, how_chosen, load, raw
from explorer.data.specs import DATASETS, SPLITS, Dataset, dataset, known
from explorer.data.upload import Upload, read_upload

__all__ = [
    "DATASETS",
    "SPLITS",
    "Dataset",
    "Images",
    "LazyPixels",
    "Look",
    "Upload",
    "as_needed",
    "chosen_rows",
    "data_folders",
    "dataset",
    "download",
    "download_folder",
    "how_chosen",
    "known",
    "load",
    "raw",
    "read_upload",
]
