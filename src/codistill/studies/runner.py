"""Runs a study's cells in worker processes: finished ones are kept, interrupted ones resumed, failed ones told."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from codistill.studies.progress import StudyProgress
from codistill.training import AugmentConfig, Config, read_config, resume, train
from codistill.training.check import check_config
from codistill.training.checkpoint import latest
from codistill.training.configfile import config_digest

__all__ = ["CellResult", "run_cells"]

POLL = 0.5
"""Seconds between two looks at the cells' progress."""


@dataclass(frozen=True)
class CellResult:
    """How one cell ended.

    Attributes:
        run_dir: its run directory.
        error: None, or the traceback of what stopped it (also in its log.txt).
        kept: whether it had been finished by an earlier call.
    """

    run_dir: Path
    error: str | None = None
    kept: bool = False


def run_cells(configs: Sequence[Config], jobs: int, console: Console) -> list[CellResult]:
    """Run every configuration, `jobs` at a time, and show what runs, what is done and the time left.

    A configuration whose run directory holds its finished run is not run again; one that was interrupted goes on from
    its last whole epoch; one that fails does not stop the others.

    Args:
        configs: one for each cell, each with its own `out`.
        jobs: worker processes; each keeps to the cell's `threads`.
        console: where progress is shown.

    Returns:
        The results in the order of `configs`.
    """
    progress = StudyProgress(configs, jobs)
    # Workers are spawned, since a forked child inherits torch's thread pools in an unusable state.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        futures: dict[Future[CellResult], int] = {pool.submit(_run_cell, c): i for i, c in enumerate(configs)}
        pending, results = set(futures), {}
        while pending:
            done, pending = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
            for future in done:
                cell = futures[future]
                results[cell] = _result(future, configs[cell])
                console.print(progress.finished(cell, results[cell].error, results[cell].kept), highlight=False)
            live.update(progress.table(), refresh=console.is_terminal)
    return [results[cell] for cell in range(len(configs))]


def _run_cell(config: Config) -> CellResult:
    assert config.out is not None
    out, started = config.out, time.perf_counter()
    try:
        begun = (out / "config.yaml").is_file() and latest(out) is not None
        if begun and _same(read_config(out / "config.yaml"), config):
            kept = (out / "summary.json").is_file()
            resume(out)
            return CellResult(out, kept=kept)
        train(config, overwrite=True)
        return CellResult(out)
    except Exception:
        text = f"after {time.perf_counter() - started:.1f} s\n{traceback.format_exc()}"
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.txt").write_text(text, encoding="utf-8")
        return CellResult(out, error=text)


def _same(found: Config, wanted: Config) -> bool:
    """Whether a run directory's configuration is the wanted one with its defaults filled in."""
    wanted = check_config(wanted)
    augment = AugmentConfig(
        found.augment.crop_padding if wanted.augment.crop_padding is None else wanted.augment.crop_padding,
        found.augment.flip if wanted.augment.flip is None else wanted.augment.flip,
    )
    filled = dataclasses.replace(wanted, epochs=wanted.epochs or found.epochs, augment=augment)
    return config_digest(found) == config_digest(filled)


def _result(future: Future[CellResult], config: Config) -> CellResult:
    assert config.out is not None
    error = future.exception()
    return future.result() if error is None else CellResult(config.out, error=str(error))
