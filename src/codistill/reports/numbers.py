"""Numbers as a reader sees them: rounded, with a true minus sign; units are in the heading or next to them."""

from __future__ import annotations

import math

from codistill.reports.statistics import Estimate

__all__ = ["MISSING", "count", "interval", "mean_std", "number", "p_value", "span"]

MISSING = "–"


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """Return a number with a fixed number of decimals; a dash for None."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    # Adding 0.0 takes the sign off a rounded -0.0.
    return f"{round(value, digits) + 0.0:{'+' if sign else ''},.{digits}f}".replace("-", "−")


def count(value: int | None) -> str:
    """Return a whole number with commas between the thousands; a dash for None."""
    return MISSING if value is None else f"{value:,}"


def mean_std(estimate: Estimate | None, digits: int = 2) -> str:
    """Return "3.21 ± 0.20", without the standard deviation where there is only one seed."""
    if estimate is None:
        return MISSING
    mean = number(estimate.mean, digits)
    return mean if estimate.std is None else f"{mean} ± {number(estimate.std, digits)}"


def interval(estimate: Estimate | None, digits: int = 2) -> str:
    """Return "2.71 to 3.71", or nothing where there is no interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return span(estimate.low, estimate.high, digits)


def span(low: float, high: float, digits: int = 2) -> str:
    """Return "2.71 to 3.71"."""
    return f"{number(low, digits)} to {number(high, digits)}"


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals, "< 0.001" below."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
