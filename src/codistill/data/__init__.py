"""Images for a run: where they come from, how they are split, and what each peer sees of them.

`SOURCES` lists every data set. `load` reads one into memory as uint8, or finds its files; `from_torch` takes the user's
own. `split_validation` and `take_subset` choose indices, and `batches` orders them. `training_views` yields an epoch of
batches as the networks see them, and `mix_views` mixes the images of a batch. `evaluation_batches` yields all images in
order, for `normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.data.catalog import SOURCES, available, check_name, describe, from_torch, load
    from codistill.data.from_torch import MapDataset
    from codistill.data.lazy import LazyImages
    from codistill.data.mix import mix_views
    from codistill.data.normalise import normalise
    from codistill.data.order import batch_count, batches
    from codistill.data.policy import AugmentPolicy
    from codistill.data.split import split_validation, take_subset
    from codistill.data.stream import default_workers, evaluation_batches, training_views
    from codistill.data.summary import DataSummary, summarise_data
    from codistill.data.types import Dataset, Images, ImageSet

__all__ = [
    "SOURCES",
    "AugmentPolicy",
    "DataSummary",
    "Dataset",
    "ImageSet",
    "Images",
    "LazyImages",
    "MapDataset",
    "available",
    "batch_count",
    "batches",
    "check_name",
    "default_workers",
    "describe",
    "evaluation_batches",
    "from_torch",
    "load",
    "mix_views",
    "normalise",
    "split_validation",
    "summarise_data",
    "take_subset",
    "training_views",
]

import_on_use(
    __name__,
    {
        "catalog": "SOURCES available check_name describe from_torch load",
        "from_torch": "MapDataset",
        "lazy": "LazyImages",
        "mix": "mix_views",
        "normalise": "normalise",
        "order": "batch_count batches",
        "policy": "AugmentPolicy",
        "split": "split_validation take_subset",
        "stream": "default_workers evaluation_batches training_views",
        "summary": "DataSummary summarise_data",
        "types": "Dataset Images ImageSet",
    },
)
