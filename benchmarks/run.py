"""Measure the library on this machine, as ratios of times that take turns in one run.

python benchmarks/run.py                                     all suites, about half an hour
python benchmarks/run.py --suite executors --turns 3
python benchmarks/run.py --suite others --okddip PATH        against other people's code in a folder that you name
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from codistill.errors import UserError
from ratios.setting import Setting
from ratios.show import report

__all__ = ["main"]


@dataclass(frozen=True)
class Benchmark(Setting):
    """Measure the library on this machine, as ratios of times that take turns in one run."""

    suite: tuple[str, ...] = ()
    """methods, floor, executors, processes, evaluation, growth, others; all of them if left out (half an hour)."""
    json: bool = False
    """Print JSON, with the machine and the versions."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the suites that the command line names; a user's mistake is one sentence and exit code 2."""
    given = tyro.cli(Benchmark, args=arguments, prog="benchmarks/run.py")
    setting = Setting(**{f.name: getattr(given, f.name) for f in dataclasses.fields(Setting)})
    try:
        report(given.suite, setting, given.json)
    except UserError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
