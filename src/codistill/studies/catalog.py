"""All studies by name."""

from __future__ import annotations

from collections.abc import Sequence

from codistill.errors import unknown
from codistill.studies import kdcl, okddip
from codistill.studies.profiles import find_profile
from codistill.studies.study import Study

__all__ = ["STUDIES", "find_study", "studies_named"]

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


def studies_named(names: Sequence[str]) -> list[str]:
    """Return the studies that are asked for, each once: by name, by paper and more ("okddip", "okddip/t"), or "all".

    Raises:
        UserError: a name that is none of these.
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
