"""Whether the weights that a run starts from have learnt from images that it validates on."""

from __future__ import annotations

import warnings
from pathlib import Path

from codistill.config import Config, read_config
from codistill.rundir import CONFIG, INPUT, STUDENT, InputRecord, StudentRecord, is_run, read_record

__all__ = ["warn_of_learnt_validation"]


def warn_of_learnt_validation(config: Config, facts: InputRecord) -> None:
    """Warn of each start in `config.init` that was trained on the same data with another split.

    The seed and `validation` decide which training images are set aside. Of exported students the seed alone is known.

    Args:
        config: filled in; its validation images are a part of the training images.
        facts: what the run's data are.
    """
    for init in dict.fromkeys(config.init):
        folder = Path(init).expanduser()
        if is_run(folder):
            record, theirs = read_record(folder / INPUT, InputRecord), read_config(folder / CONFIG)
            split = (theirs.seed, theirs.validation)
        elif (folder / STUDENT).is_file():
            record = read_record(folder / STUDENT, StudentRecord)
            split = (config.seed if record.seed is None else record.seed, config.validation)
        else:
            continue
        ours = (config.seed, config.validation)
        if record.data is not None and record.data == facts.data and split != ours:
            warnings.warn(
                f"init {init} was trained on these data in another split (seed {split[0]}, validation {split[1]}; here "
                f"{ours[0]} and {ours[1]}), so it has learnt from images that are validation images here: the "
                "validation figures, which choose the epoch and the student, then flatter this run; give "
                f"--seed {split[0]} --validation {split[1]}, or a validation folder of your own",
                stacklevel=3,
            )
