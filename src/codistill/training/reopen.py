"""A run directory as a session again, with the settings and the data that the run began with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from codistill.config import Config, config_from_dict, identity, read_config
from codistill.errors import UserError
from codistill.rundir import CONFIG, INPUT, InputRecord, read_record
from codistill.training.build import build_session
from codistill.training.check import check_config
from codistill.training.checkpoint import latest, load_state
from codistill.training.groups import NetworkSource
from codistill.training.input_record import refuse_other_data
from codistill.training.run_data import DataSource, open_data
from codistill.training.session import Session

__all__ = ["rebuild_session", "settings_and_state"]


def settings_and_state(run_dir: Path) -> tuple[Config, dict[str, Any], Path]:
    """Return the run's configuration, the state of its newest complete checkpoint, and that checkpoint's folder.

    Raises:
        UserError: there is no run or checkpoint, a file is damaged, or config.yaml was edited after the run began.
    """
    config = read_config(run_dir / CONFIG)
    folder = latest(run_dir)
    if folder is None:
        raise UserError(f"{run_dir} has no checkpoint to continue from: start it with 'codistill train --overwrite'.")
    state = load_state(folder)
    _refuse_edited(config, state["config"], run_dir)
    return config, state, folder


def rebuild_session(
    config: Config,
    dataset: DataSource | None,
    run_dir: Path,
    other_images: bool = False,
    network: NetworkSource | None = None,
) -> Session:
    """Build the session of a run that has begun, with the weights of its start.

    Args:
        config: the run's configuration.
        dataset: the data again, if `train` was given them.
        run_dir: the run directory.
        other_images: accept other images of the same classes.
        network: the networks again, if `train` was given them; only their structure counts.

    Raises:
        UserError: the data are not those that the run began with, and whatever `build_session` refuses.
    """
    opened, facts = open_data(check_config(config), dataset), read_record(run_dir / INPUT, InputRecord)
    if config.normalise in ("weights", "imagenet"):
        opened = dataclasses.replace(opened, mean=facts.mean, std=facts.std)
    # Before any part is built: with other data, building could fail with a message that explains less.
    refuse_other_data(facts, opened, run_dir, other_images)
    return build_session(config, opened, network, begun=True)


def _refuse_edited(config: Config, began_with: str, run_dir: Path) -> None:
    # A setting that is newer than the run has its default in both.
    before = json.loads(identity(config_from_dict(json.loads(began_with))))
    now = json.loads(identity(config))
    changed = sorted(k for k in now if before[k] != now[k])
    if changed:
        old = {k: before[k] for k in changed}
        raise UserError(
            f"{run_dir / 'config.yaml'} was edited after the run began (changed: {', '.join(changed)}; it began with "
            f"{old}): undo the change, or start a new run with 'codistill train --config ... --out ...' (from "
            f"these weights with --init {run_dir})."
        )
