"""KDCL on one screen: its four target rules, in plain PyTorch and SciPy.

Source: Guo, Wang, Wu, Yu, Liang, Hu, Luo, "Online Knowledge Distillation via Collaborative Learning", CVPR 2020.

m networks, which may differ, train together and all learn from one target z_t, which is detached:

    L = Σ_i [ CE(z_i, y) + λ · T² · KL(softmax(z_t / T) ‖ softmax(z_i / T)) ]

    naive     z_t = z_k,  k = argmin_i CE(z_i, y)                                            for every sample
    linear    z_t = Σ_i α_i z_i,  α = argmin over the simplex of CE(Σ_i α_i z_i, y)          for every sample
    minlogit  z_t[c] = min_i (z_i[c] - z_i[y])                                               for every sample
    general   z_t = Σ_i w_i z_i,  w = argmin over the simplex of wᵀCw,                       renewed after every epoch
              C_ij = 1/N Σ_k ⟨f_i(x_k) - t_k, f_j(x_k) - t_k⟩ on a held-out part of the training set, f probabilities

Every network sees a distortion of its own of the same images (invariant collaborative learning). T = 2 and λ = 1 are
our choice, the paper prints none. The linear rule is solved sample by sample with SciPy: its cross-entropy is within
1e-6 nats of the minimum (codistill solves whole batches at once).

Letters: P networks, B images, C classes, N images of a data set. Run it: python examples/kdcl.py (digits).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize, nnls
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional


def kdcl_loss(
    logits_PBC: Tensor, target_logits_BC: Tensor, labels_B: Tensor, T: float = 2.0, weight: float = 1.0
) -> Tensor:
    """L, a scalar, for the target that one of the four rules makes of the same outputs; `weight` is λ."""
    target_BC = functional.softmax(target_logits_BC.detach() / T, dim=-1)
    loss = logits_PBC.new_zeros(())
    for logits_BC in logits_PBC:
        logp_BC = functional.log_softmax(logits_BC / T, dim=-1)
        loss = loss + functional.cross_entropy(logits_BC, labels_B)
        loss = loss + weight * T**2 * functional.kl_div(logp_BC, target_BC, reduction="batchmean")
    return loss


def naive(logits_PBC: Tensor, labels_B: Tensor) -> Tensor:
    """z_t [B, C]: of every sample the network with the lowest cross-entropy."""
    ce_PB = torch.stack([functional.cross_entropy(z_BC, labels_B, reduction="none") for z_BC in logits_PBC])
    return logits_PBC[ce_PB.argmin(0), torch.arange(len(labels_B))]


def minlogit(logits_PBC: Tensor, labels_B: Tensor) -> Tensor:
    """z_t [B, C]: the smallest logit of every class, once the label's own is shifted to zero."""
    return (logits_PBC - logits_PBC[:, torch.arange(len(labels_B)), labels_B].unsqueeze(-1)).amin(0)


def linear(logits_PBC: Tensor, labels_B: Tensor) -> Tensor:
    """z_t [B, C]: the convex combination with the lowest cross-entropy, a convex problem in P weights per sample."""
    P = len(logits_PBC)
    # Shifting the label's logit to zero leaves the cross-entropy as it is: logsumexp of what is left.
    shifted_PBC = logits_PBC.detach() - logits_PBC.detach()[:, torch.arange(len(labels_B)), labels_B].unsqueeze(-1)
    sum_is_one = {"type": "eq", "fun": lambda alpha_P: alpha_P.sum() - 1, "jac": np.ones_like}
    simplex = {"bounds": [(0, 1)] * P, "constraints": sum_is_one}

    def cross_entropy(alpha_P: np.ndarray, z_PC: np.ndarray) -> tuple[float, np.ndarray]:
        mixed_C = alpha_P @ z_PC
        odds_C = np.exp(mixed_C - mixed_C.max())
        return np.log(odds_C.sum()) + mixed_C.max(), z_PC @ (odds_C / odds_C.sum())

    alpha_BP = np.full((len(labels_B), P), 1 / P)
    for b, z_PC in enumerate(shifted_PBC.double().transpose(0, 1).numpy()):
        found = minimize(cross_entropy, alpha_BP[b], (z_PC,), "SLSQP", jac=True, options={"ftol": 1e-12}, **simplex)
        alpha_BP[b] = found.x
    return torch.einsum("bp,pbc->bc", torch.from_numpy(alpha_BP).to(logits_PBC), logits_PBC)


