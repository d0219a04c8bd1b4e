"""Files are not programs: code that only a file names is run if this user has named it before, or says so now.

A run, a configuration or a teacher may name "path/to/file.py:Name". Such code runs when the file's SHA-256 is in this
user's own list. It gets there when the user names the file on the command line or in Python, or with `trust`. Files
that are programs themselves (.pt2) run when this user has exported them, or with `trust`.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from codistill.errors import UserError

__all__ = [
    "check_program", "check_trusted", "digest_of", "files_named", "found_in_file", "named_by_user", "trust",
    "trust_all", "trusted_list",
]  # fmt: skip

# SHA-256 of files that a file has named and that were not trusted then.
_FOREIGN: set[str] = set()
# What this process trusts, also where the list cannot be written.
_OURS: set[str] = set()
_ALL = False


def trusted_list() -> Path:
    """The user's list: trusted.json in `$CODISTILL_CONFIG`, else in codistill's folder of the user's settings."""
    given, settings = os.environ.get("CODISTILL_CONFIG"), os.environ.get("XDG_CONFIG_HOME")
    folder = Path(given) if given else (Path(settings) if settings else Path.home() / ".config") / "codistill"
    return folder.expanduser() / "trusted.json"


def trust(*paths: Path | str) -> None:
    """Let these Python files run from now on, whoever names them, as long as their content stays the same.

    Raises:
        UserError: there is no such file.
    """
    for path in map(Path, paths):
        digest = digest_of(path)
        if digest is None:
            raise UserError(f"{path} is no file that can be read: give the path of a Python file.")
        _remember(digest, path)


def trust_all() -> None:
    """Trust the code that files name in this process, and remember it."""
    global _ALL
    _ALL = True


def named_by_user(names: Iterable[str]) -> None:
    """Note the files of the names "path/to/file.py:Name" among these, unless only a file has named them."""
    for path in files_named(names):
        digest = digest_of(path)
        if digest is not None and digest not in _FOREIGN:
            _remember(digest, path)


def found_in_file(names: Iterable[str]) -> None:
    """Note that a file has named these: their code runs only if it is trusted already."""
    for path in files_named(names):
        digest = digest_of(path)
        if digest is None or _is_trusted(digest):
            continue
        if _ALL:
            _remember(digest, path)
        else:
            _FOREIGN.add(digest)


def check_trusted(path: Path, content: bytes) -> None:
    """UserError for code that only a file has named, and that this user has never named."""
    digest = hashlib.sha256(content).hexdigest()
    if digest in _FOREIGN and not _is_trusted(digest):
        raise UserError(
            f"{path} would be run as a program, and only a file names it, or it has changed since you named it: read "
            f"it, and allow it with --trust-code (from Python: codistill.trust({str(path)!r}))."
        )


def check_program(path: Path) -> None:
    """UserError for a file that is run when it is opened, and that this user has neither made nor allowed."""
    digest = digest_of(path)
    if digest is None or _is_trusted(digest):
        return
    if not _ALL:
        raise UserError(
            f"{path} is run as a program when it is opened, and you have not exported it here: if you trust whoever "
            f"did, allow it with --trust-code (from Python: codistill.trust({str(path)!r}))."
        )
    _remember(digest, path)


def files_named(names: Iterable[str]) -> list[Path]:
    """Return the files of the names "path/to/file.py:Name" among these, also of "path/to/file.py:Name@WEIGHTS"."""
    # The path of the weights may hold a colon, and so may a folder that is called like code.
    several = (one for name in names for one in (name, name.rpartition("@")[0]) if ".py:" in one)
    return list(dict.fromkeys(Path(os.path.expanduser(one.rpartition(":")[0])) for one in several))  # noqa: PTH111


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's content; None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _is_trusted(digest: str) -> bool:
    return digest in _OURS or digest in _listed()


def _listed() -> dict[str, str]:
    try:
        found = json.loads(trusted_list().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(digest: str, path: Path) -> None:
    _FOREIGN.discard(digest)
    _OURS.add(digest)
    listed = _listed()
    if digest in listed:
        return
    place = trusted_list()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        text = json.dumps({**listed, digest: str(path.absolute())}, indent=1)
        with partial.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    except OSError as error:
        warnings.warn(
            f"{place} cannot be written ({error.strerror}): {path} is trusted in this process only", stacklevel=4
        )
