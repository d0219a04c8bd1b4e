"""What torchrun says to each process that it starts, in variables of the environment; without torch."""

from __future__ import annotations

import os

__all__ = ["launched_processes", "launched_rank", "local_processes"]

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched_processes() -> int | None:
    """How many processes torchrun has started for this run; None where it did not start this one."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in VARIABLES) else None


def launched_rank() -> int:
    """The number of this process among them; 0 where there is only one."""
    return int(os.environ["RANK"]) if launched_processes() is not None else 0


def local_processes() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launched_processes() is not None else 1
