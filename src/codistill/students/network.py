"""Students that are networks of torch: the leader of a run, and exported weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from codistill import models
from codistill.config import read_config
from codistill.errors import UserError, one_line
from codistill.rundir import CONFIG, INPUT, OWN_NETWORK, InputRecord, Preparation, StudentRecord, read_record
from codistill.students.student import Student, preparation_in
from codistill.training.check import resolve_device
from codistill.training.groups import NetworkSource, given_network
from codistill.training.preparation import preparation_of
from codistill.training.student import load_student
from codistill.trusted import found_in_file

__all__ = ["NetworkStudent", "from_run", "from_weights"]


class NetworkStudent(Student):
    """A network of torch that is in evaluation mode, moved to a device."""

    def __init__(
        self, network: nn.Module, device: str, source: Path, classes: tuple[str, ...], preparation: Preparation
    ) -> None:
        super().__init__(source, classes, preparation)
        self.device = resolve_device(device)
        self.network = network.to(self.device)

    @torch.inference_mode()
    def outputs(self, inputs_BCHW: np.ndarray) -> np.ndarray:
        """See `Student`."""
        return self.network(torch.from_numpy(inputs_BCHW).to(self.device)).float().cpu().numpy()


def from_run(run_dir: Path, device: str, peer: int | str, checkpoint: str, network: NetworkSource | None) -> Student:
    """Return a student of a run; see `open_student`."""
    record = read_record(run_dir / INPUT, InputRecord)
    preparation = preparation_of(run_dir, read_config(run_dir / CONFIG), record)
    student = load_student(run_dir, peer, checkpoint, network=network)
    return NetworkStudent(student, device, run_dir, record.classes, preparation)


def from_weights(weights: Path, card: Path, device: str, network: NetworkSource | None) -> Student:
    """Return the student whose weights are in a safetensors file, and whose network and classes `card` names."""
    record = read_record(card, StudentRecord)
    preparation, model = preparation_in(record, card), record.model
    if model == OWN_NETWORK and network is None:
        raise UserError(
            f"{weights} are the weights of a network that was given from Python: pass it as network= from Python, or "
            "export the student as onnx or torch-export, which hold the network."
        )
    if network is None:
        found_in_file((model,))
        built = models.build(model, len(record.classes), record.channels, init=models.RANDOM)
    else:
        built = given_network(network, 0)
    try:
        built.load_state_dict(models.read_file(weights).tensors)
    except RuntimeError as error:
        raise UserError(
            f"{weights} does not fit {model} with the {len(record.classes)} classes of {card.name} "
            f"({one_line(error)[:200]}): the files do not belong together; export the student again."
        ) from error
    return NetworkStudent(built.eval(), device, weights, record.classes, preparation)
