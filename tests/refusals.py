"""What a call is refused with, for the tests of all layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codistill.errors import UserError


def refusal(call: Callable[..., object], *arguments: Any) -> str:
    """The one line of the UserError that the call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)
