"""KDCL-Linear against SciPy's SLSQP on the same problems, in turns: median times, their ratio, the largest gap.

    python benchmarks/bench_linear.py [--batch 128 --peers 4 --classes 100 --spreads 1 3 10 --repeats 7 --json]

SLSQP solves one problem at a time, in three ways: as `minimize` is called by default, with the gradient by finite
differences ("plain"); with the analytic gradient, by `scipy.special`'s logsumexp and softmax ("scipy"); and with value
and gradient written by hand in NumPy, in one pass ("tuned"). The gap is alpha^T g - min_i g_i, an upper bound on the
distance of the loss from its true minimum. Both use one thread, since SLSQP cannot use more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from codistill.targets import linear

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time KDCL-Linear's solver against SciPy's SLSQP.")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--spreads", type=float, nargs="+", default=[1.0, 3.0, 10.0], help="deviation of the logits")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu for a busy machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    rows = [compare(args.peers, args.batch, args.classes, spread, args.repeats, clock) for spread in args.spreads]
    if args.json:
        setting = {k: v for k, v in vars(args).items() if k not in ("json", "spreads")}
        versions = {"torch": torch.__version__, "scipy": scipy.__version__}
        print(json.dumps({"setting": setting, "versions": versions, "rows": rows}, indent=1))
        return
    print(f"batch {args.batch}, {args.peers} students, {args.classes} classes, medians of {args.repeats} turns")
    print(f"times in ms ({args.clock})")
    print("spread  linear", *(f"{name:>8}  ratio (spread)   " for name in WAYS), "largest gap  least - scipy's")
    for row in rows:
        print(
            f"{row['spread']:6g} {row['linear_ms']:7.2f}",
            *(f"{row[f'{name}_ms']:8.1f} {ratio_text(row, name)} " for name in WAYS),
            f"{row['largest_gap']:10.1e} {row['excess']:15.1e}",
        )


def ratio_text(row: dict[str, float], name: str) -> str:
    return f"{row[f'{name}_ratio']:5.0f} ({row[f'{name}_ratio_least']:.0f}-{row[f'{name}_ratio_most']:.0f})".ljust(16)


def compare(P: int, B: int, C: int, spread: float, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return medians, ratios and gaps for one spread of the logits; the solvers take turns in every repeat."""
    generator = torch.Generator().manual_seed(0)
    logits_PBC = torch.randn(P, B, C, generator=generator) * spread
    labels_B = torch.randint(0, C, (B,), generator=generator)
    Z_PBC, y_B = logits_PBC.double().numpy(), labels_B.numpy()
    times: dict[str, list[float]] = {name: [] for name in ("linear", *WAYS)}
    linear(logits_PBC, labels_B)
    slsqp_losses = np.empty(B)

    def batch(solve: Callable[[Array, int], float]) -> None:
        for b in range(B):
            slsqp_losses[b] = solve(Z_PBC[:, b], int(y_B[b]))

    for _ in range(repeats):
        # One call is short, so each turn takes the median of twenty.
        calls = [timed(lambda: linear(logits_PBC, labels_B), clock) for _ in range(20)]
        times["linear"].append(statistics.median(calls))
        for name, solve in WAYS.items():
            times[name].append(timed(lambda solve=solve: batch(solve), clock))
    D_PBC = Z_PBC - np.take_along_axis(Z_PBC, y_B[None, :, None], 2)
    alpha_PB = linear(logits_PBC, labels_B)[1].numpy()
    x_BC = (alpha_PB[:, :, None] * D_PBC).sum(0)
    g_PB = (D_PBC * softmax(x_BC, axis=1)).sum(2)
    row = {
        "spread": spread,
        **{f"{name}_ms": 1e3 * statistics.median(values) for name, values in times.items()},
        "largest_gap": float(((alpha_PB * g_PB).sum(0) - g_PB.min(0)).max()),
        "excess": float((np.asarray(logsumexp(x_BC, axis=1)) - slsqp_losses).max()),
    }
    for name in WAYS:
        ratios = [slow / fast for slow, fast in zip(times[name], times["linear"], strict=True)]
        row |= {f"{name}_ratio": statistics.median(ratios), f"{name}_ratio_least": min(ratios)}
        row[f"{name}_ratio_most"] = max(ratios)
    return row


def timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def slsqp(value_and_gradient: Callable[[Array], tuple[float, Array]], P: int) -> float:
    # At its default tolerance, 1e-6, SLSQP is as exact as is asked of both.
    simplex = {"type": "eq", "fun": lambda a: a.sum() - 1, "jac": lambda a: np.ones(P)}
    return minimize(
        value_and_gradient, np.full(P, 1 / P), jac=True, method="SLSQP", bounds=[(0, 1)] * P, constraints=simplex
    ).fun


def slsqp_plain(Z_PC: Array, y: int) -> float:
    simplex = {"type": "eq", "fun": lambda a: a.sum() - 1}
    start = np.full(len(Z_PC), 1 / len(Z_PC))

    def loss(alpha_P: Array) -> float:
        x_C = alpha_P @ Z_PC
        return float(logsumexp(x_C) - x_C[y])

    return minimize(loss, start, method="SLSQP", bounds=[(0, 1)] * len(start), constraints=simplex).fun


def slsqp_scipy(Z_PC: Array, y: int) -> float:
    def loss(alpha_P: Array) -> tuple[float, Array]:
        x_C = alpha_P @ Z_PC
        return float(logsumexp(x_C) - x_C[y]), Z_PC @ softmax(x_C) - Z_PC[:, y]

    return slsqp(loss, len(Z_PC))


def slsqp_tuned(Z_PC: Array, y: int) -> float:
    D_PC = Z_PC - Z_PC[:, [y]]

    def loss(alpha_P: Array) -> tuple[float, Array]:
        x_C = alpha_P @ D_PC
        top = x_C.max()
        e_C = np.exp(x_C - top)
        total = e_C.sum()
        return top + np.log(total), D_PC @ (e_C / total)

    return slsqp(loss, len(Z_PC))


WAYS = {"plain": slsqp_plain, "scipy": slsqp_scipy, "tuned": slsqp_tuned}

if __name__ == "__main__":
    main()
