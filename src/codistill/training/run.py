"""`train` and `resume`: a configuration in, a run directory and its results out."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codistill.config import Config, code_names, filled, identity, write_config
from codistill.errors import UserError
from codistill.execution.launched import launched_rank
from codistill.rundir import (
    CONFIG,
    INPUT,
    MISTAKES,
    OWN_DATA,
    SUMMARY,
    Move,
    Summary,
    file_sums,
    is_complete,
    keep_epochs,
    lock_run,
    make_folder,
    read_record,
    sealed,
    write_json,
)
from codistill.training.batches import refuse_small_batches
from codistill.training.build import build_session
from codistill.training.check import check_config, refuse_modes, refuse_objects
from codistill.training.checkpoint import latest, read_checkpoint
from codistill.training.elsewhere import record_move, settings_here
from codistill.training.groups import NetworkSource, own_names
from codistill.training.input_record import input_record
from codistill.training.interruption import resumable
from codistill.training.launch import as_launched, joined, launch_of, restarted
from codistill.training.loggers import with_loggers
from codistill.training.loop import train_epochs
from codistill.training.mistakes import MistakeCollector
from codistill.training.numerics import layer_randomness
from codistill.training.observers import Watchers
from codistill.training.out_folder import has_only_begun, in_progress, move_aside, refuse_used_folder, starting
from codistill.training.paths import with_absolute_paths
from codistill.training.reopen import (
    open_again,
    rebuild_session,
    said_on_resume,
    settings_and_checkpoint,
    threads_of,
    warn_of_unused,
    with_data_dir,
)  # fmt: skip
from codistill.training.run_data import DataSource
from codistill.training.saver import Saver
from codistill.training.session import Session
from codistill.training.signals import Interruption
from codistill.training.start import warn_of_equal_peers
from codistill.training.summary import summarise
from codistill.trusted import named_by_user

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
    observers: Iterable[object] = (),
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
        observers: objects with some of the methods of `codistill.Observer` (docs/observers.md).

    Raises:
        UserError: anything that the user can correct, before any training and before anything is written; also if
            training diverges (the last checkpoint is kept).
        KeyboardInterrupt: with a note that names the run directory, once it can be resumed.
    """
    started = time.perf_counter()
    refuse_objects(config)
    refuse_modes("train")
    # As they are given, since processes on devices of their own will differ.
    launch = launch_of(config)
    # The caller names its code; what a file has named before is not the caller's word.
    named_by_user(code_names(config))
    watchers = _watchers(config, observers)
    config = _to_be_written(as_launched(config), dataset, network)
    out, leads = filled(config.out), launched_rank() == 0
    if restarted():
        if latest(out) is not None and filled(read_checkpoint(out).state).get("launch") == launch:
            return resume(out, dataset=dataset, network=network, observers=observers)
        overwrite = overwrite or has_only_begun(out)
    if leads:
        with starting(out):
            refuse_used_folder(config, out, overwrite)
    with (
        torch.enable_grad(),
        joined(config),
        build_session(config, dataset, network) as session,
        layer_randomness(session),
        resumable(out),
    ):
        warn_of_equal_peers(session.config, session.executor.group, session.executor.method)
        for text in session.executor.method.cautions():
            warnings.warn(text, stacklevel=2)
        session.launch = launch
        refuse_small_batches(session)
        session.settle()
        if leads:
            with starting(out):
                make_folder(out)
        with lock_run(out) if leads else nullcontext(), Interruption() as interruption:
            if leads:
                with starting(out):
                    move_aside(out)
                    write_config(session.config, out / CONFIG)
                    write_json(out / INPUT, input_record(session.dataset, session.data_summary).to_json())
            with Saver(session, interruption) as saver:
                with starting(out):
                    saver.save()
                _refuse_folder_of_its_own(out)
                return _run(session, watchers, started, saver)


