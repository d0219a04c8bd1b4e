"""How the networks of a run are executed: its settings, and the check of their values.

`Executor.takes` says which executor reads which of them.
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
    amp: Literal["auto", "off", "bf16", "fp16"] = setting("auto")
    """Mixed precision of the networks; auto: bfloat16 on CUDA devices that support it, otherwise off. fp16 scales the
    loss so that small gradients survive, and is for GPUs without bfloat16."""
    tf32: bool = setting(False, "rounding")
    """Let CUDA round the factors of products to TensorFloat-32 where the networks compute in float32: faster."""
    executor: Literal["loop", "fused", "recompute", "distributed", "auto"] = setting("auto", "rounding")
    """How the students run: one after the other; fused into one network (faster for small ones); with a second forward
    pass for the backward pass (memory of one student); divided among processes (with --mesh); or what a short trial
    finds fastest, which is then stored in the run (auto)."""
    deterministic: bool = setting(False, "rounding")
    """Auto: choose by a rule, not by measured times, so that each start with the same seed gives the same numbers."""
    compile: bool = setting(False, "rounding")
    """Compile the networks with torch.compile (loop, fused): takes minutes at the start, so measure whether it pays."""
    cuda_graphs: bool | None = setting(None, "rounding")
    """Record the training step once as a CUDA graph and replay it (loop, fused): many times faster for small networks
    on a GPU. If left out, auto measures whether it pays, and all other executors go without."""
    micro_batch: int | None = setting(None)
    """Recompute: images in one pass. The method sees the whole batch, batch norm only these images."""
    memory_limit: float | None = setting(None, "rounding")
    """Auto: GiB that the students' activations may take; 80 percent of what is free if left out."""
    channels_last: bool | None = setting(None, "rounding")
    """Channels-last layout of the networks in memory: faster on a CPU, and the default there; networks whose forward
    needs planar activations keep that layout. Changes results by rounding only."""
    mesh: str | None = setting(None, "rounding")
    """Processes that train one run together: data=2,peer=2 divides each batch among two and the students among two;
    auto takes as many as torchrun has started, or as there are GPUs (docs/distributed.md). One process if left out."""
    sync_batch_norm: bool = setting(True)
    """With several processes: batch norms take their statistics from the whole batch, as one process does; off: each
    from its own rows, which sends less."""
    rank_timeout: float = setting(300.0, "nothing")
    """Seconds after which a process that waits for another one gives up, and the run ends with what it has saved."""
    threads: int | None = setting(None, "rounding")
    """CPU threads of this run; PyTorch's choice if left out. Results repeat exactly only with the same number."""
    average: float | None = setting(None)
    """Decay of an exponential moving average of each student's weights, such as 0.999; the average is then scored and
    handed back. No average if left out."""

    def check_execution(self, batch_size: int) -> None:
        """Raise UserError for a value that is out of range."""
        self.check_values()
        size = self.micro_batch
        if size is not None and (size < 2 or batch_size % size):
            raise UserError(f"micro_batch {size} of a batch of {batch_size}: give a divisor of it, 2 or more.")

    def check_values(self) -> None:
        """UserError for a value that is out of range whatever the batch."""
        size, average = self.micro_batch, self.average
        check_rules(
            ("micro_batch", size, size is None or size >= 1, "a number of images"),
            ("memory_limit", self.memory_limit, self.memory_limit is None or self.memory_limit > 0, "above 0 GiB"),
            (
                "threads",
                self.threads,
                self.threads is None or 1 <= self.threads <= MOST_THREADS,
                f"1 to {MOST_THREADS}",
            ),
            ("rank_timeout", self.rank_timeout, self.rank_timeout >= 1, "1 second or more"),
            ("average", average, average is None or 0 <= average < 1, "a decay of 0 or more and below 1"),
        )
