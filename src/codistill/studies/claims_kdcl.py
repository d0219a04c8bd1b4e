"""What KDCL (CVPR 2020) claims."""

from __future__ import annotations

from collections.abc import Sequence

from codistill.studies.claims import MARGIN, Claim, Contrast, difference, slope

__all__ = ["CLAIMS"]

T2, T4, T5, T6, T7 = (f"kdcl/table{n}" for n in (2, 4, 5, 6, 7))
IMAGENET, CIFAR = ("resnet50", "resnet18"), ("resnet32", "wrn16_2")
FOUR = ("resnet50", "resnet18", "mobilenetv2", "mobilenetv2_x0.5")
NAMES = {"naive": "Naive", "linear": "Linear", "minlogit": "MinLogit", "general": "General"}
RULES = tuple(NAMES)
NEAR = 0.5
"""Points within which two sums over the students count as about equal."""


def _sum(what: str, table: str, better: str, worse: str, columns: Sequence[str], expect: str = "above") -> Contrast:
    """Compare two rows by their difference, summed over the students."""
    terms = [(sign, (table, row, c)) for c in columns for sign, row in ((1.0, better), (-1.0, worse))]
    if expect == "near":
        return Contrast(what, tuple(terms), "near", NEAR)
    return Contrast(what, tuple(terms), "above", MARGIN * len(columns))


def _improves(rule: str) -> tuple[Contrast, ...]:
    """Compare every student with the same network trained alone."""
    cells = [(T2, f"kdcl_{rule}", c) for c in IMAGENET]
    cells += [(T7, f"kdcl_{rule}{icl}", c) for icl in ("", "_icl") for c in CIFAR]
    if rule == "minlogit":
        cells += [(T6, "kdcl", c) for c in FOUR]
    return tuple(
        difference(
            f"{row}, {column}, {table.partition('/')[2]}", table, (row, column), ("vanilla", column), lower=False
        )
        for table, row, column in cells
    )


def _alike() -> tuple[Contrast, ...]:
    near = [_sum("sum of both students, table2", T2, "kdcl_minlogit", "kdcl_linear", IMAGENET, "near")]
    for icl in ("", "_icl"):
        what = f"sum of both students{', ICL' if icl else ''}, table7"
        near.append(_sum(what, T7, f"kdcl_minlogit{icl}", f"kdcl_linear{icl}", CIFAR, "near"))
    return tuple(near)


def _beats_branches(rival: str) -> tuple[Contrast, ...]:
    return tuple(
        difference(f"kdcl_{rule}, {column}, {table[5:]}", table, (f"kdcl_{rule}", column), (rival, column), lower=False)
        for table, column in ((T2, "resnet18"), (T7, "resnet32"))
        for rule in RULES
    )


def _large_gains() -> tuple[Contrast, ...]:
    cells = [(T2, f"kdcl_{rule}", "vanilla", "resnet50") for rule in RULES]
    cells.append((T6, "kdcl", "vanilla", "resnet50"))
    small = "resnet50 + mobilenetv2_x0.5"
    cells += [(T4, f"{small}*, {rule}", f"{small}, vanilla", "top1_1") for rule in ("linear", "minlogit")]
    return tuple(
        difference(f"ResNet-50, row {row}, {table[5:]}", table, (row, column), (base, column), lower=False)
        for table, row, base, column in cells
    )


CLAIMS = (
    *(Claim(f"KDCL-{NAMES[rule]} improves every student of a pair.", _improves(rule)) for rule in RULES),
    Claim("KDCL-MinLogit is as good as KDCL-Linear (within half a point).", _alike()),
    Claim(
        "Invariant collaborative learning helps.",
        tuple(_sum(f"{rule}, sum of both students", T7, f"kdcl_{rule}_icl", f"kdcl_{rule}", CIFAR) for rule in RULES),
    ),
    Claim(
        "KDCL with ICL gains more than DML.",
        tuple(_sum(f"{rule}, sum of both students", T7, f"kdcl_{rule}_icl", "dml", CIFAR) for rule in RULES),
    ),
    Claim("KDCL is better than ONE on the network that both can train.", _beats_branches("one")),
    Claim("KDCL is better than CLNN on the network that both can train.", _beats_branches("clnn")),
    Claim(
        "Learning together is better than learning from a trained teacher.",
        tuple(
            difference(f"kdcl_{rule}, {column}", T7, (f"kdcl_{rule}_icl", column), (taught, column), lower=False)
            for rule in RULES
            for taught, column in (("2_distill_1", "resnet32"), ("1_distill_2", "wrn16_2"))
        ),
    ),
    Claim("The large network gains from small ones.", _large_gains()),
    Claim(
        "More students help.",
        (slope("points of accuracy per student", T5, "resnet18", ["1", "2", "3", "4", "5"], lower=False),),
    ),
)
"""In the order of the paper's experiments."""
