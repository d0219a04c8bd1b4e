"""How long and by which clock a suite measures, and where other people's code is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Setting"]


@dataclass(frozen=True)
class Setting:
    """The options that every suite shares; the text after a field is its help on the command line."""

    turns: int = 7
    """How often everything is measured, in turns; medians are taken over the turns."""
    clock: Literal["wall", "cpu"] = "wall"
    """wall for an idle machine; cpu, the time of this process alone, for a busy one."""
    threads: int = 1
    """CPU threads of PyTorch."""
    batches: int = 4
    """others: batches of 128 images in an epoch; epochs of tiny networks have ten times as many, of 32 images."""
    okddip: Path | None = None
    """others: folder with the code that OKDDip's authors released."""
    pytorch_dml: Path | None = None
    """others: folder that contains the package pydml."""
    kdlib: Path | None = None
    """others: folder that contains the package KD_Lib."""
