"""Deep mutual learning as pytorch-dml and KD-Lib train it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from torch import Tensor
from torch.nn import functional

from others.importing import import_code, quiet_on_cpu
from others.task import Task, sgd
from ratios.race import Timed

__all__ = ["kdlib_epoch", "load_kdlib", "load_pytorch_dml", "pytorch_dml_epoch"]


def load_pytorch_dml(folder: Path) -> ModuleType:
    """Import the package; UserError as `import_code`."""
    return import_code(folder, "pydml", "--pytorch-dml", ("DMLTrainer", "DMLConfig"))


def load_kdlib(folder: Path) -> ModuleType:
    """Import the one file with DML; the package needs transformers and torchtext. UserError as `import_code`."""
    return import_code(folder / "KD_Lib" / "KD" / "vision" / "DML", "dml", "--kdlib", ("DML",))


def pytorch_dml_epoch(code: ModuleType, task: Task) -> Timed:
    """Return one epoch of training and the evaluation after it, as one call."""
    networks, (train_loader, test_loader) = task.networks(), task.loaders()
    config = code.DMLConfig(temperature=1.0)
    trainer = code.DMLTrainer(networks, config, device="cpu", optimizers=[sgd(network) for network in networks])

    def epoch() -> object:
        with quiet_on_cpu():
            return trainer.fit(train_loader, test_loader, epochs=1, verbose=False)

    return epoch


def kdlib_epoch(code: ModuleType, task: Task) -> Timed:
    """Return one epoch of training and the evaluation after it, as one call."""
    networks, (train_loader, test_loader) = task.networks(), task.loaders()
    optimizers = [sgd(network) for network in networks]
    distiller = code.DML(networks, train_loader, test_loader, optimizers, loss_fn=_mimicry, device="cpu")

    def epoch() -> object:
        with quiet_on_cpu():
            return distiller.train_students(epochs=1, plot_losses=False, save_model=False)

    return epoch


def _mimicry(logits_BC: Tensor, peer_BC: Tensor) -> Tensor:
    """KL(peer, student), which the caller of KD-Lib must pass in.

    The peer is detached as in the paper, which also saves KD-Lib time.
    """
    logp_BC, peer_logp_BC = logits_BC.log_softmax(-1), peer_BC.detach().log_softmax(-1)
    return functional.kl_div(logp_BC, peer_logp_BC, reduction="batchmean", log_target=True)
