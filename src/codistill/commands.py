"""The commands and their options; the text after a field is its help.

Nothing here may import torch or anything else that is slow: the help must appear at once.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import Positional, Suppress, UseAppendAction, arg, subcommand

from codistill.compare.request import CompareRequest
from codistill.config import RECIPES, Config, Logger, recipe_config
from codistill.errors import UserError
from codistill.export.request import ExportRequest
from codistill.option_groups import flattened, grouped
from codistill.students.request import PredictRequest
from codistill.studies.request import StudyRequest

__all__ = ["Compare", "Evaluate", "Export", "List", "Predict", "Report", "Resume", "Study", "Train", "parse"]

C = TypeVar("C", bound=Config)

Run = Annotated[Positional[Path], arg(metavar="RUN")]

Precision = Annotated[
    Literal["auto", "off", "bf16", "fp16"] | None, arg(metavar="auto|off|bf16|fp16", help_behavior_hint="")
]

COMPARISON = "What is compared, and over how many seeds. All other options are those of train."


@dataclass(frozen=True)
class Train(Config):
    """Train one group of networks, and write a run directory with its report."""

    method_options: Suppress[dict[str, Any]] = dataclasses.field(default_factory=dict)
    config: Path | None = None
    """Start from this config.yaml of an earlier run; the other options of the command line override it."""
    set: Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], arg(metavar="NAME=VALUE ...")] = ()
    """Any setting by its dotted name: --set optim.lr=0.05 method_options.temperature=2; overrides everything else."""
    overwrite: bool = False
    """Replace the run that --out already contains."""
    dry_run: bool = False
    """Print the group's parameters, the memory of its activations and its arithmetic, and stop; write nothing."""


@dataclass(frozen=True)
class Resume:
    """Continue an interrupted run; its numbers are the same as without the interruption."""

    run: Run
    """The run directory."""
    device: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")] = None
    """Go on on this device, such as cpu, cuda:0 or auto; on the run's device if left out. Numbers will differ."""
    amp: Precision = None
    """Go on with this precision; with the run's if left out. Numbers will differ."""
    mesh: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")] = None
    """Go on in these processes, such as data=2,peer=2 or auto (docs/distributed.md); if left out, in those that
    torchrun has started, or in one. Numbers will differ in rounding."""
    data_dir: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """Where the run's data are now, if they were moved; they are checked to be the same."""
    logger: Annotated[tuple[Logger, ...] | None, arg(metavar="tensorboard|wandb ...", help_behavior_hint="")] = None
    """Write curves with these from now on (--logger alone: with none); with those of the run if left out."""


@dataclass(frozen=True)
class Evaluate:
    """Score a run's weights again: every student, their mean, the leader and the ensembles."""

    run: Run
    """The run directory."""
    split: Literal["test", "validation"] = "test"
    """Images to score."""
    checkpoint: Literal["last", "selected"] = "last"
    """Weights of the last epoch, or of the epoch with the lowest validation error."""
    device: str | None = None
    """Device, such as cpu or cuda:0; the device of the run if left out, or what is here if that is not."""
    amp: Precision = None
    """Precision; that of the run if left out."""
    data_dir: Annotated[Path | None, arg(metavar="DIR")] = None
    """Score another folder instead, with one folder per class (DIR/CLASS, DIR/test/CLASS or DIR/val/CLASS), and show
    which classes are confused."""
    follow_links: bool = False
    """With --data-dir: follow links that lead out of the folder; otherwise they are left out."""
    report: Annotated[Path | None, arg(metavar="FILE")] = None
    """With --data-dir: write the errors by class as an HTML page."""
    json: bool = False
    """Print the scores as JSON."""


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML report of one run, or of several side by side."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="PATH...")]
    """Run directories, or folders that contain run directories."""
    out: Path | None = None
    """File to write. If left out: report.html, in the folder given, or in the current folder if several are given."""


@dataclass(frozen=True)
class Study(StudyRequest):
    """Run the experiment behind a table or figure of the papers, and report it next to the paper's numbers."""

    gpu: str = "a100"
    """study list: the GPU whose hours are estimated, from its data sheet."""
    json: bool = False
    """study list: print JSON."""


@dataclass(frozen=True)
class Compare(CompareRequest):
    """Train a network alone and with chosen methods over several seeds, and say in words whether they helped."""


@dataclass(frozen=True)
class Export(ExportRequest):
    """Write one student as the plain network, checked against the student in its group."""


@dataclass(frozen=True)
class Predict(PredictRequest):
    """Classify pictures with a trained student, and print the most probable classes of each."""


@dataclass(frozen=True)
class List:
    """List the methods with their options, the networks, the data sets or the studies."""

    what: Annotated[
        Positional[Literal["methods", "models", "data", "studies"]], arg(metavar="{methods,models,data,studies}")
    ]
    """What to list."""
    json: bool = False
    """Print JSON."""


def parse(arguments: Sequence[str]) -> Any:
    """Return the command that the arguments name, as one of the classes above.

    Raises:
        UserError: the file that --config names is missing or wrong.
        SystemExit: a mistake in the arguments (2), or --help (0); the text is printed.
    """
    train = grouped(_defaults(Train, arguments), "output")
    compare = grouped(_defaults(Compare, arguments), "comparison", COMPARISON)
    commands: list[Any] = [Annotated[type(train), subcommand("train", default=train)]]
    commands.append(Annotated[type(compare), subcommand("compare", default=compare)])
    for command in (Resume, Evaluate, Report, Study, Export, Predict, List):
        commands.append(Annotated[command, subcommand(command.__name__.lower())])
    union: Any = functools.reduce(operator.or_, commands)
    about = (
        "Train networks that teach each other. codistill --version prints the version. With --trust-code, any command "
        "runs the code (path/to/file.py:Name) that a run or a configuration names, also if you have never named it."
    )
    parsed = tyro.cli(union, args=arguments, prog="codistill", description=about)
    if isinstance(parsed, type(train)):
        return flattened(Train, parsed)
    return flattened(Compare, parsed) if isinstance(parsed, type(compare)) else parsed


def _given(arguments: Sequence[str], option: str) -> str | None:
    found = [b for a, b in pairwise(arguments) if a == option]
    found += [a.partition("=")[2] for a in arguments if a.startswith(f"{option}=")]
    if len(found) > 1:
        raise UserError(f"{option} {' and '.join(found)}: give one.")
    return found[0] if found else None


def _defaults(command: type[C], arguments: Sequence[str]) -> C:
    """Return the defaults of `train` or `compare`; of the recipe and file that --recipe and --config name."""
    path, recipe = _given(arguments, "--config"), _given(arguments, "--recipe")
    # An unknown recipe is refused by the parser.
    if arguments[:1] != [command.__name__.lower()] or (path is None and recipe not in RECIPES):
        return command()
    from codistill.config import read_config

    base = recipe_config(str(recipe)) if path is None else read_config(Path(path), recipe)
    if base.out is not None and _given(arguments, "--out") is None:
        text = f"out {base.out} of {path} is not used, since that run may be there: give --out FOLDER to name a folder"
        warnings.warn(text, stacklevel=2)
    return command(**{f.name: getattr(base, f.name) for f in dataclasses.fields(Config) if f.name != "out"})
