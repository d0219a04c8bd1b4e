"""Read one run directory; every fault in it is one sentence that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from codistill.errors import UserError
from codistill.reports.records import FORMAT, Epoch, Summary

__all__ = ["Run", "is_run", "read_run"]

T = TypeVar("T")
CONFIG, INPUT, METRICS, SUMMARY = "config.yaml", "input.json", "metrics.jsonl", "summary.json"
OWN_DATA = "own"


@dataclass(frozen=True)
class Run:
    """One training run, finished or not; `summary` is None while it is unfinished.

    What a finished run says of itself stands in its summary; of an unfinished one only the settings are known.
    `images` is what input.json says of all images of the data set; empty where an older version wrote it.
    """

    directory: Path
    config: Mapping[str, Any]
    metrics: tuple[Epoch, ...]
    summary: Summary | None
    images: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return self.summary is not None

    @property
    def method(self) -> str:
        """Name of the method, such as "okddip"."""
        return self.summary.method if self.summary else _name(self.config.get("method"), "unknown method")

    @property
    def label(self) -> str:
        """Short name of the variant, such as "okddip, branches"."""
        return self.summary.label if self.summary else _name(self.config.get("label"), self.method)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks in the group, one where all are the same."""
        if self.summary:
            return self.summary.models
        value = self.config.get("models") or self.config.get("model")
        several = value if isinstance(value, list) else [value]
        return tuple(dict.fromkeys(_name(model, "unknown network") for model in several))

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
        return self.summary.data if self.summary else _name(self.config.get("data"), "unknown data")

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
        """Number of epochs finished."""
        return self.metrics[-1].epoch if self.metrics else 0


def _name(value: Any, otherwise: str) -> str:
    """Return a setting's name: itself, or the `name` of a section of settings."""
    if isinstance(value, Mapping):
        value = value.get("name")
    return value if isinstance(value, str) and value else otherwise


def is_run(directory: Path) -> bool:
    """Whether the folder holds the two files of a run that has begun."""
    return (directory / CONFIG).is_file() and (directory / METRICS).is_file()


def read_run(run_dir: Path) -> Run:
    """Read the settings, epochs and, where the run is complete, the results of a run directory.

    Where an epoch stands twice in metrics.jsonl (a run that was resumed from an older checkpoint), the later line
    counts. A last line without its end is being written, or was cut off with the process, and is left out as long as
    there is no summary.

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
    summary = _read_summary(run_dir / SUMMARY) if (run_dir / SUMMARY).is_file() else None
    metrics = _read_metrics(run_dir / METRICS, complete=summary is not None)
    if summary is not None and not metrics:
        raise UserError(f"{run_dir / METRICS} is empty though the run is complete: restore the file, or run again.")
    path = run_dir / INPUT
    images = _parse(str(path), path, path.read_bytes(), _images) if path.is_file() else {}
    return Run(run_dir, config, metrics, summary, images)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _damaged(str(path), str(error).splitlines()[0]) from error
    if not isinstance(config, dict):
        raise _damaged(str(path), "no settings in it")
    _check_version(path, config)
    return config


def _images(record: Mapping[str, Any]) -> dict[str, str]:
    data = record.get("data")
    if data is None:
        return {}
    return {
        "classes": str(len(record["classes"])),
        "images": f"{data['training_images']} + {data['test_images']}",
        "labels": data["labels_sha256"][:8],
    }


def _read_summary(path: Path) -> Summary:
    return _parse(str(path), path, path.read_bytes(), Summary.from_json)


def _read_metrics(path: Path, complete: bool) -> tuple[Epoch, ...]:
    lines = path.read_bytes().split(b"\n")
    unended = lines.pop()
    if unended and complete:
        lines.append(unended)
    epochs = [_parse(f"{path}, line {n},", path, line, Epoch.from_json) for n, line in enumerate(lines, 1) if line]
    by_number = {epoch.epoch: epoch for epoch in epochs}
    return tuple(by_number[number] for number in sorted(by_number))


def _parse(place: str, path: Path, text: bytes, build: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError("not a record")
        _check_version(path, record)
        return build(record)
    except KeyError as error:
        raise _damaged(place, f"{error} is missing") from error
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(place, str(error)) from error


def _check_version(path: Path, record: Mapping[str, Any]) -> None:
    version = record.get("version", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(
            f"{path} has format version {version}, and this codistill reads versions up to {FORMAT}: "
            "install a newer codistill."
        )


def _damaged(place: str, why: str) -> UserError:
    return UserError(
        f"{place} is damaged ({why}): it must hold whole records of format {FORMAT} (docs/run-directory.md); "
        "restore the file, run again, or leave this run out."
    )
