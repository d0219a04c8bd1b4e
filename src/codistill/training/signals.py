"""Signals that end a run in good order: the step in progress is finished and saved first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from codistill.execution.launched import launched_processes

__all__ = ["Interrupted", "Interruption"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal has ended a run, whose state is on disk.

    Attributes:
        code: the exit code that shells expect, 130 for Ctrl-C and 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.code = 128 + number


class Interruption:
    """Notes the first Ctrl-C or SIGTERM within its `with` block; a second one of its kind acts at once, as without.

    (torchrun sends SIGTERM after the Ctrl-C that its processes have had as well.) Where signals cannot be caught,
    outside the main thread, it notes none.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._parent = os.getppid()
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> int | None:
        """The number of the first signal that has come; SIGTERM where what has started the processes is gone."""
        if self._number is None and launched_processes() is not None and os.getppid() != self._parent:
            return signal.SIGTERM
        return self._number

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            # What whoever started the process lets it ignore, as nohup does, it goes on ignoring.
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._restore(*self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._number = self._number or number
        self._restore(number)

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            handler = self._before.pop(signal.Signals(number), None)
            # None: the handler was not set from Python, and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
