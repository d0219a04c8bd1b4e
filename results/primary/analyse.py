"""Analyse the primary design from runs.csv: python results/primary/analyse.py [--stage primary] [--error test_error].

Prints Markdown: the rows, the named comparisons (paired t, Holm, two one-sided tests), secondary comparators, and what
the spread says about power. A seed counts only if all six rows are there.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np
from scipy import stats

ROWS = ("baseline", "ind", "dml", "kdcl", "okddip_self", "okddip_others")
NAMED = ROWS[2:]
MARGIN, ALPHA, POWER, SEEDS = 0.3, 0.05, 0.8, 10


def holm(p: list[float]) -> list[float]:
    """Return Holm's adjusted p-values in the given order."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(np.argsort(p)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def paired(d: np.ndarray) -> dict[str, float]:
    """Return mean, SD, 95 % interval, two-sided p, d_z and the p of equivalence within MARGIN of differences d."""
    n, mean, sd = len(d), float(d.mean()), float(d.std(ddof=1))
    se = sd / math.sqrt(n)
    half = float(stats.t.ppf(0.975, n - 1)) * se
    p = 2 * float(stats.t.sf(abs(mean) / se, n - 1))
    tost = float(stats.t.sf((MARGIN - abs(mean)) / se, n - 1))
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "p": p, "dz": mean / sd, "tost": tost}


def detectable(n: int, alpha: float) -> float:
    """Return the d_z that a two-sided paired t-test of n pairs detects with probability POWER."""
    low, high, critical = 0.0, 50.0, stats.t.ppf(1 - alpha / 2, n - 1)
    for _ in range(60):
        middle = (low + high) / 2
        found = stats.nct.sf(critical, n - 1, middle * math.sqrt(n))
        low, high = (middle, high) if found < POWER else (low, middle)
    return high


def equivalence_power(n: int, sd: float, trials: int = 20_000) -> float:
    """Return how often n pairs with true difference 0 are found equivalent (simulated)."""
    d = np.random.default_rng(0).normal(0, sd, (trials, n))
    half = stats.t.ppf(1 - ALPHA, n - 1) * d.std(1, ddof=1) / math.sqrt(n)
    return float((np.abs(d.mean(1)) + half < MARGIN).mean())


def verdict(d: dict[str, float], p: float, tost: float) -> str:
    """Return the protocol's word for a comparison; p and tost are corrected."""
    words = [("helps" if d["mean"] < 0 else "harms")] if p < ALPHA else []
    return ", ".join(words + ["equivalent"] * (tost < ALPHA)) or "undecided"


def table(title: str, differences: dict[str, np.ndarray]) -> None:
    """Print one family of comparisons."""
    found = {name: paired(d) for name, d in differences.items()}
    n = min(map(len, differences.values()))
    p, tost = (holm([d[key] for d in found.values()]) for key in ("p", "tost"))
    print(f"\n## {title}\n\n| row | difference | SD | d_z | p | p, Holm | p, equivalence | Holm | verdict |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---|")
    for (name, d), a, b in zip(found.items(), p, tost, strict=True):
        span = f"{d['mean']:+.2f} ({d['low']:+.2f} to {d['high']:+.2f})"
        cells = [name, span, *(f"{d[key]:.2f}" for key in ("sd", "dz"))]
        word = verdict(d, a, b) if n >= SEEDS else "partial"
        print("| " + " | ".join([*cells, *(f"{x:.4f}" for x in (d["p"], a, d["tost"], b)), word]) + " |")


def main() -> None:
    """Read runs.csv and print the analysis."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", default="primary")
    parser.add_argument("--error", default="test_error", choices=("test_error", "validation_error"))
    args = parser.parse_args()
    with Path(__file__).with_name("runs.csv").open(encoding="utf-8") as file:
        runs = {(r["row"], int(r["seed"])): r for r in csv.DictReader(file) if r["stage"] == args.stage}
    seeds = sorted(s for s in {s for _, s in runs} if all((row, s) in runs for row in ROWS))
    n = len(seeds)
    print(f"# {args.stage}, {args.error}: {n} complete seeds {seeds}" + (": PARTIAL, no verdicts" if n < SEEDS else ""))
    if n < 2:
        return print("Fewer than two complete seeds: nothing to compare.")
    of = {row: np.array([float(runs[row, s][args.error]) for s in seeds]) for row in ROWS}
    students = np.array([[float(runs["ind", s][f"{args.error}_{i}"]) for i in range(4)] for s in seeds])
    print("\n| row | mean | SD over seeds | CPU minutes |\n|---|---:|---:|---:|")
    for row in ROWS:
        used = [float(runs[row, s]["cpu_seconds"]) / 60 for s in seeds if runs[row, s]["cpu_seconds"]]
        minutes = f"{np.mean(used):.1f}" if used else "?"
        print(f"| {row} | {of[row].mean():.2f} | {of[row].std(ddof=1):.2f} | {minutes} |")
    equal = np.array_equal(of["baseline"], students[:, 0])
    print(f"\nStudent 0 of ind equals baseline on every seed: {'yes' if equal else 'NO'}.")
    named = {row: of[row] - students.mean(1) for row in NAMED}
    table("Against the network alone (mean of the four of ind): the named comparisons", named)
    weights = {r: of[r] - (students[:, 3] if r.startswith("okddip") else students.mean(1)) for r in NAMED}
    table("Secondary: against the students of ind with the same initial weights", weights)
    table("Secondary: against row baseline", {row: of[row] - of["baseline"] for row in NAMED})
    pooled = math.sqrt(np.mean([d.var(ddof=1) for d in named.values()]))
    least = [detectable(n, alpha) * pooled for alpha in (ALPHA, ALPHA / len(NAMED))]
    print(f"\nPooled SD of the named differences: {pooled:.2f} points.")
    print(f"Detectable with power {POWER}: {least[0]:.2f} points at 0.05, {least[1]:.2f} at 0.0125.")
    print(f"Power of equivalence within {MARGIN} at a true difference of 0: {equivalence_power(n, pooled):.2f}.")
    return None


if __name__ == "__main__":
    main()
