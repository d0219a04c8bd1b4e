"""A run directory as a session again, with the settings and the data that the run began with."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from codistill.config import Config, config_from_dict, filled, identity, read_config
from codistill.data import Dataset
from codistill.errors import UserError
from codistill.execution.launched import launched_rank
from codistill.rundir import CONFIG, INPUT, InputRecord, read_moves, read_record
from codistill.training.build import build_session
from codistill.training.check import check_config
from codistill.training.checkpoint import Checkpoint, read_checkpoint
from codistill.training.code import warn_of_changed_code
from codistill.training.groups import NetworkSource
from codistill.training.input_record import refuse_other_data
from codistill.training.interruption import resume_command
from codistill.training.out_folder import put_back
from codistill.training.run_data import DataSource, open_data
from codistill.training.session import Session

__all__ = [
    "open_again", "rebuild_session", "said_on_resume", "settings_and_checkpoint", "threads_of", "warn_of_unused",
    "with_data_dir",
]  # fmt: skip


def warn_of_unused(run_dir: Path, **options: object) -> None:
    """Warn where a finished run is resumed with options that say how to go on."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        warnings.warn(f"{run_dir} is finished: {', '.join(given)} changed nothing", stacklevel=3)


def settings_and_checkpoint(run_dir: Path) -> tuple[Config, Checkpoint]:
    """Return the run's configuration and its newest checkpoint that is whole.

    Raises:
        UserError: there is no run or checkpoint, a file is damaged, or config.yaml was edited after the run began.
    """
    if launched_rank() == 0:
        put_back(run_dir)
    config = read_config(run_dir / CONFIG)
    checkpoint = read_checkpoint(run_dir)
    _refuse_edited(config, filled(checkpoint.state), run_dir)
    return config, checkpoint


def threads_of(config: Config, checkpoint: Checkpoint) -> int | None:
    """The number of threads with which a run goes on, those that it has had.

    None for a run of a version that did not record it, and where the run goes on in another number of processes, which
    share the cores.
    """
    state = filled(checkpoint.state)
    same = json.loads(state["config"]).get("mesh") == config.mesh
    return state.get("threads") if same else None


def said_on_resume(config: Config, checkpoint: Checkpoint) -> list[str]:
    """Warn of what is no longer as it was when the run was last saved, and return the warnings.

    These are damaged checkpoints, changed code, another version of torch, and another number of threads asked for.
    """
    manifest, threads = checkpoint.manifest, threads_of(config, checkpoint)
    said = [f"{reason}: {checkpoint.folder.name} was used in its place" for reason in checkpoint.damaged]
    texts = []
    if manifest is not None:
        before = manifest.versions.get("torch")
        if before not in (None, torch.__version__):
            texts.append(
                f"this run was last saved by torch {before}, and goes on with {torch.__version__}: its numbers may "
                "differ in rounding from then on"
            )
        said += warn_of_changed_code(config, manifest.code)
    now = config.threads or torch.get_num_threads()
    if threads is not None and now != threads:
        goes_on = (
            f"goes on with {config.threads}, so that its numbers differ in rounding"
            if config.threads
            else (f"goes on with {threads}, though this process would take {now}")
        )
        texts.append(f"this run has had {threads} threads, and {goes_on}")
    for text in texts:
        warnings.warn(text, stacklevel=3)
    return said + texts


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
    # Before any part is built: with other data, building could fail with a message that explains less.
    opened = open_again(check_config(config), dataset, run_dir, other_images)
    return build_session(config, opened, network, begun=True)


def open_again(config: Config, dataset: DataSource | None, run_dir: Path, other_images: bool = False) -> Dataset:
    """Return the data of a run that has begun; arguments and errors as in `rebuild_session`."""
    if dataset is None:
        _refuse_missing_folder(config, run_dir)
    opened, facts = open_data(config, dataset), read_record(run_dir / INPUT, InputRecord)
    if config.normalise in ("weights", "imagenet"):
        opened = dataclasses.replace(opened, mean=facts.mean, std=facts.std)
    refuse_other_data(facts, opened, run_dir, other_images)
    return opened


def with_data_dir(config: Config, data_dir: Path | str | None, run_dir: Path) -> Config:
    """Return the configuration with the new place of its data, if one is given.

    Raises:
        UserError: the place does not exist, or the run reads no folder.
    """
    if data_dir is None:
        return config
    folder = Path(data_dir).expanduser().absolute()
    kind, colon, _ = config.data.partition(":")
    if config.data_dir is None and not colon:
        raise UserError(f"data_dir {data_dir} for {run_dir}, which reads no folder of yours: leave it out.")
    if not folder.exists():
        raise UserError(f"data_dir {data_dir}: there is nothing; give the place where the data of {run_dir} are now.")
    if config.data_dir is None:
        return dataclasses.replace(config, data=f"{kind}:{folder}")
    before, validation = config.data_dir, config.validation_dir
    if validation is not None and not validation.exists():
        # It was moved together with the other.
        validation = Path(os.path.normpath(folder / os.path.relpath(validation, before)))
    return dataclasses.replace(config, data_dir=folder, validation_dir=validation)


def _refuse_missing_folder(config: Config, run_dir: Path) -> None:
    if config.data_dir is not None and not config.data_dir.exists():
        raise UserError(
            f"data_dir {config.data_dir} of {run_dir}: there is no such folder; if the data were moved, say where to "
            f"(they are checked to be the same): {resume_command(run_dir)} --data-dir NEW"
        )
    if config.validation_dir is not None and not config.validation_dir.exists():
        raise UserError(
            f"validation_dir {config.validation_dir} of {run_dir}: there is no such folder; if it was moved, put its "
            f"new place into {run_dir / CONFIG}."
        )


def _refuse_edited(config: Config, state: Mapping[str, Any], run_dir: Path) -> None:
    # A setting that is newer than the run has its default in both.
    before = json.loads(identity(config_from_dict(json.loads(state["config"]))))
    now = json.loads(identity(config))
    allowed = [before]
    for move in read_moves(run_dir):
        # What the run itself has changed since, whether or not it was cut off before it could change config.yaml too.
        if move.epoch >= state["epoch"]:
            settings = [one for one in allowed if all(one[name] == value for name, value in move.before.items())]
            allowed += [{**one, **move.after} for one in settings]
    if now in allowed:
        return
    last = allowed[-1]
    changed = sorted(k for k in now if last[k] != now[k])
    old = {k: last[k] for k in changed}
    raise UserError(
        f"{run_dir / 'config.yaml'} was edited after the run began (changed: {', '.join(changed)}; it began with "
        f"{old}): undo the change, or start a new run with 'codistill train --config ... --out ...' (from "
        f"these weights with --init {run_dir})."
    )
