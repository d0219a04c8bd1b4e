"""All studies by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from codistill.errors import UserError, unknown
from codistill.studies import kdcl, okddip
from codistill.studies.profiles import find_profile
from codistill.studies.readings import find_reading
from codistill.studies.study import Study

__all__ = ["STUDIES", "find_study", "studies_named", "studies_of_paper"]

STUDIES = {**okddip.STUDIES, **kdcl.STUDIES}
"""Name -> the function that makes the study under a profile."""


def find_study(name: str, profile: str, reading: str = "slides", unclear_epochs: int | None = None) -> Study:
    """Return a study under a profile.

    Args:
        name: of the study.
        profile: "paper", "gpu", "cpu" or "smoke".
        reading: how OKDDip is read, "slides" or "released"; KDCL's studies ignore it.
        unclear_epochs: epochs of those networks in KDCL's tables whose length the slides leave open; the full length
            if left out; OKDDip's studies ignore it.

    Raises:
        UserError: an unknown study, profile or reading; fewer than 1 epoch.
    """
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    find_reading(reading)
    if unclear_epochs is not None and unclear_epochs < 1:
        raise UserError(f"unclear_epochs {unclear_epochs}: it must be 1 or more, or left out for the full length.")
    chosen = dataclasses.replace(find_profile(profile), reading=reading, unclear_epochs=unclear_epochs)
    return STUDIES[name](chosen)


def studies_named(names: Sequence[str]) -> list[str]:
    """Return the studies asked for, each once: by name, by the beginning of names ("okddip", "okddip/t"), or "all".

    Raises:
        UserError: a name that matches no study.
    """
    found: dict[str, None] = {}
    for name in names:
        matching = [name] if name in STUDIES else []
        if not matching:
            matching = [s for s in STUDIES if name == "all" or (s.startswith(name) and s.partition("/")[0] in name)]
        if not matching:
            raise unknown("study", name, [*STUDIES, "okddip", "kdcl", "all", "list"])
        found |= dict.fromkeys(matching)
    return list(found)


def studies_of_paper(study: Study) -> list[Study]:
    """Return all studies of a study's paper, with the same profile, reading and length."""
    names = [name for name in STUDIES if name.partition("/")[0] == study.paper]
    reading = study.reading or "slides"
    return [find_study(name, study.profile, reading, study.unclear_epochs) for name in names]
