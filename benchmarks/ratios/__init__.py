"""Measurements side by side, as ratios in one run: `codistill bench`."""

from codistill.bench.race import Ratio, race
from codistill.bench.show import report
from codistill.bench.suites import SUITES, Setting, run_suites

__all__ = ["SUITES", "Ratio", "Setting", "race", "report", "run_suites"]
