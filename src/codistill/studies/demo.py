"""`make demo`: seven ways to train the same small network on real scans of digits, three seeds each, side by side."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from safetensors.torch import load_file

from codistill import data, models, reports
from codistill.console import plain_duration
from codistill.errors import UserError
from codistill.export import export_student
from codistill.studies.runner import run_cells
from codistill.training import Config, OptimConfig, load_student
from codistill.training.check import check_config
from codistill.training.files import read_json

__all__ = ["Demo", "cells", "main"]

MODEL, PEERS = "resnet8_tiny", 4


@dataclass(frozen=True)
class Demo:
    """Train, compare, report, export."""

    out: Path = Path("runs/demo")
    """Folder for the runs and the report."""
    seeds: int = 3
    """Seeds a method."""
    epochs: int = 40
    """Epochs a run."""
    jobs: int = 2
    """Runs at once, one thread each."""


def cells(demo: Demo) -> list[Config]:
    """The runs: every variant under one budget and one protocol, seed by seed."""
    base = Config(
        model=(MODEL,),
        peers=PEERS,
        data="digits",
        validation=0.2,
        # All 1,150 would leave next to nothing to learn from peers: every method then errs on three images.
        train_subset=200,
        epochs=demo.epochs,
        batch_size=20,
        device="cpu",
        threads=1,
        deterministic=True,
        optim=OptimConfig(lr=0.05, schedule="cosine"),
    )
    variants = [
        dataclasses.replace(base, method="baseline", peers=1),
        dataclasses.replace(base, method="ind"),
        dataclasses.replace(base, method="dml"),
        dataclasses.replace(base, method="okddip", label="okddip, networks"),
        dataclasses.replace(base, method="okddip", group="branches"),
        dataclasses.replace(base, method="kdcl_minlogit"),
        dataclasses.replace(base, method="kdcl_minlogit", icl=True),
    ]
    runs = [dataclasses.replace(v, seed=seed) for seed in range(demo.seeds) for v in variants]
    return [dataclasses.replace(c, out=demo.out / _folder(c)) for c in runs]


def main() -> None:
    """Run the demo; exit code 1 if a run failed."""
    demo = tyro.cli(Demo, prog="codistill-demo")
    console, started = Console(), time.perf_counter()
    configs = cells(demo)
    console.print(
        f"{len(configs)} runs of {MODEL} on scikit-learn's digits, {configs[0].train_subset} images to train on: "
        f"{len(configs) // demo.seeds} variants, {demo.seeds} seeds, {demo.epochs} epochs each, {demo.jobs} at a time",
        highlight=False,
        soft_wrap=True,
    )
    results = run_cells(configs, demo.jobs, console)
    failed = [r for r in results if r.error is not None]
    if failed:
        console.print(f"[red]{len(failed)} runs failed[/]; the first one:\n{failed[0].error}", markup=True)
        raise SystemExit(1)
    runs = reports.find_runs([r.run_dir for r in results])
    report = reports.write_report(runs, demo.out / "report.html", title="Seven ways to train one small network")
    console.print(reports.render_table(reports.compare(runs)))
    _export_best([r.run_dir for r in results], demo.out / "export", console)
    console.print(f"report: {report}\n{plain_duration(time.perf_counter() - started)} in all", highlight=False)


def _export_best(run_dirs: list[Path], out: Path, console: Console) -> None:
    """Export the student with the lowest validation error, and hold the plain network to its predictions."""

    def validation(run_dir: Path) -> tuple[float, float]:
        leader = read_json(run_dir / "summary.json")["last"]["validation"]["leader"]
        return leader["top1_error"], leader["nll"]

    best = min(run_dirs, key=validation)
    export_student(best, out)
    facts = read_json(out / "student.json")
    network = models.build(facts["model"], len(facts["classes"]), facts["channels"])
    network.load_state_dict(load_file(out / "student.safetensors"))
    dataset = data.load("digits")
    assert isinstance(dataset.test, data.ImageSet)
    images = data.normalise(dataset.test.images_NCHW, facts["mean"], facts["std"], torch.device("cpu"))
    with torch.no_grad():
        plain, trained = network.eval()(images), load_student(best)(images)
    equal = int((plain.argmax(1) == trained.argmax(1)).sum())
    if not torch.equal(plain, trained):
        raise UserError(f"the exported student differs from the trained one on {len(images) - equal} test images.")
    error = 100 * (plain.argmax(1) != dataset.test.labels_N).float().mean().item()
    console.print(
        f"exported: {out} (from {best.name}, lowest validation error); a plain {facts['model']} with the loaded "
        f"weights gives the same prediction on {equal} of {len(images)} test images, logits equal to the bit, "
        f"test error {error:.2f} %",
        highlight=False,
        soft_wrap=True,
    )


def _folder(config: Config) -> str:
    label = str(check_config(config).label)
    return "-".join(label.replace(",", "").split()) + f"-seed{config.seed}"


if __name__ == "__main__":
    main()
