"""What OKDDip (AAAI 2020) claims."""

from __future__ import annotations

from codistill.studies.claims import Claim, difference, slope
from codistill.studies.okddip import GROUP_SIZES
from codistill.studies.paper import printed_table

__all__ = ["CLAIMS"]

TABLES = ("table1", "table2", "table3")
RIVALS = {
    "okddip_network": ("baseline", "dml"),
    "okddip_branch": ("baseline", "ind", "cl_ilr", "one"),
}
"""Networks are compared with networks and branches with branches. The leader of either, once deployed, is the same
network as the baseline."""


def _leader_beats(rival: str, text: str) -> Claim:
    contrasts = []
    for table in TABLES:
        printed = printed_table("okddip", table)
        for row in dict.fromkeys(row for row, _ in printed.cells):
            for ours, rivals in RIVALS.items():
                if rival in rivals and rival in printed.columns:
                    what = f"{ours.replace('_', ' ')} against {rival.replace('_', '-')}, {row}, {table}"
                    contrasts.append(difference(what, f"okddip/{table}", (row, ours), (row, rival), lower=True))
    return Claim(text, tuple(contrasts))


def _ablation(ablation: str, text: str) -> Claim:
    places = ("resnet32", "okddip_branch"), ("resnet32", ablation)
    return Claim(text, (difference(f"okddip against {ablation}", "okddip/table5", *places, lower=True),))


def _ensemble(rival: str, text: str) -> Claim:
    rows = ("vgg16", "resnet32", "resnet110")
    return Claim(
        text,
        tuple(
            difference(f"ensembles, {row}", "okddip/table4", (row, "okddip_branch"), (row, rival), lower=True)
            for row in rows
        ),
    )


CLAIMS = (
    _leader_beats("baseline", "The group leader has a lower error than the same network trained alone."),
    _leader_beats("ind", "The group leader of branches beats independent branches."),
    _leader_beats("dml", "The group leader beats DML."),
    _leader_beats("cl_ilr", "The group leader beats CL-ILR."),
    _leader_beats("one", "The group leader beats ONE."),
    _ablation("random", "Learned attention beats random attention."),
    _ablation("entropy", "Learning from peers beats an entropy term on each peer."),
    _ablation("mean", "Attention beats the plain mean of the peers."),
    _ablation("asymmetry", "Asymmetric attention beats symmetric attention."),
    _ablation("no_two_level", "Two levels of distillation beat one."),
    _ensemble("cl_ilr", "OKDDip's ensemble beats CL-ILR's."),
    _ensemble("one", "OKDDip's ensemble beats ONE's."),
    _ensemble("ind", "OKDDip's ensemble of branches beats that of independent branches."),
    Claim(
        "The error falls as the group grows.",
        (
            slope(
                "points of error per student", "okddip/figure3", "resnet32", [str(m) for m in GROUP_SIZES], lower=True
            ),
        ),
    ),
)
"""In the order of the paper's experiments."""
