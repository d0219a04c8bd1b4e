"""Print the largest deviations per method after the parity tests, on request: CODISTILL_PARITY_TABLE=1."""

from __future__ import annotations

import os

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not os.environ.get("CODISTILL_PARITY_TABLE"):
        return
    from harness import LARGEST

    names = sorted({(method, dtype) for method, dtype, _ in LARGEST})
    terminalreporter.write_line(f"{'method':<16}{'inputs':<10}{'loss':>10}{'gradient':>10}")
    for method, dtype in names:
        loss, gradient = (LARGEST[method, dtype, kind] for kind in ("loss", "gradient"))
        terminalreporter.write_line(f"{method:<16}{dtype:<10}{loss:>10.1e}{gradient:>10.1e}")
