"""Data sets: embedded, downloaded with checksums, or a folder of your own."""

from vaelib.data.corpus import Corpus, Split, Vocabulary
from vaelib.data.datasets import DATASETS, DatasetSpec, available, load, statistics_table

__all__ = [
    "DATASETS",
    "Corpus",
    "DatasetSpec",
    "Split",
    "Vocabulary",
    "available",
    "load",
    "statistics_table",
]
