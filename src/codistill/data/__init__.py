"""Images for a run: where they come from, how they are split, and what each peer sees of them.

`SOURCES` names every data set; `load` brings one into memory as uint8, or finds its files; `from_torch` takes a user's
own; `split_validation` and `take_subset` choose indices; `batches` orders them; `training_views` reads an epoch of
batches as networks see them (`make_views` one batch in memory), `mix_views` mixes them, `normalise` is for evaluation.
"""

from codistill.data.catalog import SOURCES, available, check_name, describe, from_torch, load
from codistill.data.from_torch import MapDataset
from codistill.data.lazy import LazyImages
from codistill.data.mix import mix_views
from codistill.data.normalise import normalise
from codistill.data.order import batch_count, batches
from codistill.data.policy import POLICIES, AugmentPolicy
from codistill.data.source import Source
from codistill.data.split import split_validation, take_subset
from codistill.data.stream import default_workers, evaluation_batches, training_views
from codistill.data.types import Dataset, Images, ImageSet
from codistill.data.views import make_views

__all__ = [
    "POLICIES",
    "SOURCES",
    "AugmentPolicy",
    "Dataset",
    "ImageSet",
    "Images",
    "LazyImages",
    "MapDataset",
    "Source",
    "available",
    "batch_count",
    "batches",
    "check_name",
    "default_workers",
    "describe",
    "evaluation_batches",
    "from_torch",
    "load",
    "make_views",
    "mix_views",
    "normalise",
    "split_validation",
    "take_subset",
    "training_views",
]
