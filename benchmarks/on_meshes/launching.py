"""Starts the processes of a launch with torchrun, and reads what they have found."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import codistill
from codistill.execution.world import Mesh
from on_meshes.model import Link
from on_meshes.setting import Launch

__all__ = ["fitted", "launch"]

FOLDERS = (Path(__file__).parents[1], Path(codistill.__file__).parents[1])


def launch(settings: Sequence[Launch], timeout: float = 1800.0) -> list[dict[str, Any]]:
    """Return for each setting the result of `process.measure`, with a list under "each".

    The processes are started once, so all meshes have the same number of them.

    Raises:
        RuntimeError: a process has failed; with the end of what it printed.
        subprocess.TimeoutExpired: it took longer than `timeout` seconds.
    """
    path = os.pathsep.join([*map(str, FOLDERS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "settings.json", Path(folder) / "results.json"
        given.write_text(json.dumps([dataclasses.asdict(setting) for setting in settings]), encoding="utf-8")
        (count,) = {str(Mesh.parse(setting.mesh).size) for setting in settings}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
        done = subprocess.run(
            [*command, "-m", "on_meshes.process", str(given), str(out)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"a launch of {count} processes failed:\n{done.stderr[-4000:]}")
        return json.loads(out.read_text(encoding="utf-8"))


def fitted(messages: list[tuple[int, float]], n: int, reduce: bool) -> Link:
    """A link from timed messages among n processes: latency from the smallest one, bandwidth from the largest one."""
    rounds = (2 if reduce else 1) * (n - 1)
    (_, least), (size, most) = messages[0], messages[-1]
    sent = 2 * size * (n - 1) / n if reduce else size * (n - 1)
    return Link(bandwidth=sent / max(most - least, 1e-9), latency=least / rounds)
