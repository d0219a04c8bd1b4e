"""Score a run's weights again, on the data set that its configuration names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from codistill import execution
from codistill.data import Images
from codistill.errors import unknown
from codistill.training.checkpoint import checkpoint_folder, load_weights
from codistill.training.files import read_json
from codistill.training.loop import evaluate
from codistill.training.reopen import rebuild_session, settings_and_state
from codistill.training.session import DataSource, Session

__all__ = ["SPLITS", "evaluate_run"]

SPLITS = ("test", "validation")


def evaluate_run(
    run_dir: Path | str,
    *,
    split: str = "test",
    checkpoint: str = "last",
    device: str | None = None,
    dataset: DataSource | None = None,
) -> dict[str, Any]:
    """Return the evaluation record (docs/run-directory.md) of a run's weights; nothing in the run is changed.

    Args:
        run_dir: the run directory.
        split: "test" or "validation".
        checkpoint: "last" or "selected".
        device: another device than the run's.
        dataset: the data again, where `train` was given them; or, for the split "test", other images of the same
            classes as a pair (train, test), such as a newer test set.

    Raises:
        UserError: no run there, data not found or not those of the run, config.yaml edited since the run began,
            unknown split, checkpoint or device.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    run_dir = Path(run_dir)
    config, _, _ = settings_and_state(run_dir)
    folder = checkpoint_folder(run_dir, checkpoint)
    # What takes long to start is not worth it for one pass; compiling would take minutes.
    executor = execution.find(config.executor).evaluates_as or config.executor
    changed = {"device": device or config.device, "executor": executor, "compile": False}
    other = dataset is not None and split == "test"
    with rebuild_session(dataclasses.replace(config, **changed), dataset, run_dir, other) as session:
        load_weights(folder, session.executor.modules())
        leader = session.leader
        if leader is None and (run_dir / "summary.json").is_file():
            leader = read_json(run_dir / "summary.json")[checkpoint]["validation"]["leader_peer"]
        elif leader is None and split == "test":
            # The test set has no say in which student leads, in an unfinished run neither.
            leader = evaluate(session, _validation_part(session), None)["leader_peer"]
        return evaluate(session, session.dataset.test if split == "test" else _validation_part(session), leader)


def _validation_part(session: Session) -> Images:
    return session.dataset.train.take(session.splits.validation_N)
