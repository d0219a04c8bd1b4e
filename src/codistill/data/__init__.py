"""Images for a run: where they come from, how they are split, and what each peer sees of them.

`SOURCES` names every data set; `load` brings one into memory as uint8; `split_validation` and `take_subset` choose
indices; `batches` orders them; `make_views` and `normalise` turn a batch into what networks read.
"""

from codistill.data.catalog import SOURCES, available, describe, load
from codistill.data.order import batches
from codistill.data.source import Source
from codistill.data.split import split_validation, take_subset
from codistill.data.types import AugmentPolicy, Dataset, ImageSet
from codistill.data.views import make_views, normalise

__all__ = [
    "SOURCES",
    "AugmentPolicy",
    "Dataset",
    "ImageSet",
    "Source",
    "available",
    "batches",
    "describe",
    "load",
    "make_views",
    "normalise",
    "split_validation",
    "take_subset",
]
