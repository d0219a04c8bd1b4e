"""The command line: parses, calls the library, prints. A user's mistake is one sentence and exit code 2."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from tyro.conf import Positional, Suppress, UseAppendAction, arg, subcommand

from codistill import data, methods, reports
from codistill.console import (
    RunProgress,
    plan_table,
    print_entries,
    print_interrupted,
    print_models,
    print_result,
    print_studies,
    score_table,
)
from codistill.errors import UserError
from codistill.export import export_student
from codistill.peers.describe import describe as describe_models
from codistill.studies.catalog import studies_named
from codistill.studies.command import StudyRequest, run_studies
from codistill.studies.listing import describe_studies, estimates, how_estimated
from codistill.training import Config, RunResult, apply_settings, read_config, resume, train
from codistill.training.evaluate import evaluate_run
from codistill.training.plan import plan

__all__ = ["main"]

Run = Annotated[Positional[Path], arg(metavar="RUN")]


@dataclass(frozen=True)
class Train(Config):
    """Train one group of networks; writes a run directory and its report."""

    method_options: Suppress[dict[str, Any]] = dataclasses.field(default_factory=dict)
    config: Path | None = None
    """Start from this config.yaml (of an earlier run); options given beside it win."""
    set: UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Any setting by its dotted name: --set optim.lr=0.05 method_options.temperature=2; wins over all else."""
    overwrite: bool = False
    """Replace what an earlier run left in --out."""
    dry_run: bool = False
    """Print the group's parameters, its activations' memory and its arithmetic, and stop: nothing is written."""


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run, to the same numbers as without the interruption."""

    run: Run
    """The run directory."""


@dataclass(frozen=True)
class Evaluate:
    """Score a run's weights again; prints every student, their mean, the leader and the ensembles."""

    run: Run
    """The run directory."""
    split: Literal["test", "validation"] = "test"
    """Images to score."""
    checkpoint: Literal["last", "selected"] = "last"
    """Weights of the last epoch, or of the one with the lowest validation error."""
    device: str | None = None
    """Device; the run's own if left out."""
    json: bool = False
    """Print the record as JSON."""


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML report of one run, or of several side by side."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="PATH...")]
    """Run directories, or folders that hold some."""
    out: Path | None = None
    """File to write; report.html in the folder that is given, or here where several are, if left out."""


@dataclass(frozen=True)
class Study(StudyRequest):
    """Run the experiment behind a table or figure of the papers, and report it beside the paper's numbers."""

    gpu: str = "a100"
    """study list: the GPU to estimate for, by its data sheet."""
    json: bool = False
    """study list: print JSON."""


@dataclass(frozen=True)
class Export:
    """Write one student as the plain network, checked equal to the one in the group."""

    run: Run
    """The run directory."""
    format: Literal["safetensors"] = "safetensors"
    """File format."""
    peer: str = "leader"
    """leader, or a student's index."""
    checkpoint: Literal["last", "selected"] = "last"
    """Weights of the last epoch, or of the one with the lowest validation error."""
    out: Path | None = None
    """Folder to write to; RUN/export if left out."""


@dataclass(frozen=True)
class Bench:
    """Measure the library on this machine: ratios of times that take turns in one run."""

    suite: tuple[str, ...] = ()
    """methods, floor, executors, processes, evaluation, growth, others; all if left out (half an hour)."""
    turns: int = 7
    """Turns of everything; medians are taken over them."""
    clock: Literal["wall", "cpu"] = "wall"
    """wall for an idle machine; cpu, the time of this process alone, for a busy one."""
    threads: int = 1
    """CPU threads."""
    batches: int = 4
    """others: batches of 128 in an epoch; those of tiny networks have ten times as many, of 32."""
    okddip: Path | None = None
    """others: folder of the code that OKDDip's authors released."""
    pytorch_dml: Path | None = None
    """others: folder that holds the package pydml."""
    kdlib: Path | None = None
    """others: folder that holds the package KD_Lib."""
    json: bool = False
    """Print JSON, with the machine and the versions."""


