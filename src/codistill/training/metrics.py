"""Scores of all peers, of their mean and of ensembles, diversity and calibration, summed on the device in one pass."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from codistill.rundir import Bins, Diversity, Evaluation, Score, TrainingMeans
from codistill.training.class_figures import ClassCounts, auroc
from codistill.types import StepOutput

__all__ = ["BINS", "EpochMeter", "EvaluationMeter"]

BINS = 15
"""Bins of equal width for the expected calibration error."""


class EvaluationMeter:
    """Sums over batches; `result` makes the evaluation record of docs/run-directory.md.

    The members scored are the P peers, the mean of their softmax outputs, the softmax of their mean logits and, where
    the method forms one, the method's own ensemble (`Method.own_ensemble`).

    Args:
        peers: P.
        num_classes: C.
        device: where the sums are kept; nothing leaves it before `result`.
        figure: the headline figure, by which the leader is chosen; "auroc" keeps the predictions of all images.
    """

    def __init__(self, peers: int, num_classes: int, device: torch.device, figure: str = "error") -> None:
        M = peers + 3
        # float64 is not to be had on every device (mps); sums of counts stay exact in fp32 up to 16 million images.
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.P, self.top = peers, min(5, num_classes)
        self.correct_M, self.correct5_M, self.nll_M = (torch.zeros(M, device=device, dtype=wide) for _ in range(3))
        self.bins_3MK = torch.zeros(3, M, BINS, device=device, dtype=wide)
        self.pairs_2 = torch.zeros(2, device=device, dtype=wide)
        self.images = 0
        self.has_top5, self.has_own = num_classes > 5, False
        self.figure, self.counts = figure, ClassCounts(M, peers, num_classes, self.nll_M)
        self.kept: list[tuple[Tensor, Tensor]] = []

    def update(self, logits_PBC: Tensor, labels_B: Tensor, own_BC: Tensor | None = None) -> None:
        """Add a batch of fp32 logits; `own_BC` are those of the method's own ensemble, in every batch or in none."""
        logp_PBC = logits_PBC.log_softmax(-1)
        prob_PBC = logp_PBC.exp()
        by_prob_BC = prob_PBC.mean(0).clamp_min(torch.finfo(prob_PBC.dtype).tiny).log()
        by_logit_BC = logits_PBC.mean(0).log_softmax(-1)
        self.has_own = own_BC is not None
        # A method without an ensemble of its own leaves the last row unread.
        own_logp_BC = by_logit_BC if own_BC is None else own_BC.log_softmax(-1)
        logp_MBC = torch.cat([logp_PBC, by_prob_BC[None], by_logit_BC[None], own_logp_BC[None]])
        labels_MB1 = labels_B.expand(len(logp_MBC), -1).unsqueeze(-1)
        best_MBK = logp_MBC.topk(self.top, dim=-1).indices
        hit_MBK = best_MBK == labels_MB1
        right_MB = hit_MBK[..., 0]
        self.correct_M += right_MB.sum(-1)
        self.correct5_M += hit_MBK.any(-1).sum(-1)
        self.nll_M -= logp_MBC.gather(-1, labels_MB1).squeeze(-1).sum(-1)
        self.counts.update(best_MBK[..., 0], labels_B)
        if self.figure == "auroc":
            self.kept.append((logp_MBC.exp(), labels_B))
        self._add_bins(logp_MBC.amax(-1).exp(), right_MB)
        if self.P > 1:
            self._add_pairs(prob_PBC, best_MBK[: self.P, :, 0])
        self.images += len(labels_B)

    def _add_bins(self, confidence_MB: Tensor, right_MB: Tensor) -> None:
        # Bin k holds confidences in (k/15, (k+1)/15].
        # A diverged student has no confidence, and NaN is no index; its NLL shows it.
        index_MB = ((confidence_MB.nan_to_num() * BINS).ceil() - 1).clamp(0, BINS - 1).long()
        for row, values in enumerate((torch.ones_like(confidence_MB), confidence_MB, right_MB)):
            self.bins_3MK[row].scatter_add_(1, index_MB, values.to(self.bins_3MK.dtype))

    def _add_pairs(self, prob_PBC: Tensor, predicted_PB: Tensor) -> None:
        distance_BPP = torch.cdist(prob_PBC.transpose(0, 1), prob_PBC.transpose(0, 1))
        differ_PPB = predicted_PB[None] != predicted_PB[:, None]
        pairs = self.P * (self.P - 1)
        self.pairs_2 += torch.stack([distance_BPP.sum(), differ_PPB.sum()]) / pairs

    def result(self, leader: int | None = None) -> Evaluation:
        """Return the record; `leader` names the peer, None the peer with the best figure here (then lowest NLL)."""
        N = max(self.images, 1)
        count_MK, confidence_MK, right_MK = self.bins_3MK.cpu()
        ece_M = ((right_MK - confidence_MK).abs().sum(-1) / N * 100).tolist()
        error_M = ((1 - self.correct_M.cpu() / N) * 100).tolist()
        error5_M = ((1 - self.correct5_M.cpu() / N) * 100).tolist()
        nll_M = (self.nll_M.cpu() / N).tolist()
        balanced_M, f1_M, auroc_M = self.counts.balanced_error_M(), self.counts.macro_f1_M(), self._auroc_M()
        scores = [
            Score(
                top1_error=error_M[m], top5_error=error5_M[m] if self.has_top5 else None, nll=nll_M[m], ece=ece_M[m],
                balanced_error=balanced_M[m], macro_f1=f1_M[m], auroc=auroc_M[m],
            )
            for m in range(self.P + 3)
        ]  # fmt: skip
        peers = tuple(scores[: self.P])
        if leader is None:
            leader = min(range(self.P), key=lambda p: (peers[p].shortfall(self.figure), peers[p].nll))
        distance, disagreement = (self.pairs_2.cpu() / N).tolist()
        return Evaluation(
            images=self.images,
            peers=peers,
            mean=_mean(peers),
            leader_peer=leader,
            leader=peers[leader],
            ensemble=scores[self.P],
            ensemble_logits=scores[self.P + 1],
            ensemble_own=scores[self.P + 2] if self.has_own else None,
            diversity=Diversity(distance=distance, disagreement=100 * disagreement) if self.P > 1 else None,
            reliability={
                "leader": _bins(count_MK[leader], confidence_MK[leader], right_MK[leader]),
                "ensemble": _bins(count_MK[self.P], confidence_MK[self.P], right_MK[self.P]),
            },
            confusion=self.counts.confusion(leader),
        )

    def _auroc_M(self) -> list[float | None]:
        if not self.kept:
            return [None] * (self.P + 3)
        labels_N = torch.cat([labels_B for _, labels_B in self.kept])
        prob_MNC = torch.cat([prob_MBC for prob_MBC, _ in self.kept], dim=1)
        found = [auroc(prob_NC, labels_N) for prob_NC in prob_MNC]
        return [None if math.isnan(area) else area for area in found]


