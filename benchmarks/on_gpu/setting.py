"""What a part gets: the device, the folder, how long it may go on; and what it gives: measurements."""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Measurement", "Numbers", "Part", "Setting"]

Numbers = dict[str, Any]
"""What a measurement gives, as JSON can hold it."""


@dataclass(frozen=True)
class Setting:
    """The options of one part.

    Attributes:
        device: where to measure; on a CPU everything is a rehearsal on toy sizes.
        out: folder for results.
        deadline: `time.time()` after which no further measurement begins.
    """

    device: torch.device
    out: Path
    deadline: float

    @property
    def rehearsal(self) -> bool:
        """Whether this only shows that the programs run."""
        return self.device.type == "cpu"

    @property
    def scratch(self) -> Path:
        """Folder for whole runs: not in `out`, whose files may have to be copied from machine to machine."""
        return Path(tempfile.gettempdir()) / f"codistill-gpu-{zlib.crc32(str(self.out.resolve()).encode()):08x}"

    @property
    def seconds_left(self) -> float:
        """Until the deadline, 0 or more."""
        return max(self.deadline - time.time(), 0.0)


@dataclass(frozen=True)
class Measurement:
    """One line of the results.

    Attributes:
        what: its name, unique within the part.
        take: measures; an exception is recorded and stops nothing else.
    """

    what: str
    take: Callable[[], Numbers]


Part = Callable[[Setting], Iterator[Measurement]]
"""Measurements in the order of their use; nothing is built before one is taken."""