def resume(
    run_dir: Path | str,
    *,
    device: str | None = None,
    amp: str | None = None,
    mesh: str | None = None,
    data_dir: Path | str | None = None,
    logger: Sequence[str] | None = None,
    dataset: DataSource | None = None,
    network: NetworkSource | None = None,
    observers: Iterable[object] = (),
) -> RunResult:
    """Continue an interrupted run from its last checkpoint, with the same numbers as without the interruption.

    A finished run is returned as it is. Of another device or precision than before the run warns, since its numbers
    will differ; what was changed is written to its config.yaml and moves.json, so that the next resume needs no option.

    Args:
        run_dir: the run directory.
        device: where to go on; the run's device if None.
        amp: with which precision to go on ("auto", "off", "bf16", "fp16"); the run's if None.
        mesh: how the processes that torchrun has started share the work ("data=2,peer=2", "auto"); the run's mesh if
            None and there are as many. A run of several processes can go on in one, and the other way round.
        data_dir: where the run's data are now, if they were moved.
        logger: loggers to write to from now on; those of the run if None.
        dataset: the data again, if `train` was given them.
        network: the networks again, if `train` was given them.
        observers: as in `train`.

    Raises:
        UserError: there is no run, its configuration was edited after it began, its device is not there and no other
            is given, or the data or networks are missing or not the same.
        KeyboardInterrupt: with a note that names the run directory.
    """
    started, run_dir = time.perf_counter(), Path(run_dir)
    leads = launched_rank() == 0
    before, checkpoint = settings_and_checkpoint(run_dir)
    state = filled(checkpoint.state)
    config = dataclasses.replace(with_data_dir(before, data_dir, run_dir), out=run_dir)
    if is_complete(run_dir):
        warn_of_unused(run_dir, device=device, amp=amp, mesh=mesh, logger=logger)
        if data_dir is not None:
            open_again(check_config(dataclasses.replace(config, device="cpu", amp="off")), dataset, run_dir)
            with starting(run_dir, "resume a copy of the run in a folder that can be"):
                _rewrite(run_dir, state["epoch"], before, config)
                _write_summary(run_dir, read_record(run_dir / SUMMARY, Summary))
        return RunResult(run_dir, read_record(run_dir / SUMMARY, Summary).to_json())
    refuse_modes("resume")
    config = dataclasses.replace(config, logger=config.logger if logger is None else tuple(logger))
    watchers = _watchers(config, observers)
    config = settings_here(config, run_dir, device, amp, mesh)
    said = said_on_resume(config, checkpoint)
    with (
        torch.enable_grad(),
        lock_run(run_dir) if leads else nullcontext(),
        joined(config),
        rebuild_session(config, dataset, run_dir, network=network) as session,
        layer_randomness(session, threads_of(config, checkpoint)),
        resumable(run_dir),
        Interruption() as interruption,
        Saver(session, interruption) as saver,
    ):
        refuse_small_batches(session)
        checkpoint.load_into(session.executor.modules())
        session.restore(state)
        session.statistics = checkpoint.statistics
        for text in said:
            session.concerns.setdefault(text, {"epoch": session.epoch, "text": text})
        if leads:
            with in_progress(run_dir):
                session.moves = _rewrite(run_dir, session.epoch, before, session.config)
                keep_epochs(run_dir, session.epoch)
        saver.resumed()
        return _run(session, watchers, started, saver)


def _rewrite(run_dir: Path, epoch: int, before: Config, after: Config) -> tuple[Move, ...]:
    """Write down the settings with which a run goes on, where they are others; return all its moves."""
    moves = record_move(run_dir, epoch, before, after)
    names = ("data", "data_dir", "validation_dir", "logger")
    if identity(before) != identity(after) or any(getattr(before, name) != getattr(after, name) for name in names):
        write_config(after, run_dir / CONFIG)
    return moves


def _write_summary(run_dir: Path, summary: Summary) -> Summary:
    """Write the results with the checksums of the run's other files and their own."""
    summary = dataclasses.replace(summary, files=file_sums(run_dir))
    write_json(run_dir / SUMMARY, sealed(summary.to_json()))
    return summary


def _to_be_written(config: Config, dataset: DataSource | None, network: NetworkSource | None) -> Config:
    """Return the checked configuration in the form that any program can read from any folder."""
    if dataset is not None:
        config = dataclasses.replace(config, data=OWN_DATA)
    if network is not None:
        config = dataclasses.replace(config, model=own_names(network))
    return with_absolute_paths(check_config(config))


def _watchers(config: Config, observers: Iterable[object]) -> Watchers:
    """What sees the run: nothing in the processes that write nothing."""
    return Watchers(with_loggers(config.logger, observers) if launched_rank() == 0 else ())


def _refuse_folder_of_its_own(out: Path) -> None:
    """UserError in a process that does not see the run directory, to which another one has written."""
    if latest(out) is None:
        raise UserError(
            f"out {out} is not the same folder in all processes of this run: put it on a file system that all hosts "
            "share."
        )


def _run(session: Session, watchers: Watchers, started: float, saver: Saver) -> RunResult:
    try:
        with in_progress(session.out):
            watchers.on_start(session)
            train_epochs(session, watchers, saver)
            mistakes = MistakeCollector()
            summary = summarise(session, started, mistakes)
            if session.leads:
                write_json(session.out / MISTAKES, mistakes.record(session).to_json())
                # Last, since its presence means that the run is complete.
                summary = _write_summary(session.out, summary)
            if session.world is not None:
                summary = session.world.of_leader(summary)
    except BaseException as error:
        watchers.on_failure(session, error)
        raise
    watchers.on_end(session, summary)
    return RunResult(session.out, summary.to_json())