def _mean(scores: tuple[Score, ...]) -> Score:
    """Return the mean of each figure, None if the scores do not have it."""
    means: dict[str, Any] = {}
    for field in fields(Score):
        values = [getattr(score, field.name) for score in scores]
        means[field.name] = None if values[0] is None else sum(values) / len(values)
    return Score(**means)


def _bins(count_K: Tensor, confidence_K: Tensor, right_K: Tensor) -> Bins:
    def shares(sum_K: Tensor) -> tuple[float | None, ...]:
        return tuple(s / n if n else None for s, n in zip(sum_K.tolist(), count_K.tolist(), strict=True))

    count = tuple(int(n) for n in count_K.tolist())
    return Bins(count=count, confidence=shares(confidence_K), accuracy=shares(right_K))


class EpochMeter:
    """Training metrics of one epoch: means over its images, kept on the device, and in the same memory, until `result`.

    So `update` can be part of a step that is recorded and replayed.
    """

    def __init__(self, peers: int, device: torch.device) -> None:
        self.loss = torch.zeros((), device=device)
        self.loss_by_peer_P = torch.zeros(peers, device=device)
        self.wrong_P = torch.zeros(peers, device=device, dtype=torch.int64)
        self.named: dict[tuple[str, str], Tensor] = {}
        self.images = torch.zeros((), device=device, dtype=torch.int64)

    def clear(self) -> None:
        """Begin an epoch."""
        for total in (self.loss, self.loss_by_peer_P, self.wrong_P, self.images, *self.named.values()):
            total.zero_()

    def update(self, step: StepOutput, logits_PBC: Tensor, labels_B: Tensor) -> None:
        """Add one batch, by its number of images; nothing is read back from the device."""
        B = len(labels_B)
        self.loss += B * step.loss.detach()
        self.loss_by_peer_P += B * step.loss_by_peer.detach()
        self.wrong_P += (logits_PBC.detach().argmax(-1) != labels_B).sum(-1)
        for kind, values in (("parts", step.parts), ("diagnostics", step.diagnostics)):
            for name, value in values.items():
                key = (kind, name)
                # Detached, since a user's own method may forget to: a graph would keep all batches of the epoch alive.
                weighted = B * value.detach()
                if key in self.named:
                    self.named[key] += weighted
                else:
                    self.named[key] = weighted
        self.images += B

    def state(self) -> dict[str, Any]:
        """The sums so far, for `restore`."""
        named = [[kind, name, total] for (kind, name), total in self.named.items()]
        return {"totals": [self.loss, self.loss_by_peer_P, self.wrong_P, self.images], "named": named}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken, in the memory that is there."""
        totals = (self.loss, self.loss_by_peer_P, self.wrong_P, self.images)
        for total, saved in zip(totals, state["totals"], strict=True):
            total.copy_(saved)
        self.named = {(kind, name): saved.to(self.loss.device) for kind, name, saved in state["named"]}

    def result(self) -> tuple[TrainingMeans, dict[str, Any]]:
        """Return the means for a line of metrics.jsonl, and the method's diagnostics."""

        images = int(self.images)

        def means(kind: str) -> dict[str, Any]:
            return {name: (v / images).tolist() for (k, name), v in self.named.items() if k == kind}

        train = TrainingMeans(
            loss=self.loss.item() / images,
            loss_by_peer=tuple((self.loss_by_peer_P / images).tolist()),
            parts=means("parts"),
            error_by_peer=tuple((100.0 * self.wrong_P / images).tolist()),
        )
        return train, means("diagnostics")
