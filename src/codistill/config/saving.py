"""How often a run saves itself, and how much it keeps: its settings, and the check of their values."""

from __future__ import annotations

from dataclasses import dataclass

from codistill.errors import check_rules
from codistill.meaning import setting

__all__ = ["SavingOptions"]


@dataclass(frozen=True)
class SavingOptions:
    """Checkpoints: after every epoch, and as often in between as is asked for, but never two within ten seconds."""

    save_minutes: float | None = setting(15.0, "nothing")
    """Minutes after which a checkpoint is written also in the middle of an epoch; null: after epochs only."""
    save_steps: int | None = setting(None, "nothing")
    """Steps of an epoch after which a checkpoint is written as well."""
    keep: int = setting(2, "nothing")
    """Checkpoints that are kept, 2 or more: the one before serves where the newest is damaged."""

    def check_saving(self) -> None:
        """Raise UserError for a value that is out of range."""
        minutes, steps = self.save_minutes, self.save_steps
        check_rules(
            ("save_minutes", minutes, minutes is None or minutes > 0, "above 0, or null"),
            ("save_steps", steps, steps is None or steps >= 1, "1 or more, or null"),
            ("keep", self.keep, self.keep >= 2, "2 or more"),
        )
