"""What the model assumes and has counted, with its sources, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping

from on_meshes.costs import GROUPS, Student
from on_meshes.forecast import CLASSES
from on_meshes.model import BUCKET, Cluster

__all__ = ["assumptions", "counted"]


def assumptions(cluster: Cluster, tree: float) -> str:
    """The rates and rules of the model, each with its source, as a table."""
    link = cluster.link
    lines = [
        (
            "compute",
            f"{cluster.flops / 1e12:g} TFLOP/s per device reached in training; a step counts three forward passes",
            "ResNet-50 on one A100, mixed precision: 2,470 images/s × 3 × 2 × 4.089 G (NVIDIA/DeepLearningExamples, "
            "`PyTorch/Classification/ConvNets/resnet50v1.5/README.md`); used for all networks, though MobileNets reach "
            "less",
        ),
        (
            "host",
            f"{cluster.layer * 1e6:g} µs per convolution, linear layer and batch norm, forward and again backward; a "
            "pass takes this or its compute, whichever is longer",
            "the same page: inference in mixed precision takes 12.8 ms for one image and 14 ms for 16, on V100 and T4 "
            "alike, ÷ 107 layers; that the backward pass takes as long is ours",
        ),
        (
            "bandwidth",
            f"{link.bandwidth / 1e9:g} GB/s per process, the same between any two",
            "all-reduce of 1 to 16 GiB, four nodes of 8 GPUs: bus bandwidth 92 to 94 GB/s (stas00/ml-engineering, "
            "`network/benchmarks/README.md` at 7bc7c30)",
        ),
        (
            "latency",
            f"{link.latency * 1e6:g} µs per step of a ring; along a tree (last table) {tree * 1e6:g} µs for each of "
            "log2 n steps",
            "the same table: 32 KiB at 0.48 GB/s among 32 processes are 68 µs, ÷ 62 steps or ÷ 10",
        ),
        (
            "messages",
            "ring algorithms among n: an all-gather sends n - 1 times the own part in n - 1 steps, an all-reduce "
            "2 (n - 1)/n times the tensor in 2 (n - 1) steps",
            "as `Traffic` counts; a test compares the bytes with those of processes",
        ),
        (
            "gradients",
            f"float32, messages of {BUCKET / 2**20:g} MiB; {100 * cluster.overlap:g} % of the backward pass hides "
            "them, but for the last message",
            "DistributedDataParallel's default; perfect overlap favours data parallelism",
        ),
        ("batch norms", "statistics of the whole batch, one all-gather and one all-reduce per layer", "our default"),
        (
            "outputs",
            "float32; all processes get those of all students on the whole batch, so that with 64 images per device "
            "1,024 devices hold 1 GB of logits each",
            "the executor",
        ),
        ("left out", "reading data, the method's loss, the optimizer, stragglers, nodes with faster links inside", ""),
    ]
    return "\n".join(["| what | value | source |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in lines)])


def counted(students: Mapping[str, Student]) -> str:
    """What was counted of the networks (by name), as text and a table."""
    head = "| network | multiply-accumulates per image | parameters | features D | batch norms, channels | layers |"
    lines = [
        f"| {s.name} | {s.macs:,} | {s.parameters:,} | {s.features:,} | {len(s.norms)}, {sum(s.norms):,} | {s.layers} |"
        for s in students.values()
    ]
    groups = "; ".join(f"{group}: {' + '.join(names)}" for group, names in GROUPS.items())
    return "\n".join(
        [f"Images of 224 × 224, {CLASSES:,} classes. {groups}.", "", head, "|---|---|---|---|---|---|", *lines]
    )
