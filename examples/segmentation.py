"""Segmentation in a training loop of one's own: two networks that label every pixel, and learn from each other.

Source of the method: Zhang et al., "Deep Mutual Learning", CVPR 2018 (dml). Each pixel is a row of its loss, as an
image is in classification:

    L_i = mean over the pixels of CE_i + KL(p_j ‖ p_i)

The networks return a dictionary, {"out": [B, C, H, W]}: `output` names the entry, `class_axis` the axis of the classes.
Pixels on the border of a shape have the label 255, and count for nothing.

Run it: python examples/segmentation.py (about a minute on two cores; the pictures are drawn).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from codistill import Progress
from codistill.methods import build
from codistill.peers import NetworkGroup

SIZE, IGNORED, CLASSES = 64, 255, ("background", "square", "circle")


def net() -> nn.Module:
    """A network of torchvision, as it is but for the pace of its running statistics."""
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(CLASSES))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # Its own 0.01 is meant for runs of many thousand steps.
            layer.momentum = 0.1
    return network


def draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 64, 64] of a reddish square and a bluish circle, and their masks [N, 64, 64]."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, 1, 1, generator=generator)

    images = (0.5 * uniform(3) + 0.2 * torch.randn(count, 3, SIZE, SIZE, generator=generator)).clamp(0, 1)
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.int64)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for label, hue in ((1, (1.0, 0.4, 0.2)), (2, (0.2, 0.4, 1.0))):
        radius, centre_y, centre_x = 8 + 8 * uniform(), 12 + 40 * uniform(), 12 + 40 * uniform()
        from_y, from_x = (y - centre_y).abs(), (x - centre_x).abs()
        distance = torch.maximum(from_y, from_x) if label == 1 else (from_y**2 + from_x**2).sqrt()
        colour = torch.tensor(hue).view(3, 1, 1) * (0.6 + 0.4 * uniform(3))
        images = torch.where((distance < radius).unsqueeze(1), colour, images)
        masks = torch.where(distance < radius, label, masks)
        masks = torch.where((distance - radius).abs() < 1, IGNORED, masks)
    return images, masks


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Percent of the pixels that the network gets right, those on borders left out."""
    found, kept = network.eval()(images)["out"].argmax(1), masks != IGNORED
    return 100 * float((found == masks)[kept].float().mean())


def main(epochs: int = 4, count: int = 192) -> None:
    """Train two networks, and print the loss and the peers' accuracies after each epoch."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images, masks = draw(count, generator)
    test_images, test_masks = draw(32, generator)

    group = NetworkGroup([net(), net()], example=images[:2], output="out", class_axis=1)
    method = build("dml", group)
    optimizer = torch.optim.AdamW(group.parameters(), lr=3e-3)

    for epoch in range(epochs):
        group.train()
        losses = []
        for index_B in torch.randperm(count, generator=generator).split(16):
            optimizer.zero_grad()
            outputs = group(images[index_B])  # logits_PBC are [2, 16, 64, 64, 3]: classes last, whatever the network
            step = method(outputs, masks[index_B], Progress(epoch, epochs), ignore_index=IGNORED)
            step.loss.backward()
            optimizer.step()
            losses.append(float(step.loss.detach()))
        group.eval()
        right = "  ".join(f"{accuracy(peer, test_images, test_masks):.1f} %" for peer in group.networks)
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}  accuracy of the peers {right}")

    student = group.student(0)  # the plain LRASPP again: nothing of codistill is needed to run or save it
    print(f"student: {type(student).__name__}, {accuracy(student, test_images, test_masks):.1f} %")


if __name__ == "__main__":
    main()
