"""The training loop that OKDDip's authors released, called as its own main program calls it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from codistill.bench.others_import import import_code, quiet_on_cpu
from codistill.bench.others_task import Step, Task, sgd
from codistill.errors import UserError

__all__ = ["load_okddip", "okddip_steps"]

NEEDED = ("train", "evaluate", "utils.KL_Loss", "model_cifar.MultiNet.StuNet", "model_cifar.resnet_GL.resnet32")
TEMPERATURE = 3.0


def load_okddip(folder: Path) -> ModuleType:
    """Import its program for CIFAR; UserError as `import_code`."""
    return import_code(folder, "train_GL", "--okddip", NEEDED)


def okddip_steps(code: ModuleType, task: Task) -> tuple[Step, Step]:
    """Its training epoch and its evaluation, each from PIL images to its dictionary of metrics.

    Raises:
        UserError: its networks have another number of parameters than ours.
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
    nets, shape = code.model_cifar, task.session.group.shape
    if task.group == "branches":
        return nets.resnet_GL.resnet32(num_classes=shape.num_classes, num_branches=task.peers)
    width = shape.feature_widths[0]
    model = nets.MultiNet.StuNet(task.model, task.peers, num_classes=shape.num_classes, input_channel=width)
    if not hasattr(model, "stu0"):
        # A network that the code does not know leaves its group without students: attention alone, around ours.
        for peer, network in enumerate(task.networks()):
            setattr(model, f"stu{peer}", _WithFeatures(network))
    return model


def _refuse_other_sizes(model: nn.Module, task: Task) -> None:
    ours = [*task.session.group.parameters(), *task.session.method.parameters()]
    counts = [sum(p.numel() for p in parameters) for parameters in (model.parameters(), ours)]
    if counts[0] != counts[1]:
        raise UserError(
            f"--okddip: its {task.peers} {task.group} have {counts[0]:,} parameters and ours {counts[1]:,}, which "
            "is no comparison; give the version that benchmarks/README.md names."
        )


class _WithFeatures(nn.Module):
    """A network that puts out (features [B, D], logits [B, C]), as the released networks do."""

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
    """Percent right among the best k; its own, which its main program passes in too, `view`s what is not contiguous."""
    hit_BK = logits_BC.topk(max(topk), dim=1).indices == labels_B.unsqueeze(1)
    return [100 * hit_BK[:, :k].any(1).float().mean() for k in topk]
