"""Score a run's weights again, on the data set that its configuration names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from codistill import execution
from codistill.errors import unknown
from codistill.rundir import is_complete
from codistill.training.checkpoint import read_checkpoint
from codistill.training.elsewhere import device_to_score_on
from codistill.training.groups import NetworkSource
from codistill.training.loop import evaluate
from codistill.training.numerics import kernels
from codistill.training.recalibration import lent
from codistill.training.reopen import rebuild_session, settings_and_checkpoint
from codistill.training.run_data import DataSource
from codistill.training.student import recorded_leader

__all__ = ["SPLITS", "evaluate_run"]

SPLITS = ("test", "validation")


def evaluate_run(
    run_dir: Path | str,
    *,
    split: str = "test",
    checkpoint: str = "last",
    device: str | None = None,
    amp: str | None = None,
    dataset: DataSource | None = None,
    network: NetworkSource | None = None,
) -> dict[str, Any]:
    """Return the evaluation record (docs/run-directory.md) of a run's weights as plain data; the run is not changed.

    Args:
        run_dir: the run directory.
        split: "test" or "validation".
        checkpoint: "last" or "selected".
        device: where to score; if None, on the run's device, or if that is not here, on what is.
        amp: the precision ("auto", "off", "bf16", "fp16"); the run's if None.
        dataset: the data again, if `train` was given them; or, for the split "test", other images of the same
            classes as a pair (train, test), such as a newer test set.
        network: the networks again, if `train` was given them.

    Raises:
        UserError: there is no run, the data or networks are missing or not those of the run, config.yaml was edited
            since the run began, or the split, checkpoint or device is unknown.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    run_dir = Path(run_dir)
    config, found = settings_and_checkpoint(run_dir)
    if checkpoint != "last":
        found = read_checkpoint(run_dir, checkpoint)
    # For a single pass, an executor that starts slowly is not worth it, and compiling would take minutes.
    executor = execution.find(config.executor).evaluates_as or config.executor
    changed = {"executor": executor, "compile": False, "cuda_graphs": None, "mesh": None, "amp": amp or config.amp}
    changed["device"] = device_to_score_on(config, run_dir, device)
    other = dataset is not None and split == "test"
    config = dataclasses.replace(config, **changed)
    with kernels(config), rebuild_session(config, dataset, run_dir, other, network) as session:
        found.load_into(session.executor.modules())
        leader = session.leader
        with lent(session, found.statistics):
            if leader is None and is_complete(run_dir):
                leader = recorded_leader(run_dir, checkpoint)
            elif leader is None and split == "test":
                # The test set has no say in which student leads, also in an unfinished run.
                leader = evaluate(session, session.images("validation"), None).leader_peer
            return evaluate(session, session.images(split), leader).to_json()
