"""Run plans, seed by seed over all rows, and write a CSV: python run.py PLAN.yaml ... [--jobs 2] [--out FOLDER].

A plan has `common` (options of `codistill train`), `rows` (name: further options) and `seeds`. In options, @ROW stands
for the options of that row of primary.yaml, {seed} for the seed and {root} for the folder of the runs; where an option
stands twice, the last one counts; those of --also come last. The same command goes on after an interruption: finished
runs are skipped, others resumed. The CSV is written again from all summaries in --out; it keeps the rows of runs that
are not there, such as those of another machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import yaml

HERE, LOCK = Path(__file__).parent, Lock()


def run_one(out: Path, options: list[str]) -> int:
    """Train or resume one run; return its exit code."""
    started = any(out.glob("checkpoints/epoch_*"))
    words = ["resume", str(out)] if started else ["train", *options, "--out", str(out), "--overwrite"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f"{out.name}.txt").open("a", encoding="utf-8") as log:
        words = ["nice", "-n", "19", sys.executable, "-m", "codistill", *words]
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if not started and code == 0:  # what an interrupted run used before is not known
        (out / "cpu.txt").write_text(f"{used.ru_utime + used.ru_stime:.1f}", encoding="utf-8")
    print(f"{out.parent.name}/{out.name}: exit code {code}", flush=True)
    return code


def options_of(common: str, options: str, seed: int, root: Path) -> list[str]:
    """Return the options of one run as words."""
    row, _, further = options.partition(" ")
    if row.startswith("@"):
        tuned = yaml.safe_load((HERE / "primary.yaml").read_text(encoding="utf-8"))["rows"]
        options = f"{tuned[row[1:]]} {further}"
    return shlex.split(f"{common} {options} --seed {seed}".replace("{seed}", str(seed)).replace("{root}", str(root)))


def read(folder: Path) -> tuple[dict, dict]:
    """Return summary and configuration of a finished run."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary, yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def macs(summary: dict, config: dict) -> float:
    """Return the multiply-accumulates of training, forward once and backward twice, with those of its teachers."""
    images = summary["images"]["train"] * config["epochs"]
    own = 3 * summary["multiply_accumulates"]["training"] * images
    for teacher in (read(Path(name)) for name in config["teachers"]):
        own += teacher[0]["multiply_accumulates"]["deployed"] * images + macs(*teacher)
    return own


def row_of(path: Path) -> dict[str, object]:
    """Return what runs.csv says of one finished run; errors in percent, times in seconds."""
    summary, config = read(path.parent)
    optim, augment, last, which = config["optim"], config["augment"], summary["last"], summary["headline"]
    row: dict[str, object] = {
        "stage": path.parent.parent.name,
        "row": path.parent.name.rpartition("-seed")[0],
        "seed": config["seed"],
    }
    row |= {name: config[name] for name in ("method", "peers", "icl", "epochs", "batch_size", "executor")}
    row |= {name: optim[name] for name in ("lr", "weight_decay", "schedule", "warmup_epochs")}
    row |= {"policies": "+".join(augment["policies"]), "crop_padding": augment["crop_padding"], "headline": which}
    together = last["test"]["ensemble"]["top1_error"]
    row |= {"method_options": json.dumps(config["method_options"]), "ensemble_test_error": together}
    for part, score in ((part, last[part][which]) for part in ("validation", "test")):
        row |= {f"{part}_error": score["top1_error"], f"{part}_nll": score["nll"]}
        students = [student["top1_error"] for student in last[part]["peers"]] + [""] * 3
        row |= {f"{part}_error_{i}": students[i] for i in range(4)}
    row |= {"concerns": len(summary["concerns"]), "seconds": summary["seconds"]["training"]}
    known = "multiply_accumulates" in summary  # runs of earlier code do not have them
    row |= {"tera_macs": macs(summary, config) / 1e12 if known else ""}
    cpu, pairs = path.with_name("cpu.txt"), last["test"]["diversity"]  # no pairs: one network
    row |= {"test_disagreement": pairs["disagreement"] if pairs else ""}
    return row | {"cpu_seconds": cpu.read_text() if cpu.exists() else ""}


def write_csv(root: Path, path: Path) -> None:
    """Write all finished runs of the plans in this folder, and those that the file has already."""
    plans = sorted(HERE.glob("*.yaml"))
    found = [row_of(path) for plan in plans for path in sorted(root.glob(f"{plan.stem}/*/summary.json"))]
    by_key = {_key(row): row for row in (*known_runs(path), *found)}
    rows = [by_key[key] for key in sorted(by_key)]
    written = path.with_name(f"{path.name}.{os.getpid()}")  # another run.py may write the same CSV
    with LOCK:
        with written.open("w", newline="", encoding="utf-8") as file:
            columns = dict.fromkeys(name for row in rows for name in row)
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        written.replace(path)


def known_runs(path: Path) -> list[dict[str, object]]:
    """Return the rows of a CSV; none if it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def _key(row: Mapping[str, object]) -> tuple[str, str, int]:
    return str(row["stage"]), str(row["row"]), int(str(row["seed"]))


def main() -> int:
    """Run all plans in order; return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plans", nargs="*", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/primary"), help="folder of the run directories")
    parser.add_argument("--csv", type=Path, default=HERE / "runs.csv", help="the file to write")
    parser.add_argument("--known", type=Path, nargs="+", default=[], help="CSVs whose runs are left out")
    parser.add_argument("--also", default="", help="options for every run, such as '--device cuda'")
    args = parser.parse_args()

    def job(out: Path, options: list[str]) -> int:
        if (out / "summary.json").exists():
            return 0
        code = run_one(out, options)
        write_csv(args.out, args.csv)
        return code

    known = {_key(row) for path in args.known for row in known_runs(path)}
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = []
        for path in args.plans:
            plan = yaml.safe_load(path.read_text(encoding="utf-8"))
            for seed in plan["seeds"]:
                for name, options in plan["rows"].items():
                    if (path.stem, name, seed) in known:
                        continue
                    words = options_of(plan["common"], f"{options} {args.also}", seed, args.out)
                    waiting.append(pool.submit(job, args.out / path.stem / f"{name}-seed{seed}", words))
    failed = any(future.result() for future in waiting)
    write_csv(args.out, args.csv)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
