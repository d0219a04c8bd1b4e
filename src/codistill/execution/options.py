"""How the networks of a run are executed: its settings, and the check of their values.

Which executor takes which of them is said by the executors: `Executor.takes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codistill.errors import UserError, check_rules
from codistill.meaning import setting

__all__ = ["ExecutionOptions"]

MOST_THREADS = 1024


@dataclass(frozen=True)
class ExecutionOptions:
    """Device, precision, executor and what executors take."""

    device: str = setting("auto", "rounding")
    """cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    amp: Literal["auto", "off", "bf16"] = setting("auto")
    """Mixed precision of the networks; auto: bfloat16 on CUDA devices that have it, off elsewhere."""
    executor: Literal["loop", "fused", "recompute", "processes", "auto"] = setting("auto", "rounding")
    """How the students run: one after the other; as one network (small ones, faster); again for the backward pass
    (memory of one student); side by side in processes of their own (networks on a CPU of many cores); or what a short
    trial finds fastest, which is then stored in the run (auto)."""
    deterministic: bool = setting(False, "rounding")
    """Auto: choose by a rule, never by the clock, so that every start with the same seed gives the same numbers."""
    compile: bool = setting(False, "rounding")
    """Compile the networks with torch.compile (loop, fused): minutes at the start; measure first whether it pays."""
    micro_batch: int | None = setting(None)
    """Recompute: images that pass at once. The method sees the whole batch, batch norm only these images."""
    memory_limit: float | None = setting(None, "rounding")
    """Auto: GiB that the students' activations may take; 80 percent of what is free if left out."""
    channels_last: bool | None = setting(None, "rounding")
    """Channels-last layout of the networks in memory, faster where they run on a CPU and the default there; networks
    whose forward needs planar activations keep them. Changes results by rounding only."""
    threads: int | None = setting(None, "rounding")
    """CPU threads of this run; PyTorch's choice if left out. Results repeat exactly for the same number only."""
    average: float | None = setting(None)
    """Decay of an exponential moving average of every student's weights, such as 0.999; what is scored and handed back
    is then the average. None if left out."""

    def check_execution(self, batch_size: int) -> None:
        """UserError for a value out of range."""
        size, average = self.micro_batch, self.average
        check_rules(
            ("memory_limit", self.memory_limit, self.memory_limit is None or self.memory_limit > 0, "above 0 GiB"),
            (
                "threads",
                self.threads,
                self.threads is None or 1 <= self.threads <= MOST_THREADS,
                f"1 to {MOST_THREADS}",
            ),
            ("average", average, average is None or 0 <= average < 1, "a decay of 0 or more and below 1"),
        )
        if size is not None and (size < 2 or batch_size % size):
            raise UserError(f"micro_batch {size} of a batch of {batch_size}: give a divisor of it, 2 or more.")
