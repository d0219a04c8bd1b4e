"""What a method is shown after every epoch: the students' predictions on images that are not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.execution import Executor
from codistill.joint.call import Call

__all__ = ["show"]


@torch.no_grad()
def show(executor: Executor, batches: Iterable[Any], call: Call) -> None:
    """Let the method of an executor in evaluation mode renew itself.

    Args:
        executor: of group and method.
        batches: pairs (inputs, labels), or mappings by name.
        call: reads these.

    Raises:
        UserError: there is no batch, or one without inputs or labels.
    """
    device = next(executor.group.parameters()).device
    probs: list[Tensor] = []
    found: list[Tensor] = []
    for batch in batches:
        read = call.read(batch if isinstance(batch, Mapping) else dict(zip(("inputs", "labels"), batch, strict=True)))
        if read.labels is None or not isinstance(read.views, Tensor):
            raise UserError("renew got a batch without labels or with several views: give pairs (images, labels).")
        logits_PBC, labels_N = executor.predict(read.views.to(device)).logits_PBC, read.labels.to(device).flatten()
        kept_N = torch.ones_like(labels_N, dtype=torch.bool)
        if call.ignore_index is not None:
            kept_N = labels_N != call.ignore_index
        probs.append(logits_PBC.softmax(-1).flatten(1, -2)[:, kept_N])
        found.append(labels_N[kept_N])
    if not found:
        raise UserError("renew got no batches: give a loader of held-out images and labels.")
    executor.method.renew(torch.cat(probs, dim=1), torch.cat(found))
