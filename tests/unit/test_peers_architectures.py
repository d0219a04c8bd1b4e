"""Networks of torchvision and timm: the splitter must not know them, and trunk and branch must be them."""

import importlib.util

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from codistill import models
from codistill.peers import BranchedGroup, default_split

TORCHVISION = {
    "alexnet": ("features.9", 256, 4096),
    "convnext_tiny": ("features.6", 384, 768),
    "densenet121": ("features.denseblock4", 512, 1024),
    "efficientnet_b0": ("features.6", 112, 1280),
    "efficientnet_v2_s": ("features.6", 160, 1280),
    "googlenet": ("inception5a", 832, 1024),
    "inception_v3": ("Mixed_7a", 768, 2048),
    "maxvit_t": ("blocks.3", 256, 512),
    "mnasnet1_0": ("layers.12", 96, 1280),
    "mobilenet_v2": ("features.14", 96, 1280),
    "mobilenet_v3_large": ("features.13", 112, 1280),
    "regnet_y_400mf": ("trunk_output.block4", 208, 440),
    "resnet18": ("layer4", 256, 512),
    "resnet50": ("layer4", 1024, 2048),
    "resnext50_32x4d": ("layer4", 1024, 2048),
    "shufflenet_v2_x1_0": ("stage4", 232, 1024),
    "swin_t": ("features.6", 384, 768),
    "swin_v2_t": ("features.6", 384, 768),
    "vgg16_bn": ("features.30", 512, 4096),
    "vit_b_16": ("encoder.layers.encoder_layer_8", 768, 768),
}
TIMM = {
    "beit_base_patch16_224": ("blocks.8", 768, 768),
    "convnext_atto": ("stages.3", 160, 320),
    "deit_tiny_patch16_224": ("blocks.8", 192, 192),
    "efficientnet_b0": ("blocks.5", 112, 1280),
    "ghostnet_050": ("blocks.7", 56, 1280),
    "mixer_s32_224": ("blocks.6", 512, 512),
    "mobilenetv3_small_050": ("blocks.4", 24, 1024),
    "regnetx_002": ("s4", 152, 368),
    "resnetv2_18": ("stages.3", 256, 512),
    "swin_tiny_patch4_window7_224": ("layers.3", 384, 768),
    "vit_tiny_patch16_dinov3_qkvb": ("blocks.8", 192, 192),
    "xcit_nano_12_p16_224": ("blocks.8", 128, 128),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_names(net: nn.Module, expected: tuple[str, int, int]) -> None:
    group = BranchedGroup(net, 1, generator=seeded(0))
    split, trunk, features = expected
    assert default_split(net) == split
    assert (group.shape.trunk_width, group.shape.feature_widths) == (trunk, (features,))
    together = {key: value.shape for part in group.path(0) for key, value in part.state_dict().items()}
    assert together == {key: value.shape for key, value in net.state_dict().items()}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_network_splits_into_trunk_and_branch(name):
    # RegNet reads its widths from tensors while it is built.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        net = models.foreign.from_torchvision(name, 7, 3)
    check_names(net, TORCHVISION[name])


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize("name", TIMM)
def test_timm_network_splits_into_trunk_and_branch(name):
    net = models.build(f"timm:{name}", 7, generator=seeded(0))
    check_names(net, TIMM[name])


SMALL = {
    "resnet": (lambda: torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), 32),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.25), 32),
    "shufflenet": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=5), 32),
    "vit": (lambda: torchvision.models.VisionTransformer(16, 8, 3, 2, 24, 32, num_classes=5), 16),
    "swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 1, 1], [1, 2, 2], [2, 2], num_classes=5),
        32,
    ),
    "convnext": (
        lambda: torchvision.models.ConvNeXt(
            [
                torchvision.models.convnext.CNBlockConfig(8, 16, 1),
                torchvision.models.convnext.CNBlockConfig(16, 24, 1),
                torchvision.models.convnext.CNBlockConfig(24, None, 1),
            ],
            num_classes=5,
        ),
        32,
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_outputs_of_trunk_and_branch_are_the_networks_bit_by_bit(name):
    make, size = SMALL[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make()
    group = BranchedGroup(net, 2, generator=seeded(1))
    for part in group.path(1):
        part.load_state_dict({key: net.state_dict()[key] for key in part.state_dict()})
    x = torch.randn(2, 3, size, size)
    net.eval(), group.eval()
    with torch.no_grad():
        outputs = group(x)
        assert torch.equal(outputs.logits_PBC[1], net(x))
        assert torch.equal(group.student(1)(x), net(x))
        assert torch.equal(group.student(0)(x), outputs.logits_PBC[0])
    assert outputs.trunk_features.shape == (2, group.shape.trunk_width)


def test_swin_trunk_is_pooled_over_positions_not_channels():
    make, size = SMALL["swin"]
    group = BranchedGroup(make(), 2, generator=seeded(1)).eval()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        trunk = group.trunk(x)[0]
        assert trunk.shape[1] == trunk.shape[2] != trunk.shape[3]
        assert torch.equal(group(x).trunk_features, trunk.mean((1, 2)))


def test_vit_trunk_is_pooled_over_tokens():
    group = BranchedGroup(SMALL["vit"][0](), 2, generator=seeded(1)).eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(group(x).trunk_features, group.trunk(x)[0].mean(1))


def test_a_squeezenets_classifier_is_its_1x1_convolution():
    net = torchvision.models.squeezenet1_1(num_classes=5)
    group = BranchedGroup(net, 2, generator=seeded(0)).eval()
    assert group.shape.feature_widths == (512, 512)
    assert group(torch.randn(2, 3, 32, 32)).features[1].shape == (2, 512)
