"""A group and its method as one module with a loss, for the training loops of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codistill.lazy import import_on_use

if TYPE_CHECKING:
    from codistill.joint.module import Joint
    from codistill.joint.output import JointOutput

__all__ = ["Joint", "JointOutput"]

import_on_use(__name__, {"module": "Joint", "output": "JointOutput"})
