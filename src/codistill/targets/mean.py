"""Plain averages of the peers' predictions as targets."""

from __future__ import annotations

from torch import Tensor

__all__ = ["mean_of_others"]


def mean_of_others(values_PNC: Tensor) -> Tensor:
    """For every student the mean of the OTHER students' values, [P, N, C] -> [P, N, C].

    Of probabilities, t_i = 1/(m-1) Σ_{j≠i} q'_j (Song & Chai 2018); of logits, what the softmax is taken of in the code
    that OKDDip's authors compare with. Gradients pass: detach the argument where they must not.
    """
    return (values_PNC.sum(0, keepdim=True) - values_PNC) / (values_PNC.shape[0] - 1)
