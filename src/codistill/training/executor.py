"""`--executor auto`: settled once, before the first step, and part of the run from then on."""

from __future__ import annotations

import dataclasses

import torch

from codistill import execution
from codistill.execution import Trial
from codistill.training.session import Session, amp_dtype
from codistill.types import Progress

__all__ = ["settle_executor"]

SHARE = 0.8
"""Of the free memory, where no limit is given."""


def settle_executor(session: Session) -> None:
    """Put the executor that a trial on random images finds best into the session and its configuration.

    With `deterministic` it is chosen by a rule. Nothing happens where the configuration names one. The chosen name is
    what config.yaml and the checkpoints hold, so that a resumed or repeated run uses the same executor; what the trial
    measured goes to summary.json.

    Raises:
        UserError: a step of this group is refused.
    """
    if session.config.executor != "auto":
        return
    trial = _try(session) if session.config.micro_batch is None else Trial("recompute")
    session.config = dataclasses.replace(session.config, executor=trial.chosen)
    session.trial = trial
    amp, size, compiled = amp_dtype(session.config), session.config.micro_batch, session.config.compile
    session.executor = execution.build(trial.chosen, session.group, session.method, amp, size, compiled)


def _try(session: Session) -> Trial:
    s, limit = session, session.config.memory_limit
    free = execution.free_bytes(s.device)
    allowed = int(limit * 2**30) if limit is not None else None if free is None else int(SHARE * free)
    own = torch.Generator().manual_seed(s.config.seed)
    shape = (s.config.batch_size, *s.dataset.train.shape)
    count = s.group.shape.peers if s.config.icl else 1
    views = [torch.randn(shape, generator=own).to(s.device) for _ in range(count)]
    labels_B = torch.randint(s.group.shape.num_classes, shape[:1], generator=own).to(s.device)
    progress = Progress(s.epochs / 2, s.epochs)
    seen = views if s.config.icl else views[0]
    amp, timed = amp_dtype(s.config), not s.config.deterministic
    return execution.try_executors(s.group, s.method, seen, labels_B, progress, amp, allowed, timed)
