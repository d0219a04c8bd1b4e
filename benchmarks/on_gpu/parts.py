"""The parts by name, with their share of the time; and a part as a process runs it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from on_gpu.checks import checks
from on_gpu.clock import synchronise
from on_gpu.data_path import data_path
from on_gpu.ledger import Ledger
from on_gpu.method_costs import method_costs
from on_gpu.setting import Measurement, Part, Setting
from on_gpu.solver import solver
from on_gpu.throughput import throughput
from on_gpu.whole_runs import whole_runs

__all__ = ["LEFT_OUT", "PARTS", "Share", "run_part"]

LEFT_OUT = "left out"
"""Name of the entry that says what a part had no time for."""


@dataclass(frozen=True)
class Share:
    """A part, and its weight when the time is shared out."""

    part: Part
    weight: float


PARTS = {
    "checks": Share(checks, 25),
    "throughput": Share(throughput, 30),
    "methods": Share(method_costs, 15),
    "solver": Share(solver, 4),
    "data": Share(data_path, 4),
    "runs": Share(whole_runs, 22),
}


def run_part(name: str, setting: Setting, ledger: Ledger) -> bool:
    """Take the measurements of a part that are not yet in the ledger, until the deadline; at least one.

    Returns:
        Whether the device still answers; if not, a new process has to go on.
    """
    done = {entry["what"] for entry in ledger.entries(name)}
    taken, left_out = bool(done), list[str]()
    for measurement in _each(name, PARTS[name].part(setting), ledger):
        if measurement.what in done:
            continue
        if taken and not setting.seconds_left:
            left_out.append(measurement.what)
            continue
        taken = True
        _take(name, measurement, ledger)
        if not _answers(setting.device):
            return False
    if left_out:
        ledger.note(name, LEFT_OUT, f"no time for {len(left_out)}: {'; '.join(left_out)}")
    return True


def _each(name: str, measurements: Iterator[Measurement], ledger: Ledger) -> Iterator[Measurement]:
    """The measurements; an error between two of them ends the part, and is recorded."""
    start = time.perf_counter()
    try:
        yield from measurements
    except Exception as error:
        ledger.end(name, "the part itself", time.perf_counter() - start, {}, error)


def _take(name: str, measurement: Measurement, ledger: Ledger) -> None:
    ledger.begin(name, measurement.what)
    start = time.perf_counter()
    try:
        numbers = measurement.take()
    except Exception as error:
        ledger.end(name, measurement.what, time.perf_counter() - start, {}, error)
    else:
        ledger.end(name, measurement.what, time.perf_counter() - start, numbers)


def _answers(device: torch.device) -> bool:
    """Free what the last measurement held; False where an error has made the device unusable for this process."""
    gc.collect()
    if device.type == "cuda":
        try:
            synchronise(device)
            torch.cuda.empty_cache()
        except RuntimeError:
            return False
    return True
