"""The weights alone, under the plain network's own names, in safetensors format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from codistill.export.job import Job, Written
from codistill.rundir import FileRecord
from codistill.training.snapshot import unshared

__all__ = ["digest_of", "write_weights"]


def write_weights(job: Job, name: str = "student.safetensors") -> Written:
    """Write the state dict, and load it into a newly built network.

    Args:
        job: the export; float16 rounds all floating-point tensors.
        name: of the file.
    """
    tensors = unshared(job.student.state_dict())
    if job.request.precision == "float16":
        tensors = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    # safetensors' own save_file lets nobody but the owner read the file; this one follows the umask.
    path = job.stage / name
    path.write_bytes(save(tensors, metadata={"model": job.record.model, "format": "pt"}))
    network = job.build()
    network.load_state_dict(load_file(path))
    return Written(name, FileRecord(format=job.request.format, precision=job.request.precision), network.eval())


def digest_of(network: nn.Module) -> str:
    """Return the SHA-256 of all tensors of a network, with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_plain(network.state_dict()).items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().to(torch.float32) for name, tensor in tensors.items()}
