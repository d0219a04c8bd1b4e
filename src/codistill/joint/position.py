"""Where in a run a `Joint` stands, counted by itself or set by the user, and what of it is often forgotten."""

from __future__ import annotations

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.joint.once import Once
from codistill.types import Progress

__all__ = ["Position"]


class Position:
    """Epochs done: those that were set, and the steps since then.

    Python numbers, so that no step waits for a device to say where it is.

    Args:
        epochs: length of the run.
        steps_per_epoch: batches that one process sees in an epoch; None: the user sets the epoch.

    Raises:
        UserError: a number that is not positive.
    """

    def __init__(self, epochs: float, steps_per_epoch: int | None) -> None:
        for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
            if value is not None and not value > 0:
                raise UserError(f"{name} {value}: give a number above 0.")
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.start, self.steps = 0.0, 0
        self._known, self._once = steps_per_epoch is not None, Once()

    @property
    def epoch(self) -> float:
        """Epochs done, 0.5 in the middle of the first."""
        return self.start + (self.steps / self.steps_per_epoch if self.steps_per_epoch else 0.0)

    def set(self, epoch: float) -> None:
        """Go on from `epoch`; UserError where it is negative."""
        if not epoch >= 0:
            raise UserError(f"epoch {epoch}: give the number of epochs done, 0 or more.")
        self.start, self.steps, self._known = float(epoch), 0, True

    def take(self) -> Progress:
        """The position of a step that is about to be made, which counts from now on."""
        progress = self.look()
        self._warn()
        self.steps += 1
        return progress

    def look(self) -> Progress:
        """The position."""
        return Progress(self.epoch, self.epochs)

    def state(self) -> Tensor:
        """What `restore` needs, a float64 tensor [2]."""
        return torch.tensor([self.start, float(self.steps)], dtype=torch.float64)

    def restore(self, state: Tensor) -> None:
        """Go back to where `state` was taken."""
        self.start, self.steps = float(state[0]), int(state[1])

    def _warn(self) -> None:
        if not self._known:
            self._once(
                "unknown",
                "the Joint does not know how far the training is, so ramp-ups of the method stand still at epoch "
                f"{self.start:g}: give it steps_per_epoch=len(loader), or call joint.set_epoch(epoch) when an epoch "
                "begins",
            )
        if self.epoch >= self.epochs:
            counted = f" of {self.steps_per_epoch} steps, each a batch in training mode" if self.steps_per_epoch else ""
            self._once(
                "past",
                f"the Joint trains beyond its {self.epochs:g} epochs{counted}: ramp-ups of the method were over too "
                "early; give it the epochs and steps_per_epoch of the whole training",
            )
