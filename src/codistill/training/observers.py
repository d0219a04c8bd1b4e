"""Observers: objects that watch a run, and how the run calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext

from codistill.errors import UserError, add_note, unknown
from codistill.execution.stopwatch import layers_undisturbed
from codistill.rundir import Epoch, Summary
from codistill.training.interruption import resume_command
from codistill.training.session import Session

__all__ = ["Observer", "Watchers"]


class Observer:
    """What a run calls. Any object with some of these methods can observe; it need not derive from this class.

    All calls come from the training process, in order. docs/observers.md says what may be read of the session.
    """

    def on_start(self, session: Session) -> None:
        """Before the first epoch (or the first after a resume)."""

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """After every training step, counted from 1; must not wait for the device."""

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """After every epoch, when its line of metrics.jsonl is on disk; `record` is that line."""

    def on_end(self, session: Session, summary: Summary) -> None:
        """After the summary is written."""

    def on_failure(self, session: Session, error: BaseException) -> None:
        """If the run ends without a summary, by an error or Ctrl-C, which goes on afterwards."""


EVENTS = {
    "on_start": ("session",),
    "on_step": ("session", "step", "steps"),
    "on_epoch": ("session", "record"),
    "on_end": ("session", "summary"),
    "on_failure": ("session", "error"),
}


class Watchers:
    """The observers of a run, called in their order.

    Args:
        observers: objects with some of the methods of `Observer`.

    Raises:
        UserError: one is a class, has none of the methods, has another one that begins with "on_", or a method that
            takes other arguments.
    """

    def __init__(self, observers: Iterable[object] = ()) -> None:
        if not isinstance(observers, Iterable):
            kind = type(observers).__name__
            remedy = "leave it out" if observers is None else f"give a list, such as [{_name(observers)}()]"
            raise UserError(f"observers is a {kind}: {remedy}.")
        observers = list(observers)
        for observer in observers:
            _check(observer)
        self._calls = {
            event: [(_name(o), getattr(o, event)) for o in observers if hasattr(o, event)] for event in EVENTS
        }

    def on_start(self, session: Session) -> None:
        """See `Observer`."""
        self._tell("on_start", session)

    def on_step(self, session: Session, step: int, steps: int) -> None:
        """See `Observer`. Whatever it draws from torch's default generator, dropout draws no more."""
        self._tell("on_step", session, step, steps, guarded=False)

    def on_epoch(self, session: Session, record: Epoch) -> None:
        """See `Observer`."""
        self._tell("on_epoch", session, record)

    def on_end(self, session: Session, summary: Summary) -> None:
        """See `Observer`."""
        self._tell("on_end", session, summary)

    def on_failure(self, session: Session, error: BaseException) -> None:
        """See `Observer`. One that fails now must not hide the first error, which gets a note of it."""
        for name, call in self._calls["on_failure"]:
            try:
                call(session, error)
            except Exception as second:
                add_note(error, f"then the observer {name} failed in on_failure: {type(second).__name__}: {second}")

    def _tell(self, event: str, session: Session, *details: object, guarded: bool = True) -> None:
        calls = self._calls[event]
        if not calls:
            return
        # What an observer draws must not change what dropout draws next. Around every step that would cost time.
        with layers_undisturbed(session.device) if guarded else nullcontext():
            for name, call in calls:
                try:
                    call(session, *details)
                except Exception as error:
                    add_note(error, f"raised by the observer {name} in {event}; {_kept(event, session)}")
                    raise


def _kept(event: str, session: Session) -> str:
    if event == "on_end":
        return f"the run is complete, in {session.out}"
    return f"to continue after epoch {session.epoch}: {resume_command(session.out)}"


def _name(observer: object) -> str:
    return type(observer).__name__


def _check(observer: object) -> None:
    if isinstance(observer, type):
        raise UserError(f"observer {observer.__name__} is a class: give an object, {observer.__name__}().")
    for name in dir(observer):
        if name.startswith("on_") and name not in EVENTS and callable(getattr(observer, name)):
            raise unknown(f"method of the observer {_name(observer)}", name, EVENTS)
    found = {event: getattr(observer, event) for event in EVENTS if hasattr(observer, event)}
    if not found:
        raise UserError(f"observer {_name(observer)} has no method to call: give it some of {', '.join(EVENTS)}.")
    for event, call in found.items():
        _check_call(f"{_name(observer)}.{event}", call, EVENTS[event])


def _check_call(name: str, call: Callable[..., object], takes: tuple[str, ...]) -> None:
    if not callable(call):
        raise UserError(f"observer {name} is a {type(call).__name__}: it must be a method ({', '.join(takes)}).")
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        # Some callables of other languages have none.
        return
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise UserError(f"observer {name}{signature} is called with ({', '.join(takes)}): let it take them.") from error
