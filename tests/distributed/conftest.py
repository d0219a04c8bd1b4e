"""What processes of a mesh found, each number of processes started once for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from codistill.execution.world import Mesh

LIMIT = 900
"""Seconds for all cases of one number of processes."""


def start(count: int, folder: Path) -> None:
    """Run all cases, in a session of their own, so that nothing outlives a failure."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *filter(None, sys.path)]
    # The one warning of DistributedDataParallel per network would fill the screen.
    settings = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(Path(__file__).with_name("mesh_driver.py")), str(count), str(folder)]
    log = folder / f"{count}.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | settings, start_new_session=True)
        try:
            code = process.wait(LIMIT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
    assert code == 0, log.read_text()[-5000:]


@pytest.fixture(scope="session")
def on_mesh(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """What each process found in a case: on_mesh("data=2,peer=2", "dml fp64")."""
    folder = tmp_path_factory.getbasetemp()
    # The parallel processes of pytest share what the first one of them has started.
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "meshes"
    folder.mkdir(exist_ok=True)

    def found(mesh: str, case: str) -> list[Any]:
        count = Mesh.parse(mesh).size
        path = folder / f"{count}.json"
        with FileLock(folder / f"{count}.lock"):
            if not path.exists():
                start(count, folder)
        outcome = json.loads(path.read_text())[f"{mesh} {case}"]
        assert "error" not in outcome, outcome["error"]
        return outcome["values"]

    return found
