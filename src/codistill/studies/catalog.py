"""All studies by name."""

from __future__ import annotations

from codistill.errors import unknown
from codistill.studies import kdcl, okddip
from codistill.studies.profiles import find_profile
from codistill.studies.study import Study

__all__ = ["STUDIES", "find_study"]

STUDIES = {**okddip.STUDIES, **kdcl.STUDIES}
"""Name -> the function that makes the study for a profile."""


def find_study(name: str, profile: str) -> Study:
    """Return a study under a profile.

    Raises:
        UserError: an unknown study or profile.
    """
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    return STUDIES[name](find_profile(profile))
