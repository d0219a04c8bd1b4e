"""summary.json: the one reading of the test set, and everything needed to judge and repeat the run."""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy
import torch

from codistill import __version__
from codistill.config import config_digest, filled
from codistill.execution import DistributedExecutor
from codistill.rundir import (
    SELECTED,
    Concern,
    ExecutorUsed,
    ImageCounts,
    Leader,
    Machine,
    MeshRecord,
    MultiplyAccumulates,
    Outcome,
    Parameters,
    Seconds,
    Summary,
    TrialRecord,
)
from codistill.tracing.cost import forward_cost, trainable
from codistill.training.checkpoint import read_checkpoint
from codistill.training.loop import evaluate
from codistill.training.mistakes import MistakeCollector
from codistill.training.recalibration import lent
from codistill.training.seeds import PURPOSES, derive_seed
from codistill.training.session import Session

__all__ = ["summarise"]


def summarise(session: Session, started: float, mistakes: MistakeCollector | None = None) -> Summary:
    """Score the last and the selected weights on the test set; the session is left with the last ones.

    Args:
        session: a run that has trained to its end.
        started: `time.perf_counter()` when this process took up the run.
        mistakes: gathers those of the student to deploy, with the weights of the last epoch.
    """
    config, splits = session.config, session.splits
    selected = _score(session, SELECTED, session.best["epoch"])
    last = _score(session, "last", session.epoch, mistakes)
    leader = last.validation.leader_peer
    early = session.stopped_early and session.epoch < session.epochs
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
        figure=config.headline,
        epochs=session.epochs,
        stopped_early=early,
        stop_reason=session.why_stopped if early else None,
        last=last,
        selected=selected,
        concerns=tuple(Concern(**concern) for concern in session.concerns.values()),
        parameters=_parameters(session, leader),
        multiply_accumulates=_multiply_accumulates(session, leader),
        peak_memory=_peak_memory(session.device),
        executor=_executor(session),
        images=ImageCounts(train=train, validation=validation, test=test, held_out=held_out),
        seeds={"run": config.seed, **{purpose: derive_seed(config.seed, purpose) for purpose in PURPOSES}},
        versions=_versions(),
        machine=_machine(session.device),
        moves=session.moves,
        config_sha256=config_digest(config),
        # Last, so that the total includes the scoring.
        seconds=Seconds(training=session.seconds, total=time.perf_counter() - started),
    )


def _score(session: Session, checkpoint: str, epoch: int, mistakes: MistakeCollector | None = None) -> Outcome:
    found = read_checkpoint(session.out, checkpoint)
    found.load_into(session.executor.modules())
    with lent(session, found.statistics):
        validation = evaluate(session, session.images("validation"), session.leader)
        # The validation part names the student to deploy if the method does not; the test set never does.
        if mistakes is not None:
            mistakes.begin(validation.leader_peer)
        watch = None if mistakes is None else mistakes.add
        test = evaluate(session, session.images("test"), validation.leader_peer, watch)
    return Outcome(epoch=epoch, validation=validation, test=test)


def _parameters(session: Session, leader: int) -> Parameters:
    executor = session.executor
    trained = {id(p): p.numel() for part in session.optimizer.param_groups for p in part["params"]}
    if session.freezing is not None:
        session.freezing.at(session.epochs, thawed=True)
    return Parameters(
        training=sum(trained.values()),
        deployed=trainable(executor.group.student(leader)),
    )


def _multiply_accumulates(session: Session, leader: int) -> MultiplyAccumulates | None:
    group = session.executor.group
    # Two images, since batch norm in training mode refuses a single value per channel.
    views = [(2, *session.dataset.train.shape)] * (session.shape.peers if session.config.icl else 1)
    try:
        together = forward_cost(group, views, session.device).macs
        alone = forward_cost(group.student(leader), views[:1], session.device).macs
    except Exception:  # A network that cannot be followed without values must not cost a finished run its results.
        return None
    return MultiplyAccumulates(training=together // 2, deployed=alone // 2)


def _executor(session: Session) -> ExecutorUsed:
    trial = None if session.trial is None else TrialRecord(**dataclasses.asdict(session.trial))
    return ExecutorUsed(name=session.config.executor, trial=trial, mesh=_mesh(session))


def _mesh(session: Session) -> MeshRecord | None:
    """What the processes have sent and waited; all of them must ask."""
    executor, world = session.executor, session.world
    if world is None:
        return None
    assert isinstance(executor, DistributedExecutor)
    every = world.of_leader(world.gather_on_leader(world.traffic.per_step()))
    return MeshRecord(
        data=world.mesh.data,
        peer=world.mesh.peer,
        placed=tuple(tuple(peers) for peers in executor.placed),
        bytes_per_step=tuple(sent for sent, _ in every or ()),
        waiting=tuple(waited for _, waited in every or ()),
    )


def _rule(session: Session) -> str:
    if session.shape.peers == 1:
        return "only network"
    if session.leader is not None:
        return "group leader"
    figure = session.config.headline
    return "lowest validation error" if figure == "error" else f"best validation {figure}"


def _peak_memory(device: torch.device) -> int | None:
    """Return bytes: the most allocated on a CUDA device, else the largest resident set of this process, if known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # late: Windows has none
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _versions() -> dict[str, str]:
    return {
        # Not from the installed packages: a source folder on PYTHONPATH is not among them.
        "codistill": __version__,
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