@dataclass(frozen=True)
class List:
    """List what can be named: methods with their options, networks, data sets, studies."""

    what: Annotated[
        Positional[Literal["methods", "models", "data", "studies"]], arg(metavar="{methods,models,data,studies}")
    ]
    """Kind of thing."""
    json: bool = False
    """Print JSON."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (a fault of ours), 2 (a user's mistake) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    warnings.simplefilter("default", UserWarning)
    warnings.showwarning = _show_warning
    try:
        _run(_parse(arguments))
        # What a pipe's reader left unread is still an error to catch here.
        sys.stdout.flush()
    except BrokenPipeError:
        Console().on_broken_pipe()
    except UserError as error:
        Console(stderr=True).print(f"codistill: error: {error}", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print_interrupted(Console(stderr=True), arguments[:1])
        raise SystemExit(130) from None


def _parse(arguments: list[str]) -> Any:
    commands: list[Any] = [Annotated[Train, subcommand("train", default=_train_defaults(arguments))]]
    for command in (Resume, Evaluate, Report, Study, Export, Bench, List):
        commands.append(Annotated[command, subcommand(command.__name__.lower())])
    union: Any = functools.reduce(operator.or_, commands)
    return tyro.cli(union, args=arguments, prog="codistill", description="Train networks that teach each other.")


def _train_defaults(arguments: Sequence[str]) -> Train:
    """The defaults of `train`: those of the file that --config names, where it does."""
    path = next((b for a, b in pairwise(arguments) if a == "--config"), None)
    if path is None:
        path = next((a.partition("=")[2] for a in arguments if a.startswith("--config=")), None)
    if path is None or arguments[0] != "train":
        return Train()
    base = read_config(Path(path))
    return Train(**{f.name: getattr(base, f.name) for f in dataclasses.fields(Config) if f.name != "out"})


def _run(command: Any) -> None:
    console = Console()
    match command:
        case Train():
            _train(command, console)
        case Resume():
            progress = RunProgress(console)
            try:
                _finish(resume(command.run, observers=[progress]), console)
            finally:
                progress.stop()
        case Evaluate():
            _evaluate(command, console)
        case Report():
            runs = reports.find_runs(command.runs)
            out = reports.write_report(runs, command.out or _report_path(command.runs))
            console.print(reports.render_table(reports.compare(runs)))
            console.print(f"report: {out}")
        case Study():
            _study(command, console)
        case Export():
            folder = export_student(
                command.run, command.out, format=command.format, peer=command.peer, checkpoint=command.checkpoint
            )
            console.print(f"exported to {folder}: the plain network's outputs equal the trained student's to the bit")
        case Bench():
            from codistill import bench  # late, for what it imports

            setting = {f.name: getattr(command, f.name) for f in dataclasses.fields(bench.Setting)}
            bench.report(command.suite, bench.Setting(**setting), command.json)
        case List():
            _list(command, console)


def _train(command: Train, console: Console) -> None:
    settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(Config)}
    config = apply_settings(Config(**settings), [setting for group in command.set for setting in group])
    if command.dry_run:
        console.print(plan_table(plan(config)))
        return
    progress = RunProgress(console)
    try:
        result = train(config, overwrite=command.overwrite, observers=[progress])
    finally:
        progress.stop()
    _finish(result, console)


def _study(command: Study, console: Console) -> None:
    if command.names[:1] == ("list",):
        names = studies_named(command.names[1:] or ("all",))
        studies, rows = describe_studies(names), estimates(command.gpu, names)
        if command.json:
            print(json.dumps([a | b for a, b in zip(studies, rows, strict=True)], indent=1))
        else:
            print_studies(console, studies, rows)
            console.print(how_estimated(command.gpu), highlight=False, soft_wrap=True)
        return
    typed = shlex.join(["codistill", *sys.argv[1:]])
    if not run_studies(dataclasses.replace(command, command=typed), console):
        raise SystemExit(1)


def _finish(result: RunResult, console: Console) -> None:
    report = reports.write_report(reports.find_runs([result.run_dir]), result.run_dir / "report.html")
    print_result(console, result, report)


def _evaluate(command: Evaluate, console: Console) -> None:
    record = evaluate_run(command.run, split=command.split, checkpoint=command.checkpoint, device=command.device)
    if command.json:
        print(json.dumps(record, indent=1))
    else:
        console.print(score_table(record, f"{command.split}, {command.checkpoint} weights, {record['images']} images"))


def _list(command: List, console: Console) -> None:
    if command.what == "methods":
        rows = methods.describe()
    elif command.what == "models":
        rows = describe_models()
    elif command.what == "studies":
        rows = describe_studies()
    else:
        rows = data.describe()
    if command.json:
        print(json.dumps(rows, indent=1))
    elif command.what == "models":
        print_models(console, rows)
    else:
        text = {"methods": "what", "studies": "title"}.get(command.what, "description")
        print_entries(console, rows, text)


def _report_path(paths: Sequence[Path]) -> Path:
    # Several runs beside one another must not replace the report of the first one.
    return paths[0] / "report.html" if len(paths) == 1 else Path("report.html")


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    kind = "warning" if issubclass(category, UserWarning) else category.__name__
    Console(stderr=True).print(f"codistill: {kind}: {message}", highlight=False, markup=False, soft_wrap=True)
