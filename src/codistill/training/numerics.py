"""What the numbers of a run depend on beside its settings: torch's random state, threads, and kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from codistill.config import Config
from codistill.execution.stopwatch import layers_undisturbed
from codistill.training.seeds import derive_seed
from codistill.training.session import Session

__all__ = ["kernels", "layer_randomness"]


@contextmanager
def layer_randomness(session: Session, threads: int | None = None) -> Iterator[None]:
    """Let dropout and the like draw from the run's own seed; the caller's random state is put back afterwards.

    Layers such as dropout can draw from torch's default generator only, so the run borrows it. To repeat results, the
    kernels are repeatable ones, and the number of threads is the configured one, or else `threads`.
    """
    s = session
    before = torch.get_num_threads()
    wanted = s.config.threads or threads
    with layers_undisturbed(s.device), kernels(s.config):
        torch.manual_seed(derive_seed(s.config.seed, "layers"))
        if wanted is not None:
            torch.set_num_threads(wanted)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def kernels(config: Config) -> Iterator[None]:
    """On CUDA, repeatable convolutions, and TensorFloat-32 only where the run asks for it."""
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=config.tf32):
        products.allow_tf32 = config.tf32
        try:
            yield
        finally:
            products.allow_tf32 = before
