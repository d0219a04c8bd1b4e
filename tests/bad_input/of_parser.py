"""What the parser of the command line refuses: a box of several lines, by tyro."""

from __future__ import annotations

from case import Case

__all__ = ["CASES"]


CASES: tuple[Case, ...] = (
    Case(
        "codistill",
        "Missing subcommand Expected one of {train, compare, resume, evaluate, report, study, export, "
        "predict, list}. …",
    ),
    Case(
        "codistill trian",
        "Unrecognized options Unrecognized options: trian Available subcommands: train, compare, resume, "
        "evaluate, report, study, export, predict, list …",
    ),
    Case(
        "codistill train --metod dml",
        "Unrecognized options Unrecognized options: --metod, dml Perhaps you meant: --method TEXT …",
    ),
    Case(
        "codistill train --epochs many",
        "Value error Error parsing --epochs: no type matching {None}|INT could be instantiated from ['many']. …",
    ),
    Case(
        "codistill train --optim.lr", "Missing argument Missing value for argument '--optim.lr'. Expected 1 values. …"
    ),
    Case(
        "codistill train --logger tensorbord",
        "Invalid choice invalid choice 'tensorbord' for argument '--logger'. Expected one of "
        "('tensorboard', 'wandb'). …",
    ),
    Case(
        "codistill train --executor fuse",
        "Invalid choice invalid choice 'fuse' for argument '--executor'. Expected one of ('loop', "
        "'fused', 'recompute', 'distributed', 'auto'). …",
    ),
    Case(
        "codistill export runs/done --format onxx",
        "Invalid choice invalid choice 'onxx' for argument '--format'. Expected one of ('safetensors', "
        "'onnx', 'torch-export', 'hub'). …",
    ),
    Case("codistill export", "Required options Missing from codistill export: RUN The run directory. (required) …"),
    Case(
        "codistill list method",
        "Invalid choice invalid choice 'method' for argument 'what'. Expected one of ('methods', "
        "'models', 'data', 'studies'). …",
    ),
)
