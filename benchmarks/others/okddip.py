"""The training loop that OKDDip's authors released, called as their own main program calls it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from codistill.errors import UserError
from others.importing import import_code, quiet_on_cpu
from others.task import Task, sgd
from ratios.race import Timed

__all__ = ["load_okddip", "okddip_epochs"]

NEEDED = ("train", "evaluate", "utils.KL_Loss", "model_cifar.MultiNet.StuNet", "model_cifar.resnet_GL.resnet32")
TEMPERATURE = 3.0


def load_okddip(folder: Path) -> ModuleType:
    """Import the released program for CIFAR; UserError as `import_code`."""
    return import_code(folder, "train_GL", "--okddip", NEEDED)


def okddip_epochs(code: ModuleType, task: Task) -> tuple[Timed, Timed]:
    """Return the released training epoch and evaluation, each from PIL images to a dictionary of metrics.

    Raises:
        UserError: the released networks have a different number of parameters from ours.
    """
    model = _model(code, task)
    _refuse_other_sizes(model, task)
    train_loader, test_loader = task.loaders()
    criterion, criterion_T = nn.CrossEntropyLoss(), code.utils.KL_Loss(TEMPERATURE)
    args, optimizer = Namespace(num_branches=task.peers, alpha=1.0), sgd(model)

    def train() -> object:
        with quiet_on_cpu():
            return code.train(train_loader, model, optimizer, criterion, criterion_T, _accuracy, args, 1.0)

    def evaluate() -> object:
        with quiet_on_cpu():
            return code.evaluate(test_loader, model, criterion, criterion_T, _accuracy, args, 1.0)

    return train, evaluate


def _model(code: ModuleType, task: Task) -> nn.Module:
    nets, shape = code.model_cifar, task.session.shape
    if task.group == "branches":
        return nets.resnet_GL.resnet32(num_classes=shape.num_classes, num_branches=task.peers)
    width = shape.feature_widths[0]
    model = nets.MultiNet.StuNet(task.model, task.peers, num_classes=shape.num_classes, input_channel=width)
    if not hasattr(model, "stu0"):
        # The released group is left without students if it does not know the network: put ours into it.
        for peer, network in enumerate(task.networks()):
            setattr(model, f"stu{peer}", _WithFeatures(network))
    return model


def _refuse_other_sizes(model: nn.Module, task: Task) -> None:
    ours = task.session.executor.parameters()
    counts = [sum(p.numel() for p in parameters) for parameters in (model.parameters(), ours)]
    if counts[0] != counts[1]:
        raise UserError(
            f"--okddip: its {task.peers} {task.group} have {counts[0]:,} parameters and ours {counts[1]:,}, so the "
            "times cannot be compared; give the version that benchmarks/README.md names."
        )


class _WithFeatures(nn.Module):
    """A network that returns (features [B, D], logits [B, C]), as the released networks do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        classifier = network.fc
        assert isinstance(classifier, nn.Module)
        self.classifier, network.fc = classifier, nn.Identity()
        self.body = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h_BD = self.body(x)
        return h_BD, self.classifier(h_BD)


def _accuracy(logits_BC: Tensor, labels_B: Tensor, topk: tuple[int, ...]) -> list[Tensor]:
    """Percent of rows whose label is among the best k.

    The released function stops in today's PyTorch: it calls `view` on a tensor that is not contiguous. The released
    main program passes it in as an argument as well.
    """
    hit_BK = logits_BC.topk(max(topk), dim=1).indices == labels_B.unsqueeze(1)
    return [100 * hit_BK[:, :k].any(1).float().mean() for k in topk]
