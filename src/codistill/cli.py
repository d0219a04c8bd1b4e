"""The command line: parses, calls the library, prints. A user's mistake is one sentence and exit code 2.

Each command imports what it needs when it runs, so that `codistill --help` and `codistill list models` do not wait
seconds for torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codistill import __version__, commands
from codistill.config import Config
from codistill.console import (
    plan_table,
    print_entries,
    print_interrupted,
    print_lines,
    print_models,
    print_result,
    print_studies,
    score_table,
)
from codistill.errors import UserError
from codistill.execution.launched import launched_processes, launched_rank
from codistill.terminal import Console, print_in_any_encoding, print_warning_once
from codistill.trusted import named_by_user, trust_all

if TYPE_CHECKING:
    from codistill.training import Observer, RunResult

__all__ = ["main"]

TRUST = "--trust-code"

LONGEST = 150
"""Characters of an error of torch's that are shown where it is not ours to explain."""

PATIENCE = 3.0
"""Seconds in which another process may fail for the same reason."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (a fault of ours), 2 (a user's mistake) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Processes that Python starts must not import modules that lie in the current folder.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    warnings.simplefilter("default", UserWarning)
    warnings.showwarning = print_warning_once(quiet=launched_rank() != 0)
    print_in_any_encoding()
    if arguments[:1] == ["--version"]:
        print(f"codistill {__version__}")
        return
    try:
        given = list(arguments)
        if TRUST in arguments:
            _refuse_file_called_so()
            arguments = [argument for argument in arguments if argument != TRUST]
            trust_all()
        # What the user types is named by the user, --set model=net.py:make among it; a path may only look like a name.
        values = [argument.rpartition("=")[2] for argument in arguments]
        named_by_user(value for value in values if not os.path.lexists(value))
        command = commands.parse(arguments)
        if not _launched(command, given):
            _run(command)
        # Output that the reader of a pipe did not take raises its error here, where it is caught.
        sys.stdout.flush()
    except BrokenPipeError:
        Console().on_broken_pipe()
    except UserError as error:
        if launched_rank() != 0:
            # The first one says what all would say, and torchrun then ends the others.
            time.sleep(PATIENCE)
        Console(stderr=True).print(f"codistill: error: {error}", soft_wrap=True)
        raise SystemExit(error.exit_code) from error
    except RuntimeError as error:
        from codistill.launcher import lost_others

        if not lost_others(error):
            raise
        reason = str(error).partition("\n")[0][:LONGEST]
        message = f"codistill: process {launched_rank()} has lost the others, which say why or were killed ({reason})"
        Console(stderr=True).print(message, soft_wrap=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt as stop:
        if launched_rank() == 0:
            print_interrupted(Console(stderr=True), arguments, stop)
        raise SystemExit(getattr(stop, "code", 130)) from None


def _refuse_file_called_so() -> None:
    """A shell writes the names of files for a star, and a file of others may be called like the option."""
    if os.path.lexists(TRUST):
        raise UserError(f"{TRUST}, and a file here is called so: type ./* instead of *, or remove the file.")


def _launched(command: Any, arguments: Sequence[str]) -> bool:
    """Start the processes that a run asks for, and wait for them; False where this process is one of them, or alone."""
    if launched_processes() is not None:
        return False
    match command:
        case commands.Train(dry_run=False):
            mesh = _mesh_of(command)
        case commands.Resume(mesh=str()):
            from codistill.training.launch import still_to_run

            mesh = command.mesh if still_to_run(command.run) else None
        case _:
            mesh = None
    if mesh is None:
        return False
    from codistill.launcher import launch, processes_wanted

    if code := launch(arguments, processes_wanted(mesh)):
        raise SystemExit(code)
    return True


def _mesh_of(command: commands.Train) -> str | None:
    """The mesh of a run, from the command line or its files; UserError where its other settings do not allow it."""
    if command.mesh is None and not any("mesh" in text for group in command.set for text in group):
        return None
    from codistill.training.launch import checked_in_one

    config = _config_of(command)
    checked_in_one(config)
    return config.mesh


def _run(command: Any) -> None:
    if (launched_processes() or 1) > 1 and not isinstance(command, (commands.Train, commands.Resume)):
        raise UserError(
            f"one of {launched_processes()} processes that torchrun has started: only train and resume share their "
            "work among processes; start this command by itself."
        )
    console = Console(quiet=launched_rank() != 0)
    match command:
        case commands.Train():
            _train(command, console)
        case commands.Resume():
            _resume(command, console)
        case commands.Evaluate():
            _evaluate(command, console)
        case commands.Report():
            from codistill import reports

            runs = reports.find_runs(command.runs)
            out = reports.write_report(runs, command.out or _report_path(command.runs))
            console.print(reports.render_table(reports.compare(runs)))
            console.print(f"report: {out}")
        case commands.Study():
            _study(command, console)
        case commands.Compare():
            from codistill.compare import run_comparison

            if not run_comparison(command, console):
                raise SystemExit(1)
        case commands.Export():
            from codistill.export import export

            print_lines(console, export(command).lines)
        case commands.Predict():
            from codistill.students import run_predictions

            run_predictions(command, console)
        case commands.List():
            _list(command, console)


def _train(command: commands.Train, console: Console) -> None:
    from codistill.training import train
    from codistill.training.dry_run import dry_run

    config = _config_of(command)
    if command.dry_run:
        plan = dry_run(config)
        console.print(plan_table(plan))
        print_lines(console, () if plan.data is None else plan.data.lines)
        return
    _watched(lambda observers: train(config, overwrite=command.overwrite, observers=observers), console)


def _config_of(command: commands.Train) -> Config:
    from codistill.training import apply_settings

    settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(Config)}
    return apply_settings(Config(**settings), [setting for group in command.set for setting in group])


def _resume(command: commands.Resume, console: Console) -> None:
    from codistill.training import resume

    settings = {f.name: getattr(command, f.name) for f in dataclasses.fields(command) if f.name != "run"}
    _watched(lambda observers: resume(command.run, **settings, observers=observers), console)


def _watched(run: Callable[[Sequence[Observer]], RunResult], console: Console) -> None:
    """Train with a progress bar, then write the report and print the scores."""
    from codistill import reports
    from codistill.progress import RunProgress

    progress = RunProgress(console)
    try:
        result = run([progress])
    finally:
        progress.stop()
    if launched_rank() != 0:
        return
    report = reports.renew_report(reports.find_runs([result.run_dir]), result.run_dir / "report.html")
    print_result(console, result, report)


def _evaluate(command: commands.Evaluate, console: Console) -> None:
    from codistill.training.evaluate import evaluate_run

    if command.data_dir is not None:
        from codistill.students import score_folder

        how = {name: getattr(command, name) for name in ("checkpoint", "device", "amp", "report", "follow_links")}
        score_folder(command.run, command.data_dir, console, as_json=command.json, **how)
        return
    if command.report is not None:
        raise UserError(f"report {command.report} without --data-dir: 'codistill report' writes the page of a run.")
    if command.follow_links:
        raise UserError("follow-links without --data-dir: a run's own data follow the run's own setting; leave it out.")
    chosen = {"split": command.split, "checkpoint": command.checkpoint, "device": command.device, "amp": command.amp}
    record = evaluate_run(command.run, **chosen)
    if command.json:
        print(json.dumps(record, indent=1))
    else:
        console.print(score_table(record, f"{command.split}, {command.checkpoint} weights, {record['images']} images"))


def _study(command: commands.Study, console: Console) -> None:
    from codistill.studies.command import run_studies

    if command.names[:1] == ("list",):
        _list_studies(command, console)
        return
    typed = shlex.join(["codistill", *sys.argv[1:]])
    if not run_studies(dataclasses.replace(command, command=typed), console):
        raise SystemExit(1)


def _list_studies(command: commands.Study, console: Console) -> None:
    from codistill.studies.catalog import studies_named
    from codistill.studies.listing import describe_studies, estimates, how_estimated

    names = studies_named(command.names[1:] or ("all",))
    studies, rows = describe_studies(names), estimates(command.gpu, names)
    if command.json:
        print(json.dumps([a | b for a, b in zip(studies, rows, strict=True)], indent=1))
    else:
        print_studies(console, studies, rows)
        console.print(how_estimated(command.gpu), soft_wrap=True)


def _list(command: commands.List, console: Console) -> None:
    rows = _described(command.what)
    if command.json:
        print(json.dumps(rows, indent=1))
    elif command.what == "models":
        print_models(console, rows)
    else:
        text = {"methods": "what", "studies": "title"}.get(command.what, "description")
        print_entries(console, rows, text)


def _described(what: str) -> list[dict[str, Any]]:
    if what == "methods":
        from codistill.methods import describe
    elif what == "models":
        from codistill.modelfacts import describe
    elif what == "studies":
        from codistill.studies.listing import describe_studies as describe
    else:
        from codistill.data import describe
    return describe()


def _report_path(paths: Sequence[Path]) -> Path:
    # A report of several runs must not replace the report in the folder of the first one.
    return paths[0] / "report.html" if len(paths) == 1 else Path("report.html")
