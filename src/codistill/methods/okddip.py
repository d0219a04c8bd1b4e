"""OKDDip: online knowledge distillation with diverse peers (Chen et al., AAAI 2020), variants and ablations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from codistill.errors import UserError
from codistill.losses import entropy, soft_kl
from codistill.methods.base import Method, Rows
from codistill.methods.checks import check_choice, check_temperature, check_weight
from codistill.methods.peer_target import SPACES, PeerTarget, use_preset
from codistill.methods.rampup import RAMP_UP, check_ramp_up, ramp_up_weight
from codistill.targets import PeerAttention, attention_weights
from codistill.types import GroupShape, Needs, Progress, StepOutput

__all__ = ["OKDDip"]

ABLATIONS = ("random", "entropy", "mean", "asymmetry", "no_two_level")
WITHOUT_ATTENTION = ("random", "entropy", "mean")
USUAL = {
    "aggregate": "probabilities",
    "leader_target": "probabilities",
    "gradient": "attention",
    "target_epsilon": 0.0,
    "include_self": False,
}
RELEASED = {
    "aggregate": "logits",
    "leader_target": "logits",
    "gradient": "all",
    "target_epsilon": 1e-7,
    "include_self": True,
}
SATURATED = 0.95
"""Mean diagonal of the attention above which every peer learns from hardly anything but itself."""


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
        aggregate: "probabilities" (the paper's equation; the default) or "logits": t_a = softmax(Σ_b α_ab z_b / T).
        leader_target: "probabilities": mean of q'_b (the default), or "logits": softmax(mean of z_b / T).
        gradient: "attention" as above (the default); "all" detaches nothing; "none" detaches α too.
        include_self: whether b = a is part of the sum, as on the slides. By default (False, ours) a peer attends to the
            others alone, since with b = a the attention ends at the identity (docs/methods/okddip.md); a single
            auxiliary peer has only itself.
        attention_width: d of the projections; by default the smallest feature width ÷ 8.
        projection_init: how W_L and W_E are drawn: "normal" (default), N(0, 1/D); "uniform", U(-1/√D, 1/√D), as torch
            and the released code do; or a number, the standard deviation of a normal one (the released code's VGG:
            0.01).
        target_epsilon: added to both targets; 0 by default (the released code adds 1e-7).
        ablation: table 5's settings: "random" (α drawn again for each batch), "entropy" (no L_dis1; peers learn from
            CE - entropy_weight · H), "mean" (α equal for all b), "asymmetry" (W_L = W_E = I), "no_two_level" (no
            leader; one randomly chosen student is deployed).
        entropy_weight: weight of the entropy H(softmax(z)) in the ablation "entropy" (the papers print none; ours).
        preset: "released" sets the released code's behaviour: aggregate and leader_target "logits", gradient "all",
            include_self True, target_epsilon 1e-7; another value for one of these is refused. It also sets
            projection_init "uniform" unless that is given.
        generator: draws initial projections, random attention and the randomly chosen student.
    """

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> Needs:
        """Features, unless an ablation does without attention."""
        return Needs(features=options.get("ablation") not in WITHOUT_ATTENTION)

    def __init__(
        self,
        shape: GroupShape,
        *,
        temperature: float = 3.0,
        ramp_up: float = RAMP_UP,
        aggregate: str | None = None,
        leader_target: str | None = None,
        gradient: str | None = None,
        include_self: bool | None = None,
        attention_width: int | None = None,
        projection_init: float | str | None = None,
        target_epsilon: float | None = None,
        ablation: str | None = None,
        entropy_weight: float = 0.1,
        preset: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(shape, ablation=ablation)
        given = {"aggregate": aggregate, "leader_target": leader_target, "gradient": gradient}
        given |= {"target_epsilon": target_epsilon, "include_self": include_self}
        used = use_preset(preset, given, USUAL, RELEASED)
        check_choice("leader_target", used["leader_target"], SPACES)
        check_choice("gradient", used["gradient"], ("attention", "all", "none"))
        check_choice("ablation", ablation, (None, *ABLATIONS))
        self.temperature, self.ramp_up = check_temperature(temperature), check_ramp_up(ramp_up)
        self.gradient, detached, epsilon = used["gradient"], used["gradient"] != "all", used["target_epsilon"]
        self.first_target = PeerTarget(self.temperature, used["aggregate"], detached, epsilon)
        self.second_target = PeerTarget(self.temperature, used["leader_target"], detached, epsilon)
        self.ablation, self.entropy_weight = ablation, check_weight("entropy_weight", entropy_weight)
        self.generator = generator
        self.recordable = ablation != "random"
        self.auxiliary = shape.peers if ablation == "no_two_level" else shape.peers - 1
        self.include_self = used["include_self"] or self.auxiliary == 1
        self.used_options = used | {"include_self": self.include_self}
        self.leader = shape.peers - 1
        if ablation == "no_two_level":
            self.leader = int(torch.randint(shape.peers, (), generator=generator))
        self._check_group(shape)
        self.attention: PeerAttention | None = None
        if ablation in (None, "no_two_level"):
            usual_init = "normal" if preset is None else "uniform"
            init = usual_init if projection_init is None else projection_init
            self.attention = self._attention(shape, attention_width, init, generator)

    def _attention(
        self, shape: GroupShape, width: int | None, init: float | str, generator: torch.Generator | None
    ) -> PeerAttention:
        widths = shape.feature_widths[: self.auxiliary]
        width = width if width is not None else max(min(widths) // 8, 1)
        if width < 1:
            raise UserError(f"attention_width {width}: the projections need a width of at least 1.")
        return PeerAttention(widths, width, generator, init)

    def _check_group(self, shape: GroupShape) -> None:
        if self.ablation == "asymmetry" and len(set(shape.feature_widths[: self.auxiliary])) > 1:
            raise UserError(
                f"the ablation 'asymmetry' with feature widths {list(shape.feature_widths)}: it compares features "
                "without projections; use networks of one feature width."
            )

    def cautions(self) -> list[str]:
        """What the user should know before training, a sentence each: attention among too few peers."""
        if self.auxiliary == 1 and self.ablation != "entropy":
            return [
                "okddip with 2 peers: the one auxiliary peer attends to itself alone, so its first-level target is "
                "its own prediction; 3 or more peers are needed for attention to matter."
            ]
        if self.auxiliary == 2 and not self.include_self and self.needs.features:
            return [
                f"okddip with {self.shape.peers} peers: each of the two auxiliary peers attends to the other alone, so "
                "that the attention has nothing to weigh; give one peer more, or include_self=True."
            ]
        return []

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
            target_ANC = self.first_target.of(peers_ANC, lambda v_ANC: _mixed(alpha_AAN, v_ANC))
            dis1_A = rows.mean(soft_kl(target_ANC, peers_ANC, T))
            terms = [scale * dis1_A]
            parts["dis1"] = dis1_A.detach().sum()
            diagnostics["attention"] = alpha_AAN.detach().mean(-1)
        if A < self.shape.peers:
            leader_NC = rows.logits_PNC[A]
            target_NC = self.second_target.of(peers_ANC, lambda v_ANC: v_ANC.mean(0))
            dis2 = rows.mean(soft_kl(target_NC, leader_NC, T))
            terms.append(scale * dis2.unsqueeze(0))
            parts["dis2"] = dis2.detach()
        by_peer_P = ce_P + torch.cat(terms)
        return StepOutput(by_peer_P.sum(), by_peer_P, parts, diagnostics)

    def _alpha(self, rows: Rows) -> Tensor:
        """α [A, A, N]."""
        A, logits = self.auxiliary, rows.logits_PNC
        if self.ablation in ("mean", "random"):
            # Normalised in fp64, so that rows sum to one in whatever precision the outputs have.
            kind: Any = {"dtype": torch.float64, "device": logits.device}
            alpha_AA = self._drawn(logits.device) if self.ablation == "random" else torch.ones(A, A, **kind)
            if not self.include_self:
                alpha_AA = alpha_AA * (1 - torch.eye(A, **kind))
            alpha_AA = (alpha_AA / alpha_AA.sum(1, keepdim=True)).to(logits.dtype)
            return alpha_AA.unsqueeze(-1).expand(A, A, logits.shape[1])
        features = rows.features[:A]
        if self.attention is None:
            h_AND = torch.stack(list(features))
            alpha_AAN = attention_weights(h_AND, h_AND, self.include_self)
        else:
            alpha_AAN = self.attention(features, self.include_self)
        return alpha_AAN.detach() if self.gradient == "none" else alpha_AAN

    def _drawn(self, device: torch.device) -> Tensor:
        """Numbers [A, A] in 0 to 1, drawn on the CPU; the host does not wait until they have reached the device."""
        drawn_AA = torch.rand(self.auxiliary, self.auxiliary, generator=self.generator, dtype=torch.float64)
        if device.type == "cuda":
            drawn_AA = drawn_AA.pin_memory()
        return drawn_AA.to(device, non_blocking=True)

    def concerns(self, diagnostics: Mapping[str, Any]) -> list[str]:
        """A sentence where the attention has come near the identity."""
        alpha = diagnostics.get("attention")
        if alpha is None or self.auxiliary == 1:
            return []
        diagonal = sum(alpha[a][a] for a in range(self.auxiliary)) / self.auxiliary
        if diagonal <= SATURATED:
            return []
        return [
            f"okddip's attention is {diagonal:.2f} on its diagonal: each auxiliary peer attends to itself and learns "
            "next to nothing from the others; --set method_options.include_self=false prevents it"
        ]


def _mixed(alpha_AAN: Tensor, values_ANC: Tensor) -> Tensor:
    """Σ_b α_ab v_b for every peer a."""
    return torch.einsum("abn,bnc->anc", alpha_AAN.to(values_ANC.dtype), values_ANC)
