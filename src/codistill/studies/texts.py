"""Texts that the page and the Markdown table of a study share."""

from __future__ import annotations

from codistill.reports.comparison import FEW_SEEDS
from codistill.reports.numbers import MISSING, number
from codistill.reports.tables import FEW_MARK
from codistill.studies.profiles import find_profile
from codistill.studies.readings import find_reading
from codistill.studies.results import UNITS, Number
from codistill.studies.study import Study

__all__ = [
    "column_text", "few_seeds", "networks_text", "printed_text", "profile_text", "reading_text", "seeds_text",
    "title_text",
]  # fmt: skip


def few_seeds(n: Number) -> bool:
    """Whether fewer than 3 seeds are finished, so that the number supports no conclusion."""
    return len(n.values) < FEW_SEEDS


def column_text(n: Number) -> str:
    """Return the column, with its unit where that is not a percentage."""
    return f"{n.column}, {UNITS[n.metric]}" if n.metric in UNITS else n.column


def seeds_text(n: Number) -> str:
    """Return how many seeds are finished, marked where they are few."""
    return f"{len(n.values)} {FEW_MARK}" if few_seeds(n) else str(len(n.values))


def printed_text(n: Number) -> str:
    """Return the paper's number, with its deviation where it has one."""
    if n.printed is None:
        return MISSING
    return number(n.printed.value) + (f" ± {number(n.printed.std)}" if n.printed.std is not None else "")


def profile_text(study: Study) -> str:
    """Return the profile and what it is."""
    profile = find_profile(study.profile)
    return f"Profile {profile.name}: {profile.what}."


def networks_text(study: Study) -> str:
    """Return which network replaces which of the paper's."""
    return f"Networks: {', '.join(f'{ours} for {name}' for name, ours in study.networks.items())}."


def reading_text(study: Study) -> str:
    """Return how OKDDip is read, and what that sets; empty for KDCL."""
    return f"Reading {study.reading}: {find_reading(study.reading).what}" if study.reading else ""


def title_text(study: Study) -> str:
    """Return name and title of the study, with its reading."""
    return f"{study.name}: {study.title}" + (f"; reading: {study.reading}" if study.reading else "")
