"""One run of a study, in whichever process: kept if it is finished, resumed if it was interrupted, else trained."""

from __future__ import annotations

import dataclasses
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from codistill.errors import UserError
from codistill.reports.settings import SAME_EXPERIMENT, flatten
from codistill.rundir import CONFIG, RunInUseError, is_complete
from codistill.training import Config, config_to_dict, read_config, resume, train
from codistill.training.check import check_config, is_here
from codistill.training.checkpoint import latest
from codistill.training.out_folder import refuse_used_folder, starting
from codistill.training.paths import with_absolute_paths

__all__ = ["EndedRun", "has_begun", "refuse_other_run", "same_run", "train_or_resume"]


@dataclass(frozen=True)
class EndedRun:
    """How one run ended.

    Attributes:
        run_dir: its run directory.
        error: None, or what stopped it, a traceback for instance (also in its log.txt).
        kept: whether an earlier call had finished it.
        elsewhere: whether it is not finished because another process trains it; `error` says so.
        warned: class and text of what its process warned of and did not print.
    """

    run_dir: Path
    error: str | None = None
    kept: bool = False
    elsewhere: bool = False
    warned: tuple[tuple[type[Warning], str], ...] = ()

    @property
    def reason(self) -> str:
        """The last line of the error."""
        return (self.error or "").strip().rpartition("\n")[2]


def train_or_resume(config: Config, device: str | None = None) -> EndedRun:
    """Bring the run in `config.out` to its end; an error is returned, an interruption passes.

    Args:
        config: the run, with `out`.
        device: to train on instead of the configuration's.
    """
    assert config.out is not None
    out, started = config.out, time.perf_counter()
    try:
        if has_begun(config):
            kept = is_complete(out)
            resume(out, device=None if is_here(read_config(out / CONFIG).device) else device or config.device)
            return EndedRun(out, kept=kept)
        refuse_other_run(config)
        train(dataclasses.replace(config, device=device) if device else config, overwrite=True)
        return EndedRun(out)
    except RunInUseError as error:
        return EndedRun(out, error=f"in progress elsewhere: {error}", elsewhere=True)
    except Exception:
        text = f"after {time.perf_counter() - started:.1f} s\n{traceback.format_exc()}"
        return EndedRun(out, error=text)


def has_begun(config: Config) -> bool:
    """Whether `config.out` holds this run, with a checkpoint; UserError for a configuration that makes no sense."""
    assert config.out is not None
    begun = (config.out / CONFIG).is_file() and latest(config.out) is not None
    return begun and same_run(read_config(config.out / CONFIG), config)


def refuse_other_run(config: Config) -> None:
    """Raise UserError where `config.out` holds something that training would replace or be mixed with.

    A run of other settings is such, unless it has no checkpoint. Whether a process trains there is not asked.
    """
    assert config.out is not None
    if (config.out / CONFIG).is_file() and latest(config.out) is not None and not has_begun(config):
        raise UserError(
            f"{config.out} holds a run of other settings, which would be replaced: move it away, or give another --out."
        )
    with suppress(RunInUseError), starting(config.out):
        refuse_used_folder(config, config.out, overwrite=True)


def same_run(found: Config, wanted: Config) -> bool:
    """Whether a run directory has the wanted experiment and seed, on whichever device and executor."""
    found, wanted = with_absolute_paths(found), with_absolute_paths(check_config(wanted))
    before, now = _experiment(found), _experiment(wanted)
    # What is left out takes its value from the data set, or from the device.
    left_open = [name for name, text in now.items() if text in ("null", "auto")]
    filled = {name for name in left_open if name.startswith(("epochs", "augment.", "normalise"))}
    if found.device != wanted.device:
        filled.add("amp")
    return all(before.get(name) == now.get(name) for name in (before.keys() | now.keys()) - filled)


def _experiment(config: Config) -> dict[str, str]:
    settings = flatten(config_to_dict(config))
    # A study's folder may have been moved: the name of a teacher's folder says what the teacher is.
    teachers = " ".join(Path(teacher).name for teacher in config.teachers)
    differ = SAME_EXPERIMENT - {"seed"}
    return {name: text for name, text in settings.items() if name not in differ} | {"teachers": teachers}
