"""One seed for a run, from which each purpose gets its own, so that no two random choices share a stream."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["PURPOSES", "derive_seed", "generator_for"]

PURPOSES = ("split", "subset", "order", "augmentation", "initialisation", "method", "layers", "recalibration")
"""split: validation part. subset: --train-subset. order: of the images. augmentation: random distortions.
initialisation: one seed per peer. method: its parameters and random choices. layers: dropout and the like.
recalibration: images that batch-norm statistics are estimated from."""


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """Return a seed of 63 bits for `purpose` (one of PURPOSES) and `index` (a peer), the same on every machine."""
    assert purpose in PURPOSES, purpose
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_for(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Return a CPU generator seeded by `derive_seed`; torch's global generator is not touched."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, index))
