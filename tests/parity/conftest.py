"""Print the largest deviations per method after the parity tests, on request: CODISTILL_PARITY_TABLE=1."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Scalars and vectors of ten: a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not os.environ.get("CODISTILL_PARITY_TABLE"):
        return
    from harness import LARGEST

    names = sorted({(method, dtype) for method, dtype, _ in LARGEST})
    terminalreporter.write_line(f"{'method':<16}{'inputs':<10}{'loss':>10}{'gradient':>10}")
    for method, dtype in names:
        loss, gradient = (LARGEST[method, dtype, kind] for kind in ("loss", "gradient"))
        terminalreporter.write_line(f"{method:<16}{dtype:<10}{loss:>10.1e}{gradient:>10.1e}")
