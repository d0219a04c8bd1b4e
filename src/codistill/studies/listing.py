"""`codistill study list`: every study with its rows and columns, and what it takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from codistill.studies.catalog import STUDIES, find_study
from codistill.studies.estimate import GPUS, USED_SHARE, gpu_rate, measured_rate, study_macs
from codistill.studies.profiles import PROFILES

__all__ = ["describe_studies", "estimates", "how_estimated"]


def describe_studies(names: Iterable[str] = STUDIES) -> list[dict[str, Any]]:
    """Return name, title, metric, rows and columns of every study, and the number of variants that it trains."""
    rows = []
    for name in names:
        study = find_study(name, "paper")
        rows.append(
            {"name": name, "title": study.title, "metric": study.metric, "variants": len(study.variants)}
            | {"rows": list(study.rows), "columns": [*study.columns, *(["gain"] if study.gain else [])]}
        )
    return rows


def estimates(gpu: str, names: Iterable[str] = STUDIES) -> list[dict[str, Any]]:
    """Return what every study takes with the usual seeds of each profile: multiply-accumulates, and hours.

    Args:
        gpu: a key of GPUS.
        names: of the studies.

    Returns:
        One record per study: "runs", "macs" and "hours" by profile, with hours of one CPU thread of this machine;
        "gpu_hours" of one GPU for the profile paper, and "gpu_profile_hours" for the profile gpu.

    Raises:
        UserError: the GPU is not listed.
    """
    of_gpu = gpu_rate(gpu)
    rates = {name: measured_rate(name) for name in PROFILES}
    rows = []
    for name in names:
        macs = {p.name: study_macs([find_study(name, p.name)], p.seeds) for p in PROFILES.values()}
        rows.append(
            {"name": name}
            | {"runs": {p.name: len(find_study(name, p.name).variants) * p.seeds for p in PROFILES.values()}}
            | {"macs": macs, "hours": {p: macs[p] / rates[p] / 3600 for p in macs}}
            | {"gpu": gpu, "gpu_hours": macs["paper"] / of_gpu / 3600}
            | {"gpu_profile_hours": macs["gpu"] / of_gpu / 3600}
        )
    return rows


def how_estimated(gpu: str) -> str:
    """Return the note below the numbers."""
    return (
        "Estimates of training alone: multiply-accumulates divided by the rate of one CPU thread, timed just now, or "
        f"by {USED_SHARE:.0%} of the published {GPUS[gpu]}e12 operations per second of a {gpu}. Small networks are "
        "slower."
    )
