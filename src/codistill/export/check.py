"""Whether an exported file computes what the student in its group computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.rundir import CheckRecord

__all__ = ["Network", "compare", "described", "outputs_of", "refuse_difference", "tolerance_of"]

Network = Callable[[Tensor], Tensor]
"""What maps a batch of images to logits or probabilities [B, classes]."""

TOLERANCES = {
    ("safetensors", "float32"): 0.0,
    ("hub", "float32"): 0.0,
    ("onnx", "float32"): 1e-4,
    ("torch-export", "float32"): 1e-4,
    ("safetensors", "float16"): 2e-2,
    ("onnx", "float16"): 2e-2,
}
"""Format and precision -> what the logits may differ by, as a share of the largest one."""

PICTURES = 2e-2
"""What probabilities may differ by where the file resizes pictures itself: now and then a pixel is rounded to the next
grey level."""

WORSE = 10.0
"""Percentage points of error that int8 may cost; more is no rounding, but a fault."""


def outputs_of(network: Network, batches: Iterable[Tensor]) -> Tensor:
    """Return what the network gives for all batches, float32 [N, classes]."""
    with torch.no_grad():
        return torch.cat([network(batch).float() for batch in batches])


def tolerance_of(format: str, precision: str, reads: str) -> float | None:
    """Return the tolerance of a file's outputs, as a share of the largest; None for int8."""
    if precision == "int8":
        return None
    # In probabilities, half precision is far below what resizing may cost.
    return PICTURES if reads == "pictures" else TOLERANCES[format, precision]


def compare(
    student_NC: Tensor, file_NC: Tensor, labels_N: Tensor | None, of: str, compared: str, share: float | None
) -> CheckRecord:
    """Return how the outputs of the file compare with those of the student.

    Args:
        student_NC: of the student in its group.
        file_NC: of the file, on the same images.
        labels_N: the images' classes, if they have any.
        of: what to call the images.
        compared: "logits" or "probabilities".
        share: the tolerance, as a share of the largest absolute output; None: there is none.
    """
    scale = student_NC.abs().max().item()
    predicted_N, again_N = student_NC.argmax(1), file_NC.argmax(1)
    return CheckRecord(
        images=len(student_NC),
        of=of,
        compared=compared,
        largest_difference=(student_NC - file_NC).abs().max().item(),
        scale=scale,
        tolerance=None if share is None else share * scale,
        agreement=_percent(predicted_N == again_N),
        student_error=None if labels_N is None else _percent(predicted_N != labels_N),
        file_error=None if labels_N is None else _percent(again_N != labels_N),
    )


def _percent(hits_N: Tensor) -> float:
    return 100 * hits_N.double().mean().item()


def refuse_difference(check: CheckRecord, name: str, format: str, precision: str) -> None:
    """Raise UserError if the file is no copy of the student within its tolerance."""
    difference, share = check.largest_difference, check.largest_difference / max(check.scale, 1e-30)
    if precision == "int8":
        if check.file_error is not None and check.student_error is not None:
            worse = check.file_error - check.student_error
            if not worse <= WORSE:
                raise UserError(
                    f"int8 costs {worse:.1f} points of error on {check.images} {check.of}, and at most {WORSE:g} are "
                    "accepted: calibrate on more images (--calibration), or export with --precision float16."
                )
        return
    if math.isfinite(difference) and difference <= (check.tolerance or 0.0):
        return
    if check.tolerance == 0.0:
        raise UserError(
            f"the student differs by {difference:.3g} from a new {name} with its weights: the network holds numbers "
            "that its state dict lacks; register them as persistent buffers and train it again."
        )
    raise UserError(
        f"the {format} file's {check.compared} differ by {difference:.3g} from the student's, {share:.2g} of the "
        f"largest, where at most {check.tolerance:.3g} is accepted ({check.images} {check.of}): nothing was exported; "
        f"{'export with --precision float32' if precision != 'float32' else 'choose another format'}."
    )


def described(check: CheckRecord) -> str:
    """Return the outcome of a check in a sentence."""
    if check.largest_difference == 0:
        text = f"the {check.compared} equal the trained student's to the bit on {check.images} {check.of}"
    else:
        same = "all" if check.agreement == 100 else f"{check.agreement:.2f} %"
        text = (
            f"on {check.images} {check.of} the {check.compared} differ by at most {check.largest_difference:.2g} (the "
            f"largest is {check.scale:.3g}), and {same} of the predicted classes are the trained student's"
        )
    if check.tolerance is None and check.file_error is not None:
        text += f"; error {check.student_error:.2f} % before, {check.file_error:.2f} % in the file"
    return text
