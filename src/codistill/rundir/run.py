"""A complete run directory as one value. Each fault in it is reported in one sentence that names the file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codistill.errors import UserError
from codistill.rundir.epoch import Epoch
from codistill.rundir.files import check_version, damaged, read_record
from codistill.rundir.input import InputRecord
from codistill.rundir.manifest import checksum
from codistill.rundir.metrics import read_epochs
from codistill.rundir.mistakes import Mistake, Mistakes
from codistill.rundir.names import CONFIG, FORMAT, INPUT, METRICS, MISTAKES, OWN_DATA, SUMMARY
from codistill.rundir.summary import Summary
from codistill.rundir.yaml_text import YamlError, read_yaml

__all__ = ["Run", "file_sums", "is_complete", "is_run", "read_run"]


@dataclass(frozen=True)
class Run:
    """One training run.

    A finished run is described by its summary; of an unfinished one only the settings are known.

    Attributes:
        directory: its folder.
        config: config.yaml as plain data.
        metrics: its epochs, by number.
        summary: its results; None while it is unfinished.
        input: what input.json says of the data; None where there is no such file.
        mistakes: the most confident mistakes on the test images; None where there is no such file.
    """

    directory: Path
    config: Mapping[str, Any]
    metrics: tuple[Epoch, ...]
    summary: Summary | None
    input: InputRecord | None = None
    mistakes: tuple[Mistake, ...] | None = None

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return self.summary is not None

    @property
    def method(self) -> str:
        """Name of the method, such as "okddip"."""
        return self.summary.method if self.summary else _text(self.config.get("method"), "unknown method")

    @property
    def label(self) -> str:
        """Short name of the variant, such as "okddip, branches"."""
        return self.summary.label if self.summary else _text(self.config.get("label"), self.method)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks in the group, one where all are the same."""
        if self.summary:
            return self.summary.models
        value = self.config.get("model")
        several = value if isinstance(value, list) else [value]
        return tuple(dict.fromkeys(_text(model, "unknown network") for model in several))

    @property
    def data(self) -> str:
        """Name of the data set; "own data" for data that were given from Python."""
        return "own data" if self.on_own_data else self._data

    @property
    def on_own_data(self) -> bool:
        """Whether the data were given from Python."""
        return self._data == OWN_DATA

    @property
    def _data(self) -> str:
        return self.summary.data if self.summary else _text(self.config.get("data"), "unknown data")

    @property
    def seed(self) -> int:
        """The seed from which all others of the run derive."""
        return self.summary.seed if self.summary else int(self.config.get("seed") or 0)

    @property
    def peers(self) -> int:
        """Number of students; 0 where nothing is known yet."""
        if self.summary:
            return self.summary.peers
        return len(self.metrics[-1].validation.peers) if self.metrics else 0

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return self.metrics[-1].epoch if self.metrics else 0


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) and value else otherwise


def is_run(directory: Path) -> bool:
    """Whether the folder holds the two files of a run that has begun."""
    return (directory / CONFIG).is_file() and (directory / METRICS).is_file()


def is_complete(directory: Path) -> bool:
    """Whether the folder holds the results of a finished run."""
    return (directory / SUMMARY).is_file()


def read_run(run_dir: Path) -> Run:
    """Read the settings, the epochs (see `read_epochs`) and, if the run is complete, the results of a run.

    Raises:
        UserError: there is no run in `run_dir`; a file is damaged; a file has a newer format than this version reads.
    """
    run_dir = Path(run_dir)
    if not is_run(run_dir):
        raise UserError(
            f"{run_dir} holds no run: a run directory has {CONFIG} and, after its first epoch, {METRICS}; "
            "give a directory that `codistill train --out` wrote."
        )
    config = _read_config(run_dir / CONFIG)
    summary = read_record(run_dir / SUMMARY, Summary) if is_complete(run_dir) else None
    if summary is not None and (changed := _changed(run_dir, summary)):
        warnings.warn(f"{run_dir}: {', '.join(changed)} since the run ended", stacklevel=2)
    metrics = read_epochs(run_dir, complete=summary is not None)
    if summary is not None and not metrics:
        raise UserError(f"{run_dir / METRICS} is empty though the run is complete: restore the file, or run again.")
    inputs = read_record(run_dir / INPUT, InputRecord) if (run_dir / INPUT).is_file() else None
    mistakes = read_record(run_dir / MISTAKES, Mistakes).images if (run_dir / MISTAKES).is_file() else None
    return Run(run_dir, config, metrics, summary, inputs, mistakes)


def file_sums(run_dir: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that a finished run is described by, but for its summary."""
    names = (CONFIG, INPUT, METRICS, MISTAKES)
    return {name: checksum((run_dir / name).read_bytes()).sha256 for name in names if (run_dir / name).is_file()}


def _changed(run_dir: Path, summary: Summary) -> list[str]:
    now = file_sums(run_dir)
    return [
        f"{name} {'has changed' if name in now else 'is missing'}"
        for name, digest in summary.files.items()
        if now.get(name) != digest
    ]


def _read_config(path: Path) -> Mapping[str, Any]:
    """Read the settings as they stand there: a report needs no more, and reads those of other versions too."""
    try:
        config = read_yaml(path)
    except YamlError as error:
        raise damaged(str(path), str(error)) from error
    if not isinstance(config, dict):
        raise damaged(str(path), "no settings in it")
    check_version(path, config.get("version", FORMAT))
    return config
