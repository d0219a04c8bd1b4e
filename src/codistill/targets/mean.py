"""Plain averages of the peers' predictions as targets."""

from __future__ import annotations

from torch import Tensor

__all__ = ["mean_of_others"]


def mean_of_others(prob_PNC: Tensor) -> Tensor:
    """For every student the mean of the OTHER students' probabilities, [P, N, C] -> [P, N, C].

    t_i = 1/(m-1) Σ_{j≠i} q'_j (Song & Chai 2018). Gradients pass: detach the argument where they must not.
    """
    return (prob_PNC.sum(0, keepdim=True) - prob_PNC) / (prob_PNC.shape[0] - 1)
