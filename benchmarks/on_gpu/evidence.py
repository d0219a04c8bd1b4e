"""Which machine, versions and code the numbers hold for."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import codistill

__all__ = ["evidence"]


def evidence(command: str, device: torch.device, minutes: float) -> dict[str, Any]:
    """Return what has to stand above the results; what cannot be found out is left out."""
    facts: dict[str, Any] = {
        "command": command,
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "device": str(device),
        "rehearsal": device.type == "cpu",
        "minutes": minutes,
        "cores": os.cpu_count(),
        "versions": _versions(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["card"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        facts["driver"] = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    facts["commit"] = _commit()
    return {name: value for name, value in facts.items() if value is not None}


def _versions() -> dict[str, str | None]:
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    versions = {
        "codistill": codistill.__version__,
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "cuDNN": None if cudnn is None else str(cudnn),
        "python": platform.python_version(),
    }
    return {name: version for name, version in versions.items() if version is not None}


def _commit() -> str | None:
    here = str(Path(__file__).parent)
    commit = _output("git", "-C", here, "rev-parse", "--short", "HEAD")
    if commit is None:
        return None
    return commit + (" with changes" if _output("git", "-C", here, "status", "--porcelain") else "")


def _output(*command: str) -> str | None:
    """The first line that a program prints, "" if it prints none; None if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout.strip().splitlines() or [""])[0]
