"""Several processes on one device, each of which trains one network: the same work without this library's groups."""

from __future__ import annotations

import time
import traceback
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from on_gpu.clock import synchronise
from on_gpu.sessions import SIZES, random_batch, session_of, step_of
from on_gpu.setting import Numbers, Setting

__all__ = ["SideBySide"]

START_SECONDS, ANSWER_SECONDS = 90.0, 60.0
"""How long the processes may take to start, and to answer."""


class SideBySide:
    """Processes that wait for work; `close` ends them.

    Args:
        setting: where they measure.
        most: processes, which all start when the first is needed, since starting them takes seconds.
    """

    def __init__(self, setting: Setting, most: int) -> None:
        self._setting, self._most = setting, most
        self._workers: list[tuple[Any, Connection]] = []

    def measure(self, size: str, count: int, amp: str, graphs: bool) -> Numbers:
        """Prepare `count` processes, let all begin at once, and count the steps that each takes in a fixed time."""
        assert count <= self._most
        if not self._workers:
            self._start()
        pipes = [pipe for _, pipe in self._workers[:count]]
        for pipe in pipes:
            pipe.send((size, amp, graphs))
        for pipe in pipes:
            _answer(pipe, ANSWER_SECONDS)
        for pipe in pipes:
            pipe.send(0.05 if self._setting.rehearsal else 1.0)
        found = [_answer(pipe, ANSWER_SECONDS) for pipe in pipes]
        rates = [steps * SIZES[size].batch / seconds for steps, seconds in found]
        return {"images_per_second": sum(rates), "slowest": min(rates), "fastest": max(rates)}

    def close(self) -> None:
        """End the processes."""
        for process, pipe in self._workers:
            pipe.close()
            process.join(5)
            if process.is_alive():
                process.kill()
        self._workers = []

    def _start(self) -> None:
        context = get_context("spawn")
        for _ in range(self._most):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, str(self._setting.device)), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))
        for _, pipe in self._workers:
            _answer(pipe, START_SECONDS)


def _answer(pipe: Connection, seconds: float) -> Any:
    if not pipe.poll(seconds):
        raise TimeoutError(f"a process gave no answer in {seconds:.0f} s")
    answer = pipe.recv()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def _work(pipe: Connection, device_name: str) -> None:
    """One process: answer when ready; then for each job prepare, answer, wait for the start, count, answer."""
    device = torch.device(device_name)
    if device.type == "cpu":
        torch.set_num_threads(1)
    synchronise(device)
    pipe.send(True)
    while True:
        try:
            size, amp, graphs = pipe.recv()
        except EOFError:
            return
        try:
            step = step_of(session_of(SIZES[size], 1, device, amp=amp), random_batch(SIZES[size], device), graphs)
            for _ in range(6):
                step()
            synchronise(device)
            pipe.send(True)
            pipe.send(_count(step, pipe.recv(), device))
        except EOFError:
            return
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def _count(step: Any, seconds: float, device: torch.device) -> tuple[int, float]:
    """Steps taken in that time, and the time until the device is done with them."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        # Not too far ahead of the device: what is queued at the end has to be waited for.
        for _ in range(10):
            step()
        synchronise(device)
        steps += 10
    return steps, time.perf_counter() - start