def general_weights(prob_PNC: Tensor, labels_N: Tensor) -> Tensor:
    """w [P] from probabilities on the held-out images."""
    residual_PNC = prob_PNC.double() - functional.one_hot(labels_N, prob_PNC.shape[-1])
    R_MP = residual_PNC.flatten(1).T.numpy() / len(labels_N) ** 0.5  # C = RᵀR
    # With u = s · w the objective |Ru|² + (Σu - 1)² is s² wᵀCw + (s - 1)². At the best s it is v / (1 + v), v = wᵀCw,
    # which grows with v: non-negative least squares in u gives the exact w, also where C has no inverse.
    u_P = nnls(np.vstack([R_MP, np.ones(len(prob_PNC))]), np.append(np.zeros(len(R_MP)), 1.0))[0]
    return torch.from_numpy(u_P / u_P.sum())


def general(logits_PBC: Tensor, w_P: Tensor) -> Tensor:
    """z_t [B, C]: one weight per network; 1/P each until the first epoch has ended."""
    return torch.einsum("p,pbc->bc", w_P.to(logits_PBC), logits_PBC)


def net(width: int, num_classes: int = 10) -> nn.Module:
    """A small convolutional network; the students differ in width."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, num_classes),
    )


def shift(images: Tensor) -> Tensor:
    """Move every image by up to one pixel, which is all the distortion that digits of 8 × 8 bear."""
    wide, (row_B, column_B) = functional.pad(images, (1, 1, 1, 1)), torch.randint(3, (2, len(images), 1, 1))
    y, x = row_B + torch.arange(8).view(1, 8, 1), column_B + torch.arange(8).view(1, 1, 8)
    return wide[torch.arange(len(images)).view(-1, 1, 1), 0, y, x].unsqueeze(1)


def load() -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and a random order of them."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    return images, torch.tensor(digits), torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def predict(networks: nn.ModuleList, images: Tensor) -> Tensor:
    """Probabilities [P, N, C] in evaluation mode."""
    networks.eval()
    return torch.stack([network(images) for network in networks]).softmax(-1)


def main(epochs: int = 5) -> None:
    """Train three networks with each rule and print their errors in percent."""
    images, labels_N, order = load()
    test, held_out, train = order[:360], order[360:504], order[504:]
    for rule in ("naive", "linear", "minlogit", "general"):
        torch.manual_seed(0)
        networks, w_P = nn.ModuleList(net(width) for width in (8, 12, 16)), torch.full((3,), 1 / 3)
        optimizer = torch.optim.SGD(networks.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            networks.train()
            for index_B in train[torch.randperm(len(train))].split(64):
                logits_PBC, labels_B = torch.stack([f(shift(images[index_B])) for f in networks]), labels_N[index_B]
                if rule == "general":
                    target_BC = general(logits_PBC, w_P)
                else:
                    target_BC = {"naive": naive, "linear": linear, "minlogit": minlogit}[rule](logits_PBC, labels_B)
                optimizer.zero_grad()
                kdcl_loss(logits_PBC, target_BC, labels_B).backward()
                optimizer.step()
            schedule.step()
            w_P = general_weights(predict(networks, images[held_out]), labels_N[held_out])
        prob_PNC = predict(networks, images[test])
        *error_P, ensemble = (
            100 * (p.argmax(-1) != labels_N[test]).float().mean() for p in [*prob_PNC, prob_PNC.mean(0)]
        )
        print(f"{rule} students: " + "  ".join(f"{e:.2f} %" for e in error_P) + f"  ensemble: {ensemble:.2f} %")


if __name__ == "__main__":
    main()
