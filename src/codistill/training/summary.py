"""summary.json: the one reading of the test set, and everything needed to judge and repeat the run."""

from __future__ import annotations

import dataclasses
import platform
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy
import torch

from codistill.config import config_digest, filled
from codistill.rundir import (
    CHECKPOINTS,
    SELECTED,
    Concern,
    ExecutorUsed,
    ImageCounts,
    Leader,
    Machine,
    Outcome,
    Parameters,
    Seconds,
    Summary,
    TrialRecord,
    epoch_folder,
)
from codistill.tracing.cost import trainable
from codistill.training.checkpoint import load_weights
from codistill.training.loop import evaluate
from codistill.training.seeds import PURPOSES, derive_seed
from codistill.training.session import Session

__all__ = ["summarise"]


def summarise(session: Session, started: float) -> Summary:
    """Score the last and the selected weights on the test set; the session is left with the last ones.

    Args:
        session: a run that has trained to its end.
        started: `time.perf_counter()` when this process took up the run.
    """
    config, splits = session.config, session.splits
    selected = _score(session, SELECTED, session.best["epoch"])
    last = _score(session, epoch_folder(session.epoch), session.epoch)
    leader = last.validation.leader_peer
    counts = (splits.train_N, splits.validation_N, session.dataset.test, splits.held_out_N)
    train, validation, test, held_out = map(len, counts)
    return Summary(
        label=filled(config.label),
        method=config.method,
        models=config.model,
        peers=session.shape.peers,
        group=config.group,
        data=config.data,
        seed=config.seed,
        icl=config.icl,
        classes=tuple(session.dataset.classes),
        leader=Leader(peer=leader, rule=_rule(session)),
        headline=session.headline,
        epochs=session.epochs,
        last=last,
        selected=selected,
        concerns=tuple(Concern(**concern) for concern in session.concerns.values()),
        parameters=_parameters(session, leader),
        peak_memory=_peak_memory(session.device),
        executor=_executor(session),
        images=ImageCounts(train=train, validation=validation, test=test, held_out=held_out),
        seeds={"run": config.seed, **{purpose: derive_seed(config.seed, purpose) for purpose in PURPOSES}},
        versions=_versions(),
        machine=_machine(session.device),
        config_sha256=config_digest(config),
        # Last, so that the total includes the scoring.
        seconds=Seconds(training=session.seconds, total=time.perf_counter() - started),
    )


def _score(session: Session, checkpoint: str, epoch: int) -> Outcome:
    load_weights(session.out / CHECKPOINTS / checkpoint, session.executor.modules())
    validation = evaluate(session, session.dataset.train.take(session.splits.validation_N), session.leader)
    # The validation part names the student to deploy if the method does not; the test set never does.
    test = evaluate(session, session.dataset.test, validation.leader_peer)
    return Outcome(epoch=epoch, validation=validation, test=test)


def _parameters(session: Session, leader: int) -> Parameters:
    executor = session.executor
    return Parameters(
        training=trainable(executor.group) + trainable(executor.method),
        deployed=trainable(executor.group.student(leader)),
    )


def _executor(session: Session) -> ExecutorUsed:
    trial = None if session.trial is None else TrialRecord(**dataclasses.asdict(session.trial))
    return ExecutorUsed(name=session.config.executor, trial=trial)


def _rule(session: Session) -> str:
    if session.shape.peers == 1:
        return "only network"
    return "lowest validation error" if session.leader is None else "group leader"


def _peak_memory(device: torch.device) -> int:
    """Return bytes: the most allocated on a CUDA device, else the largest resident set of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _versions() -> dict[str, str]:
    return {
        "codistill": version("codistill"),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def _machine(device: torch.device) -> Machine:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return Machine(device=str(device), processor=name, threads=torch.get_num_threads())


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
