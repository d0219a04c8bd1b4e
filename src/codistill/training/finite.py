"""No state with a number that is not finite is ever saved."""

from __future__ import annotations

import torch
from torch import Tensor

from codistill.errors import RunFailedError
from codistill.peers import PeerGroup
from codistill.training.session import Session
from codistill.training.snapshot import Snapshot, tensors_in

__all__ = ["Watch"]


class Watch:
    """Looks at everything that is to be saved.

    Buffers that are not finite when the run begins, such as a mask of minus infinity, are meant to be so.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        modules = session.executor.modules()
        self._meant = {
            f"{prefix}.{name}"
            for prefix, module in modules.items()
            for name, buffer in module.named_buffers()
            if not _finite(buffer)
        }

    def check(self, snapshot: Snapshot) -> None:
        """Raise RunFailedError for the first tensor that is not finite, with the student, the step and the remedy."""
        bad = next((name for name, x in snapshot.weights.items() if name not in self._meant and not _finite(x)), None)
        if bad is None and snapshot.state is not None:
            optimizer = snapshot.state["optimizer"]
            path = next((path for path, x in tensors_in(optimizer) if not _finite(x)), None)
            bad = None if path is None else f"optimizer.{'.'.join(path)}"
        if bad is None:
            return
        s = self._session
        step = snapshot.epoch * s.steps + snapshot.step
        raise RunFailedError(
            f"{self._place(bad)} not finite after step {step:,} (epoch {step / s.steps:.2f}): training has diverged, "
            f"and this state is not saved; the last good one is kept. Lower optim.lr (now {s.config.optim.lr}), or "
            "limit the gradients with optim.clip_grad, and start again."
        )

    def _place(self, name: str) -> str:
        """What a name of the checkpoint stands for, in words."""
        kind, _, path = name.partition(".")
        s = self._session
        if kind == "optimizer":
            index = path.split(".")[1]
            held = [parameter for part in s.optimizer.param_groups for parameter in part["params"]]
            owner = _owner(s.executor.group, held[int(index)]) if index.isdecimal() else None
            return f"the optimizer's state of {owner or path} is"
        module = s.executor.modules().get(kind)
        tensor = None if module is None else module.state_dict(keep_vars=True).get(path)
        # The averages are a group of the same form.
        owner = _owner(module, tensor) if isinstance(module, PeerGroup) and tensor is not None else None
        return f"{f'the average of {owner}' if owner and kind == 'averages' else owner or name} is"


def _owner(group: PeerGroup, tensor: Tensor) -> str | None:
    """The student to which a tensor belongs, and its name there; the first of several that share it."""
    for peer in range(group.shape.peers):
        for name, own in group.peer_state(peer).items():
            if own.data_ptr() == tensor.data_ptr():
                return f"{name} of student {peer}"
    return None


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
