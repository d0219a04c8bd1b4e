"""What a call or a command is refused with, for the tests of all layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codistill.cli import main
from codistill.errors import UserError


def refusal(call: Callable[..., object], *arguments: Any) -> str:
    """The one line of the UserError that the call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence with which a command is refused."""
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("codistill: error: ")
    assert error.count("\n") == 1
    return error
