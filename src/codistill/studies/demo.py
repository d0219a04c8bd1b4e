"""`make demo`: seven ways to train one small network on scanned digits, compared over three seeds."""

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
from codistill.rundir import SUMMARY, Summary, read_json, read_record
from codistill.studies.runner import run_all
from codistill.training import Config, OptimConfig, load_student
from codistill.training.check import check_config

__all__ = ["Demo", "configs", "main"]

MODEL, PEERS = "resnet8_tiny", 4


@dataclass(frozen=True)
class Demo:
    """Train, compare, report, export."""

    out: Path = Path("runs/demo")
    """Folder for the runs and the report."""
    seeds: int = 3
    """Seeds per method."""
    epochs: int = 40
    """Epochs per run."""
    jobs: int = 2
    """Runs at the same time, with one thread each."""


def configs(demo: Demo) -> list[Config]:
    """Return the runs: every variant with the same budget and protocol, seed by seed."""
    base = Config(
        model=(MODEL,),
        peers=PEERS,
        data="digits",
        validation=0.2,
        # With all 1,150 images there is almost nothing to gain: every method then gets about three images wrong.
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
    planned = configs(demo)
    console.print(
        f"{len(planned)} runs of {MODEL} on scikit-learn's digits, {planned[0].train_subset} training images: "
        f"{len(planned) // demo.seeds} variants, {demo.seeds} seeds, {demo.epochs} epochs each, {demo.jobs} at a time",
        highlight=False,
        soft_wrap=True,
    )
    results = run_all(planned, demo.jobs, console)
    failed = [r for r in results if r.error is not None]
    if failed:
        console.print(f"[red]{len(failed)} runs failed[/]; the first one:\n{failed[0].error}", markup=True)
        raise SystemExit(1)
    runs = reports.find_runs([r.run_dir for r in results])
    report = reports.write_report(runs, demo.out / "report.html", title="Seven ways to train one small network")
    console.print(reports.render_table(reports.compare(runs)))
    _export_best([r.run_dir for r in results], demo.out / "export", console)
    console.print(f"report: {report}\n{plain_duration(time.perf_counter() - started)} in total", highlight=False)


def _export_best(run_dirs: list[Path], out: Path, console: Console) -> None:
    """Export the student with the lowest validation error, and check that the plain network predicts the same."""

    def validation(run_dir: Path) -> tuple[float, float]:
        leader = read_record(run_dir / SUMMARY, Summary).last.validation.leader
        return leader.top1_error, leader.nll

    best = min(run_dirs, key=validation)
    export_student(best, out)
    student = read_json(out / "student.json")
    network = models.build(student["model"], len(student["classes"]), student["channels"])
    network.load_state_dict(load_file(out / "student.safetensors"))
    dataset = data.load("digits")
    assert isinstance(dataset.test, data.ImageSet)
    images = data.normalise(dataset.test.images_NCHW, student["mean"], student["std"], torch.device("cpu"))
    with torch.no_grad():
        plain, trained = network.eval()(images), load_student(best)(images)
    equal = int((plain.argmax(1) == trained.argmax(1)).sum())
    if not torch.equal(plain, trained):
        raise UserError(f"the exported student differs from the trained one on {len(images) - equal} test images.")
    error = 100 * (plain.argmax(1) != dataset.test.labels_N).float().mean().item()
    console.print(
        f"exported: {out} (from {best.name}, lowest validation error); a plain {student['model']} with the loaded "
        f"weights gives the same prediction on {equal} of {len(images)} test images, bit-identical logits, "
        f"test error {error:.2f} %",
        highlight=False,
        soft_wrap=True,
    )


def _folder(config: Config) -> str:
    label = str(check_config(config).label)
    return "-".join(label.replace(",", "").split()) + f"-seed{config.seed}"


if __name__ == "__main__":
    main()
