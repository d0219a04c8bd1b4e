"""summary.json: the one reading of the test set, and everything needed to judge and repeat the run."""

from __future__ import annotations

import dataclasses
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch

from codistill.tracing.cost import trainable
from codistill.training.checkpoint import load_weights
from codistill.training.configfile import config_digest
from codistill.training.loop import evaluate, has_leader
from codistill.training.seeds import PURPOSES, derive_seed
from codistill.training.session import Session

__all__ = ["summarise"]


def summarise(session: Session) -> dict[str, Any]:
    """Score the last and the selected weights on the test set; the session is left with the last ones."""
    config, shape = session.config, session.shape
    selected = _score(session, "selected", session.best["epoch"])
    last = _score(session, f"epoch_{session.epoch:04d}", session.epoch)
    leader = last["validation"]["leader_peer"]
    splits = session.splits
    return {
        "version": 1,
        "kind": "codistill-run",
        "label": config.label,
        "method": config.method,
        "models": list(config.model),
        "peers": shape.peers,
        "group": config.group,
        "data": config.data,
        "seed": config.seed,
        "icl": config.icl,
        "classes": list(session.dataset.classes),
        "leader": {"peer": leader, "rule": _rule(session)},
        "headline": "leader" if has_leader(session) else "mean",
        "epochs": session.epochs,
        "last": last,
        "selected": selected,
        "parameters": {
            "training": trainable(session.executor.group) + trainable(session.executor.method),
            "deployed": trainable(session.executor.group.student(leader)),
        },
        "concerns": list(session.concerns.values()),
        "peak_memory": _peak_memory(session.device),
        "executor": {
            "name": config.executor,
            "trial": None if session.trial is None else dataclasses.asdict(session.trial),
        },
        "images": {
            "train": len(splits.train_N),
            "validation": len(splits.validation_N),
            "held_out": len(splits.held_out_N),
            "test": len(session.dataset.test),
        },
        "seeds": {"run": config.seed, **{purpose: derive_seed(config.seed, purpose) for purpose in PURPOSES}},
        "versions": _versions(),
        "machine": _machine(session.device),
        "config_sha256": config_digest(config),
    }


def _score(session: Session, checkpoint: str, epoch: int) -> dict[str, Any]:
    load_weights(session.out / "checkpoints" / checkpoint, session.executor.modules())
    validation = evaluate(session, session.dataset.train.take(session.splits.validation_N), session.leader)
    # The validation part names the student to deploy where the method does not; the test set never does.
    test = evaluate(session, session.dataset.test, validation["leader_peer"])
    return {"epoch": epoch, "validation": validation, "test": test}


def _rule(session: Session) -> str:
    if session.shape.peers == 1:
        return "only network"
    return "lowest validation error" if session.leader is None else "group leader"


def _peak_memory(device: torch.device) -> int:
    """Bytes: allocated on a CUDA device, else the resident set of this process since it started."""
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


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": str(device), "processor": name, "threads": torch.get_num_threads()}


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
