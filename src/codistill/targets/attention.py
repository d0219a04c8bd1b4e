"""OKDDip's attention: how much peer a listens to peer b, for every sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from codistill.errors import UserError

__all__ = ["PeerAttention", "attention_weights", "projection"]


def attention_weights(left_ANd: Tensor, right_ANd: Tensor, include_self: bool = True) -> Tensor:
    """α_ab = softmax over b of L(h_a)ᵀE(h_b), unscaled and asymmetric, one matrix for every sample.

    Args:
        left_ANd: L(h), [A, N, d].
        right_ANd: E(h), [A, N, d].
        include_self: whether b = a takes part; without it A must be at least 2.

    Returns:
        [A, A, N], rows a, columns b; sums to one over b.
    """
    score_AAN = torch.einsum("and,bnd->abn", left_ANd, right_ANd)
    if not include_self:
        itself_AA1 = torch.eye(score_AAN.shape[0], dtype=torch.bool, device=score_AAN.device).unsqueeze(-1)
        score_AAN = score_AAN.masked_fill(itself_AA1, float("-inf"))
    return score_AAN.softmax(dim=1)


class PeerAttention(nn.Module):
    """L(h) = W_Lᵀh and E(h) = W_Eᵀh without bias, and the weights α from them.

    Peers of one feature width share W_L and W_E, as in the paper. Where widths differ, every peer has projections of
    its own into the common space (ours); the paper's networks are all alike.

    Args:
        widths: D of every peer that takes part.
        width: d of the common space.
        generator: draws the initial weights; torch's default generator if None.
        init: how the weights are drawn, see `projection`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        width: int,
        generator: torch.Generator | None = None,
        init: float | str = "normal",
    ) -> None:
        super().__init__()
        self.shared = len(set(widths)) == 1
        if self.shared:
            self.left: nn.Module = projection(widths[0], width, generator, init)
            self.right: nn.Module = projection(widths[0], width, generator, init)
        else:
            self.left = nn.ModuleList(projection(D, width, generator, init) for D in widths)
            self.right = nn.ModuleList(projection(D, width, generator, init) for D in widths)

    def forward(self, features: Sequence[Tensor], include_self: bool = True) -> Tensor:
        """A features [N, D_a] -> α [A, A, N]."""
        return attention_weights(self._project(self.left, features), self._project(self.right, features), include_self)

    def _project(self, projection: nn.Module, features: Sequence[Tensor]) -> Tensor:
        if self.shared:
            return projection(torch.stack(list(features)))
        assert isinstance(projection, nn.ModuleList)
        return torch.stack([own(h) for own, h in zip(projection, features, strict=True)])


def projection(D: int, d: int, generator: torch.Generator | None, init: float | str = "normal") -> nn.Linear:
    """A linear map D -> d without bias.

    Args:
        D: width of the input.
        d: width of the output.
        generator: draws the weights; torch's default generator if None.
        init: "normal", N(0, 1/D); "uniform", U(-1/√D, 1/√D), torch's own, of standard deviation 1/√(3D); or the
            standard deviation of a normal distribution.

    Raises:
        UserError: `init` is neither of these names nor a positive number.
    """
    # skip_init: nn.Linear would draw from torch's global generator first.
    layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, D, d, bias=False))
    if init == "uniform":
        nn.init.uniform_(layer.weight, -(D**-0.5), D**-0.5, generator=generator)
        return layer
    std = D**-0.5 if init == "normal" else init
    if not (isinstance(std, int | float) and 0 < std < math.inf):
        raise UserError(f"projection_init {init!r}: give 'normal', 'uniform', or a standard deviation above 0.")
    nn.init.normal_(layer.weight, std=std, generator=generator)
    return layer
