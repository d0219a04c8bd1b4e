"""codistill in a training loop of one's own: three networks, a method, an optimizer.

Source of the method: Chen et al., "Online Knowledge Distillation with Diverse Peers", AAAI 2020 (okddip). Any other
method for separate networks goes in its place, such as dml, kdcl_linear or "examples/own_method.py:MostCertainPeer".

    L = Σ_i CE_i + w(e) · T² · (Σ_a KL(t_a ‖ q'_a) + KL(t_m ‖ q'_m))

Data, networks, optimizer, schedule and evaluation are the user's. codistill is three calls: a group that collects what
the networks put out, a method that makes a loss of it, and the student out of the group.

Run it: python examples/own_loop.py (scikit-learn's digits).
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from codistill import Progress
from codistill.methods import build
from codistill.peers import NetworkGroup


def net(width: int) -> nn.Module:
    """Any network with logits [B, C]; the features that okddip reads are the input of its last linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels: 1437 and 360 scans of 8 × 8."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(digits, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:360], order[360:]
    return images[train], labels[train], images[test], labels[test]


@torch.no_grad()
def error(network: nn.Module, images: Tensor, labels_N: Tensor) -> float:
    """Percent of the images that the network gets wrong."""
    return 100 * float((network.eval()(images).argmax(-1) != labels_N).float().mean())


def main(epochs: int = 10) -> None:
    """Train two auxiliary peers and the leader, and print their errors."""
    torch.manual_seed(0)
    train_images, train_labels_N, test_images, test_labels_N = load()

    group = NetworkGroup([net(8), net(12), net(16)])
    method = build("okddip", group, temperature=3.0, generator=torch.Generator().manual_seed(0))
    # The method has parameters too (okddip's attention, ONE's gate); where it has none, this adds nothing.
    parameters = [*group.parameters(), *method.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    for epoch in range(epochs):
        group.train()
        method.train()
        for index_B in torch.randperm(len(train_labels_N)).split(64):
            optimizer.zero_grad()
            step = method(group(train_images[index_B]), train_labels_N[index_B], Progress(epoch, epochs))
            step.loss.backward()
            optimizer.step()
        schedule.step()
        parts = "  ".join(f"{name} {float(value):.3f}" for name, value in step.parts.items())
        print(f"epoch {epoch + 1}: loss {float(step.loss.detach()):.3f}  {parts}")

    students = [group.student(peer) for peer in range(group.shape.peers)]
    print("students: " + "  ".join(f"{error(s, test_images, test_labels_N):.2f} %" for s in students))
    group.eval()
    with torch.no_grad():
        prob_NC = group(test_images).logits_PBC.softmax(-1).mean(0)
    print(f"ensemble: {100 * float((prob_NC.argmax(-1) != test_labels_N).float().mean()):.2f} %")
    # A plain network, of the class that was put in: nothing of codistill is needed to run or save it.
    print(f"group leader, to deploy: {error(students[method.leader], test_images, test_labels_N):.2f} %")


if __name__ == "__main__":
    main()
