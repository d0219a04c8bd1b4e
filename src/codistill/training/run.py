"""`train` and `resume`: a configuration in, a run directory and its results out."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codistill.config import Config, filled, write_config
from codistill.errors import UserError
from codistill.rundir import (
    CONFIG,
    INPUT,
    MISTAKES,
    OWN_DATA,
    RUN_FILES,
    SUMMARY,
    is_complete,
    keep_epochs,
    read_json,
    write_json,
)
from codistill.training.build import build_session
from codistill.training.check import check_config
from codistill.training.checkpoint import load_weights, save_checkpoint
from codistill.training.groups import NetworkSource, own_names
from codistill.training.input_record import input_record
from codistill.training.loggers import MetricsFile
from codistill.training.loop import Observer, train_epochs
from codistill.training.mistakes import MistakeCollector
from codistill.training.numerics import layer_randomness
from codistill.training.reopen import rebuild_session, settings_and_state
from codistill.training.run_data import DataSource
from codistill.training.session import Session
from codistill.training.start import warn_of_equal_peers
from codistill.training.summary import summarise

__all__ = ["RunResult", "resume", "train"]


@dataclass(frozen=True)
class RunResult:
    """The results of a finished run.

    Attributes:
        run_dir: the run directory.
        summary: the content of its summary.json, as plain data.
    """

    run_dir: Path
    summary: dict[str, Any]

    @property
    def test_error(self) -> float:
        """The headline figure in percent: last epoch, test set, the leader or the mean of the students."""
        return self.summary["last"]["test"][self.summary["headline"]]["top1_error"]


def train(
    config: Config,
    *,
    dataset: DataSource | None = None,
    network: NetworkSource | None = None,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """Train one group of networks and write its run directory (docs/run-directory.md).

    Args:
        config: the run; `Config(method="okddip", model=("resnet32",), data="cifar100")` is enough.
        dataset: data to use instead of the data set that `config.data` names; a torch Dataset of (image, label) or a
            pair (train, test) will do, see `codistill.data.from_torch`. The run's `data` is then "own", and `resume`
            and `evaluate_run` need the same data again.
        network: networks to use instead of those that `config.model` names: an nn.Module, of which each peer gets a
            copy with parameters drawn again from a seed of its own; or a list with one per peer, which keep their
            parameters. They are copied and never changed. The run's `model` is then "own", and whatever opens the run
            again needs the same networks.
        overwrite: replace what an earlier run left in the run directory.
        observers: watch the run, for progress bars and loggers.

    Raises:
        UserError: anything that the user can correct, before any training and before anything is written; also if
            training diverges (the last complete epoch is kept).
    """
    started = time.perf_counter()
    config = _to_be_written(config, dataset, network)
    out = filled(config.out)
    with _writing(out):
        _refuse_used_folder(config, out, overwrite)
    with build_session(config, dataset, network) as session, layer_randomness(session):
        warn_of_equal_peers(session.config, session.executor.group, session.executor.method)
        session.settle()
        with _writing(out):
            _remove_run(out)
            out.mkdir(parents=True, exist_ok=True)
            write_config(session.config, out / CONFIG)
        write_json(out / INPUT, input_record(session.dataset, session.data_summary).to_json())
        save_checkpoint(out, 0, session.executor.modules(), session.state())
        return _run(session, observers, started)


def resume(
    run_dir: Path | str,
    *,
    dataset: DataSource | None = None,
    network: NetworkSource | None = None,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """Continue an interrupted run from its last complete epoch, with the same numbers as without the interruption.

    A finished run is returned as it is.

    Args:
        run_dir: the run directory.
        dataset: the data again, if `train` was given them.
        network: the networks again, if `train` was given them.
        observers: watch the run.

    Raises:
        UserError: there is no run, its configuration was edited after it began, or the data or networks are missing or
            not the same.
    """
    started, run_dir = time.perf_counter(), Path(run_dir)
    config, state, folder = settings_and_state(run_dir)
    if is_complete(run_dir):
        return RunResult(run_dir, read_json(run_dir / SUMMARY))
    config = dataclasses.replace(config, out=run_dir)
    with rebuild_session(config, dataset, run_dir, network=network) as session, layer_randomness(session):
        load_weights(folder, session.executor.modules())
        session.restore(state)
        keep_epochs(run_dir, session.epoch)
        return _run(session, observers, started)


def _to_be_written(config: Config, dataset: DataSource | None, network: NetworkSource | None) -> Config:
    """Return the checked configuration in the form that any program can read from any folder."""
    if dataset is not None:
        config = dataclasses.replace(config, data=OWN_DATA)
    if network is not None:
        config = dataclasses.replace(config, model=own_names(network))
    config = check_config(config)
    for name in ("data_dir", "validation_dir"):
        folder: Path | None = getattr(config, name)
        if folder is not None:
            config = dataclasses.replace(config, **{name: folder.expanduser().absolute()})
    return config


def _run(session: Session, observers: Sequence[Observer], started: float) -> RunResult:
    watchers = [MetricsFile(), *observers]
    for observer in watchers:
        observer.on_start(session)
    train_epochs(session, watchers)
    mistakes = MistakeCollector()
    summary = summarise(session, started, mistakes)
    write_json(session.out / MISTAKES, mistakes.record(session).to_json())
    # Last, since its presence means that the run is complete.
    write_json(session.out / SUMMARY, summary.to_json())
    for observer in watchers:
        observer.on_end(session, summary)
    return RunResult(session.out, summary.to_json())


def _refuse_used_folder(config: Config, out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"out {out} is a file: give the path of a folder.")
    if (out / CONFIG).exists() and not overwrite:
        raise UserError(
            f"out {out} already holds a run: continue it with 'codistill resume {out}', replace it with --overwrite, "
            "or give another --out."
        )
    for what, names in (("the teacher", config.teachers), ("the start", config.init)):
        if any(Path(name).resolve() == out.resolve() for name in names):
            raise UserError(f"out {out} is {what} of this run, which would be replaced: give another --out.")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"out {out} cannot be written ({error.strerror}): give another --out.") from error


def _remove_run(out: Path) -> None:
    """Remove what a run writes, and nothing else in the folder."""
    for name in RUN_FILES:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
