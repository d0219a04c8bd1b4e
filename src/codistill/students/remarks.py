"""What goes to the standard error: sentences about what was left out, and a bar where it is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from codistill.terminal import Console

__all__ = ["about_unreadable", "progress_on", "remarks_console"]

NAMED = 20
"""Pictures that are named of those that cannot be read."""

Watch = Callable[[int, int], object]
"""Is called with the number of pictures that are done, and of all."""


def remarks_console() -> Console:
    """Return the console of the standard error, which prints sentences as they are."""
    return Console(stderr=True, soft_wrap=True)


@contextmanager
def progress_on(console: Console) -> Iterator[Watch | None]:
    """Show a bar while the pictures are read, and yield what moves it; None where nobody would see it."""
    if not console.is_terminal:
        yield None
        return
    # Imported here, since it is slow, and a pipe shows no bar.
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("pictures", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def about_unreadable(unreadable: Sequence[tuple[str, str]], read: int) -> list[str]:
    """Return lines about the pictures, with reasons, that could not be read, besides the number of those that could."""
    if not unreadable:
        return []
    lines = [f"{name} cannot be read ({reason})" for name, reason in unreadable[:NAMED]]
    more = f"; the first {NAMED} are named above" if len(unreadable) > NAMED else ""
    of = read + len(unreadable)
    return [*lines, f"{len(unreadable):,} of {of:,} pictures cannot be read and are passed over{more}"]
