"""OKDDip: online knowledge distillation with diverse peers (Chen et al., AAAI 2020), variants and ablations."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import entropy, soft_kl, softmax
from codistill.methods.base import Method, Rows, check_choice, check_temperature, check_weight
from codistill.methods.rampup import RAMP_UP, check_ramp_up, ramp_up_weight
from codistill.targets import PeerAttention, attention_weights
from codistill.types import GroupShape, Progress, StepOutput

__all__ = ["OKDDip"]

ABLATIONS = ("random", "entropy", "mean", "asymmetry", "no_two_level")
PAPER = {"aggregate": "probabilities", "leader_target": "probabilities", "gradient": "attention", "target_epsilon": 0.0}
RELEASED = {"aggregate": "logits", "leader_target": "logits", "gradient": "all", "target_epsilon": 1e-7}


class OKDDip(Method):
    """`okddip`: students 1..m-1 are auxiliary peers, student m is the group leader, which is deployed.

    t_a = Σ_b α_ab q'_b over the auxiliary peers,  L_dis1 = Σ_a KL(t_a, q'_a)
    α_ab = softmax over b of (W_Lᵀh_a)ᵀ(W_Eᵀh_b), per sample
    t_m = mean of the auxiliary peers' q'_b,       L_dis2 = KL(t_m, q'_m)
    L = Σ_{a=1..m} CE_a + w(e) T² L_dis1 + w(e) T² L_dis2

    The one stop-gradient (default `gradient="attention"`): the predictions q'_b inside both targets are detached. α is
    not, so L_dis1 trains W_L and W_E and reaches the networks through h.

    Args:
        shape: sizes of the group.
        temperature: T of every softened prediction q' = softmax(z / T).
        ramp_up: share of the run over which w(e) rises to 1 (the released code's 80 of 300 epochs); 0 for none.
        aggregate: "probabilities" (the paper's equation) or "logits": t_a = softmax(Σ_b α_ab z_b / T).
        leader_target: "probabilities": mean of q'_b, or "logits": softmax(mean of z_b / T).
        gradient: "attention" as above; "all" detaches nothing; "none" detaches α too.
        include_self: whether b = a is part of the sum.
        attention_width: d of the projections; by default the smallest feature width ÷ 8.
        target_epsilon: added to both targets (the released code adds 1e-7).
        ablation: table 5's settings: "random" (α drawn anew each batch), "entropy" (no L_dis1; peers learn from
            CE - entropy_weight · H), "mean" (α = 1/(m-1)), "asymmetry" (W_L = W_E = I), "no_two_level" (no leader;
            one randomly chosen student is deployed).
        entropy_weight: weight of the entropy H(softmax(z)) in the ablation "entropy" (the papers print none; ours).
        preset: "released" sets the released code's behaviour: aggregate and leader_target "logits", gradient "all",
            target_epsilon 1e-7; another value for one of these is refused.
        generator: draws initial projections, random attention and the randomly chosen student.
    """

    reads_features = True

    def __init__(
        self,
        shape: GroupShape,
        *,
        temperature: float = 3.0,
        ramp_up: float = RAMP_UP,
        aggregate: str = "probabilities",
        leader_target: str = "probabilities",
        gradient: str = "attention",
        include_self: bool = True,
        attention_width: int | None = None,
        target_epsilon: float = 0.0,
        ablation: str | None = None,
        entropy_weight: float = 0.1,
        preset: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(shape)
        check_choice("preset", preset, (None, "released"))
        if preset == "released":
            given = {"aggregate": aggregate, "leader_target": leader_target}
            _refuse_contradiction({**given, "gradient": gradient, "target_epsilon": target_epsilon})
            aggregate, leader_target, gradient, target_epsilon = RELEASED.values()
        check_choice("aggregate", aggregate, ("probabilities", "logits"))
        check_choice("leader_target", leader_target, ("probabilities", "logits"))
        check_choice("gradient", gradient, ("attention", "all", "none"))
        check_choice("ablation", ablation, (None, *ABLATIONS))
        self.temperature, self.ramp_up = check_temperature(temperature), check_ramp_up(ramp_up)
        self.aggregate, self.leader_target, self.gradient = aggregate, leader_target, gradient
        self.include_self, self.target_epsilon = include_self, check_weight("target_epsilon", target_epsilon)
        self.ablation, self.entropy_weight = ablation, check_weight("entropy_weight", entropy_weight)
        self.generator = generator
        self.auxiliary = shape.peers if ablation == "no_two_level" else shape.peers - 1
        self.leader = shape.peers - 1
        if ablation == "no_two_level":
            self.leader = int(torch.randint(shape.peers, (), generator=generator))
        self._check_group(shape)
        self.attention: PeerAttention | None = None
        if ablation in (None, "no_two_level"):
            widths = shape.feature_widths[: self.auxiliary]
            width = attention_width if attention_width is not None else max(min(widths) // 8, 1)
            if width < 1:
                raise UserError(f"attention_width {width}: the projections need a width of at least 1.")
            self.attention = PeerAttention(widths, width, generator)

    def _check_group(self, shape: GroupShape) -> None:
        if self.auxiliary == 1 and not self.include_self:
            raise UserError("include_self=False with one auxiliary peer leaves it no target: use at least 3 peers.")
        if self.auxiliary == 1 and self.ablation != "entropy":
            warnings.warn(
                "okddip with 2 peers: the one auxiliary peer attends to itself alone, so its first-level target is "
                "its own prediction; 3 or more peers are needed for attention to matter.",
                stacklevel=4,
            )
        if self.ablation == "asymmetry" and len(set(shape.feature_widths[: self.auxiliary])) > 1:
            raise UserError(
                f"the ablation 'asymmetry' with feature widths {list(shape.feature_widths)}: it compares features "
                "without projections; use networks of one feature width."
            )

    def step(self, rows: Rows, progress: Progress) -> StepOutput:
        """parts: "ce"; "dis1" (in the ablation "entropy" instead "entropy", Σ_a H_a); "dis2" where there is a leader.

        diagnostics: "attention", α averaged over the batch, [A, A].
        """
        A, T = self.auxiliary, self.temperature
        ce_P = rows.cross_entropy_P()
        peers_ANC, scale = rows.logits_PNC[:A], ramp_up_weight(progress, self.ramp_up) * T**2
        parts, diagnostics = {"ce": ce_P.detach().sum()}, {}
        if self.ablation == "entropy":
            entropy_A = rows.mean(entropy(peers_ANC))
            terms = [-self.entropy_weight * entropy_A]
            parts["entropy"] = entropy_A.detach().sum()
        else:
            alpha_AAN = self._alpha(rows)
            dis1_A = rows.mean(soft_kl(self._first_target(alpha_AAN, peers_ANC), peers_ANC, T))
            terms = [scale * dis1_A]
            parts["dis1"] = dis1_A.detach().sum()
            diagnostics["attention"] = alpha_AAN.detach().mean(-1)
        if A < self.shape.peers:
            leader_NC = rows.logits_PNC[A]
            dis2 = rows.mean(soft_kl(self._second_target(peers_ANC), leader_NC, T))
            terms.append(scale * dis2.unsqueeze(0))
            parts["dis2"] = dis2.detach()
        by_peer_P = ce_P + torch.cat(terms)
        return StepOutput(by_peer_P.sum(), by_peer_P, parts, diagnostics)

    def _alpha(self, rows: Rows) -> Tensor:
        """α [A, A, N]."""
        A, logits = self.auxiliary, rows.logits_PNC
        if self.ablation in ("mean", "random"):
            # Normalised in fp64, so that rows sum to one in whatever precision the outputs have.
            alpha_AA = torch.ones(A, A, dtype=torch.float64)
            if self.ablation == "random":
                alpha_AA = torch.rand(A, A, generator=self.generator, dtype=torch.float64)
            if not self.include_self:
                alpha_AA = alpha_AA * (1 - torch.eye(A, dtype=torch.float64))
            alpha_AA = (alpha_AA / alpha_AA.sum(1, keepdim=True)).to(logits.device, logits.dtype)
            return alpha_AA.unsqueeze(-1).expand(A, A, logits.shape[1])
        features = rows.features[:A]
        if self.attention is None:
            h_AND = torch.stack(list(features))
            alpha_AAN = attention_weights(h_AND, h_AND, self.include_self)
        else:
            alpha_AAN = self.attention(features, self.include_self)
        return alpha_AAN.detach() if self.gradient == "none" else alpha_AAN

    def _first_target(self, alpha_AAN: Tensor, peers_ANC: Tensor) -> Tensor:
        source_ANC = self._source(peers_ANC)
        if self.aggregate == "logits":
            mixed_ANC = torch.einsum("abn,bnc->anc", alpha_AAN.to(source_ANC.dtype), source_ANC)
            return softmax(mixed_ANC, self.temperature) + self.target_epsilon
        prob_ANC = softmax(source_ANC, self.temperature)
        return torch.einsum("abn,bnc->anc", alpha_AAN.to(prob_ANC.dtype), prob_ANC) + self.target_epsilon

    def _second_target(self, peers_ANC: Tensor) -> Tensor:
        source_ANC = self._source(peers_ANC)
        if self.leader_target == "logits":
            return softmax(source_ANC.mean(0), self.temperature) + self.target_epsilon
        return softmax(source_ANC, self.temperature).mean(0) + self.target_epsilon

    def _source(self, peers_ANC: Tensor) -> Tensor:
        """The peers' logits as they enter a target: the one stop-gradient."""
        return peers_ANC if self.gradient == "all" else peers_ANC.detach()


def _refuse_contradiction(given: dict[str, object]) -> None:
    """UserError for an option beside preset="released" that is neither its default nor the preset's own value."""
    for name, value in given.items():
        if value not in (PAPER[name], RELEASED[name]):
            raise UserError(
                f"{name} {value!r} with preset 'released', which sets it to {RELEASED[name]!r}: leave one of them out."
            )
