"""Where a training step's time goes: shares of torch's operators, for a group of large and one of tiny networks.

    python benchmarks/profile_step.py [--method okddip --steps 5]

Each operator's own time, without the operators that it calls, as torch's profiler counts it on the CPU, on one thread.
The last line is the time that Python takes between the operators.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from ratios.steps import LARGE, TINY, Size, training_step

SHOWN = 12


def main() -> None:
    parser = argparse.ArgumentParser(description="Profile a training step.")
    parser.add_argument("--method", default="okddip")
    parser.add_argument(
        "--steps", type=int, default=5, help="steps of the large group; the tiny group takes ten times as many"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    show(LARGE, "loop", args.method, args.steps)
    for executor in ("loop", "fused"):
        show(TINY, executor, args.method, 10 * args.steps)


def show(size: Size, executor: str, method: str, steps: int) -> None:
    """Print the shares for four networks."""
    step = training_step(size, 4, method, executor)
    step()
    plain = seconds(step, steps)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        watched = seconds(step, steps)
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    own = {event.key: event.self_cpu_time_total / 1e6 / watched for event in events}
    calls = {event.key: event.count / steps for event in events}
    print(f"\nfour {size.name}, {method}, {executor}: {1e3 * plain / steps:.1f} ms per step")
    for name in list(own)[:SHOWN]:
        print(f"  {own[name]:6.1%}  {calls[name]:7.0f} calls per step  {name}")
    rest = sum(list(own.values())[SHOWN:])
    print(f"  {rest:6.1%}  {len(own) - SHOWN} other operators")
    print(f"  {1 - sum(own.values()):6.1%}  between operators")


def seconds(step: Callable[[], object], steps: int) -> float:
    """Return the time of that many steps."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
