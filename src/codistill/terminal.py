"""The one console: what is printed is text. Nothing in it is markup, an emoji or a command to the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from codistill.printable import printable

__all__ = ["Console", "print_in_any_encoding", "print_warning_once", "styled"]


class Console(rich.console.Console):
    """A console of rich that shows names of files, classes and runs as they are, with control characters escaped.

    Args:
        stderr: print to the standard error.
        options: others of `rich.console.Console`.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into rich's text; escaped here, it has its right width in a table."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with a net for text that was no string."""
        for segment in super().render(renderable, options):
            escape = segment.control is None and not segment.text.isprintable()
            yield Segment(printable(segment.text), segment.style) if escape else segment


def styled(*parts: tuple[str, str] | str) -> Text:
    """Return text whose parts have styles: `styled(("failed", "red"), ": ", path)`."""
    text = Text()
    for part in parts:
        plain, style = (part, "") if isinstance(part, str) else part
        text.append(printable(plain), style)
    return text


def print_in_any_encoding() -> None:
    """Let this process print every character: one that the terminal's encoding lacks is escaped, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_warning_once(quiet: bool = False) -> Callable[..., None]:
    """Return what `warnings.showwarning` is to be: it prints one line for each text, or nothing if it is quiet."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        kind = "warning" if issubclass(category, UserWarning) else category.__name__
        line = printable(f"codistill: {kind}: {message}")
        if not quiet and line not in said:
            said.add(line)
            # Through the stream, not a console of its own, so that it stands above the display of a study.
            print(line, file=sys.stderr, flush=True)

    return show
