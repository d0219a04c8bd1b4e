"""OKDDip, online knowledge distillation with diverse peers, on one screen, in plain PyTorch.

Source: Chen, Mei, Wang, Feng, Chen, "Online Knowledge Distillation with Diverse Peers", AAAI 2020.

m networks train together. The first m - 1 are auxiliary peers, the last is the group leader, which is deployed:

    α_ab = softmax over b ≠ a of (W_Lᵀ h_a)ᵀ (W_Eᵀ h_b)              for every sample; include_self=True adds b = a
    t_a = Σ_b α_ab q'_b,        L_dis1 = Σ_a KL(t_a ‖ q'_a)          first level: peers teach each other
    t_m = mean of the q'_b,     L_dis2 = KL(t_m ‖ q'_m)              second level: peers teach the leader
    L = Σ_{a=1..m} CE(z_a, y) + w(e) · T² · (L_dis1 + L_dis2),       q' = softmax(z / T)

h are the features before the classifier. The q'_b inside both targets are detached (our reading). α is not: L_dis1
trains W_L and W_E, and reaches the networks through h. With b = a in the sum this soon drives α to b = a on digits,
where L_dis1 is 0; hence include_self=False, the default here. The authors' code includes b = a, detaches nothing, sums
logits and takes the softmax after, and adds 1e-7 to the targets. w(e) ramps the soft terms up while predictions are
still poor.

Letters: P networks, A = P - 1 auxiliary peers, B images, C classes, D width of the features, N images of a data set.
Run it: python examples/okddip.py (scikit-learn's digits).
"""

from __future__ import annotations

import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """α from features, [A, B, D] -> [A, A, B]; all peers share W_L and W_E, D -> D / 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left = nn.Linear(width, width // 8, bias=False)
        self.right = nn.Linear(width, width // 8, bias=False)

    def forward(self, features_ABD: Tensor, include_self: bool = False) -> Tensor:
        """How much peer a (rows) listens to peer b (columns); sums to one over b."""
        score_AAB = torch.einsum("aid,bid->abi", self.left(features_ABD), self.right(features_ABD))
        A = len(features_ABD)
        if not include_self and A > 1:  # a single peer has only itself to listen to
            itself_AA = torch.eye(A, dtype=torch.bool, device=score_AAB.device)
            score_AAB = score_AAB.masked_fill(itself_AA[:, :, None], -math.inf)
        return score_AAB.softmax(dim=1)


def okddip_loss(
    logits_PBC: Tensor,
    features_PBD: Tensor,
    labels_B: Tensor,
    attention: Attention,
    T: float = 3.0,
    ramp: float = 1.0,
    include_self: bool = False,
) -> Tensor:
    """L, a scalar.

    Args:
        logits_PBC: the networks' outputs; the last one is the leader's.
        features_PBD: the inputs of their classifiers.
        labels_B: class indices.
        attention: trained by this loss: its parameters belong in the optimizer.
        T: temperature.
        ramp: w(e).
        include_self: whether a peer listens to itself, too.
    """
    A = len(logits_PBC) - 1
    prob_ABC = functional.softmax(logits_PBC[:A] / T, dim=-1).detach()
    first_ABC = torch.einsum("abi,bic->aic", attention(features_PBD[:A], include_self), prob_ABC)
    second_BC = prob_ABC.mean(0)
    loss = sum(functional.cross_entropy(logits_BC, labels_B) for logits_BC in logits_PBC)
    for a in range(A):
        loss = loss + ramp * T**2 * kl(first_ABC[a], logits_PBC[a] / T)
    return loss + ramp * T**2 * kl(second_BC, logits_PBC[A] / T)


def kl(target_BC: Tensor, logits_BC: Tensor) -> Tensor:
    """KL(t ‖ softmax(z)), summed over the classes, averaged over the batch."""
    # Written out with a floor, since α gets gradient through t log t, whose slope is infinite where t underflows to 0.
    floor = torch.finfo(target_BC.dtype).tiny
    log_ratio_BC = target_BC.clamp_min(floor).log() - functional.log_softmax(logits_BC, dim=-1)
    return (target_BC * log_ratio_BC).sum(-1).mean()


def ramp_up(epoch: float, epochs: float, share: float = 80 / 300) -> float:
    """w(e) = exp(-5 (1 - min(e / r, 1))²), r = `share` of the run (80 of 300 epochs in the authors' code)."""
    return math.exp(-5 * (1 - min(epoch / epochs / share, 1)) ** 2)


class Net(nn.Module):
    """A small convolutional network that also returns the features before its classifier."""

    def __init__(self, width: int = 16, num_classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, H, W] -> logits [B, C] and features [B, D]."""
        features_BD = self.body(images)
        return self.classifier(features_BD), features_BD


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels: 1437 and 360 scans of 8 × 8."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    labels = torch.tensor(digits, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:360], order[360:]
    return images[train], labels[train], images[test], labels[test]


@torch.no_grad()
def show_errors(networks: nn.ModuleList, images: Tensor, labels_N: Tensor) -> None:
    """Print the error of every network and of the auxiliary peers' mean probabilities, in percent."""
    networks.eval()
    prob_PNC = torch.stack([network(images)[0] for network in networks]).softmax(-1)
    *peers, leader = 100 * (prob_PNC.argmax(-1) != labels_N).float().mean(-1)
    print("auxiliary peers: " + "  ".join(f"{error:.2f} %" for error in peers))
    print(f"their ensemble: {100 * (prob_PNC[:-1].mean(0).argmax(-1) != labels_N).float().mean():.2f} %")
    print(f"group leader: {leader:.2f} %")


def main(epochs: int = 10) -> None:
    """Train three auxiliary peers and the leader and print their errors."""
    torch.manual_seed(0)
    train_images, train_labels_N, test_images, test_labels_N = load()
    networks = nn.ModuleList(Net() for _ in range(4))
    attention = Attention(width=32)
    parameters = [*networks.parameters(), *attention.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        networks.train()
        for index_B in torch.randperm(len(train_labels_N)).split(64):
            outputs = [network(train_images[index_B]) for network in networks]
            logits_PBC, features_PBD = (torch.stack(each) for each in zip(*outputs, strict=True))
            optimizer.zero_grad()
            labels_B, ramp = train_labels_N[index_B], ramp_up(epoch, epochs)
            okddip_loss(logits_PBC, features_PBD, labels_B, attention, ramp=ramp).backward()
            optimizer.step()
        schedule.step()
    show_errors(networks, test_images, test_labels_N)


if __name__ == "__main__":
    main()
