"""Choose settings by the validation error in runs.csv and write the next plan; docs in ../PROTOCOL.md.

python results/primary/choose.py tune3     after tune2: each method's learning rate and weight decay, then T and weight
python results/primary/choose.py primary   after tune3: the six rows of the primary design
python results/primary/choose.py finetune  after finetune_tune: the same six from trained weights
python results/primary/choose.py solar     after solar_tune: five of them on photographs
python results/primary/choose.py resnet32  after resnet32_tune, on a GPU: five of them with a larger network

The test errors in the CSV are not read. Settings within TIE points of the network's own count as equal to them.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

import yaml

HERE = Path(__file__).parent
TIE = 0.1
METHODS = ("dml", "kdcl", "okddip_self", "okddip_others")


def errors(stage: str, runs: str = "runs.csv") -> dict[str, float]:
    """Return the mean validation error of every row of a stage."""
    found: dict[str, list[float]] = {}
    with (HERE / runs).open(encoding="utf-8") as file:
        for run in csv.DictReader(file):
            if run["stage"] == stage:
                found.setdefault(run["row"], []).append(float(run["validation_error"]))
    return {row: fmean(values) for row, values in found.items()}


def plan(stage: str) -> dict:
    """Return a plan."""
    return yaml.safe_load((HERE / f"{stage}.yaml").read_text(encoding="utf-8"))


def refuse_unfinished(rows: Iterable[str], found: Mapping[str, float]) -> None:
    """End with a sentence if a row has no runs yet."""
    if missing := [row for row in rows if row not in found]:
        sys.exit(f"not finished: {', '.join(missing)}; run their plan first.")


def best(method: str, own: str, rows: dict[str, str], found: dict[str, float]) -> str:
    """Return the row of `method` with the lowest error, or `own` if that is as good; all its rows must be finished."""
    mine = [name for name in rows if name.startswith(f"{method}-")]
    refuse_unfinished((own, *mine), found)
    lowest = min((own, *mine), key=lambda name: found[name])
    chosen = own if found[own] <= found[lowest] + TIE else lowest
    print(f"{method}: {chosen} ({found[chosen]:.2f} % on validation)")
    return chosen


def choose() -> tuple[dict, dict[str, str], dict[str, float]]:
    """Return tune2, the options that it chose for each method, and all errors so far."""
    grid, found = plan("tune2"), errors("tune2") | errors("tune3")
    names = {m: best(m, f"{m}-{grid['own']}", grid["rows"], found) for m in METHODS}
    return grid, names, found


def of_the_network(stage: str, runs: str = "runs.csv") -> dict:
    """Return the six rows of the primary design, each with the settings that are best for the network alone."""
    tried, found = plan(stage), errors(stage, runs)
    refuse_unfinished(tried["rows"], found)
    best_row = min(tried["rows"], key=lambda row: found[row])
    print(f"{best_row} ({found[best_row]:.2f} % on validation)")
    network = tried["rows"][best_row].removeprefix("--method baseline ")
    # Of a method's own row its rate and weight decay come first, so that the network's, which follow, count.
    rows = {name: f"{options} {network}" for name, options in plan("primary")["rows"].items()}
    return {"common": f"{tried['common']} --validation 0.02", "seeds": list(range(200, 210)), "rows": rows}


def five_rows(stage: str, runs: str = "runs.csv", seeds: int = 10) -> dict:
    """Return the same without `baseline`; `ind` stands for the network alone, as in the primary design."""
    found = of_the_network(stage, runs)
    order = ("ind", "okddip_others", "dml", "okddip_self", "kdcl")
    return found | {"seeds": found["seeds"][:seeds], "rows": {row: found["rows"][row] for row in order}}


def main(stage: str) -> None:
    """Write the plan of `stage`."""
    if stage == "finetune":
        return write(stage, of_the_network("finetune_tune"))
    if stage == "solar":
        return write(stage, five_rows("solar_tune", seeds=5))
    if stage == "resnet32":
        return write(stage, five_rows("resnet32_tune", "runs-gpu.csv"))
    grid, names, found = choose()
    if stage == "tune3":
        rows = {
            f"{method}-{label}": f"{grid['rows'][name]} {options}"
            for method, name in names.items()
            for label, options in grid["then"][method].items()
        }
        return write(stage, {"common": grid["common"], "seeds": grid["seeds"], "rows": rows})
    after = plan("tune3")["rows"]
    rows = {"baseline": grid["alone"], "ind": grid["alone"].replace("baseline", "ind --peers 4")}
    for method, name in names.items():
        rows[method] = (grid["rows"] | after)[best(method, name, after, found)]
    common = f"{grid['common']} --validation 0.02"
    return write(stage, {"common": common, "seeds": list(range(200, 210)), "rows": rows})


def write(stage: str, written: dict) -> None:
    """Write a plan."""
    text = yaml.safe_dump(written, sort_keys=False, width=1000)
    (HERE / f"{stage}.yaml").write_text(f"# Written by choose.py {stage}.\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
