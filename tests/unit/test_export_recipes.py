"""The lines by which a card builds a network, and the graph that prepares pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from codistill import models
from codistill.export.building import recipe_for
from codistill.export.picture_graph import PictureGraph
from codistill.prepare import prepare
from codistill.rundir import Preparation

NETWORKS = [
    ("mobilenet_v2_x0.5", 3),
    ("resnet18", 1),
    ("torchvision:squeezenet1_1", 1),
    ("torchvision:googlenet", 3),
    ("torchvision:inception_v3", 3),
    ("timm:test_resnet", 1),
    ("timm:test_vit2", 3),
    ("resnet8_tiny", 1),
]


@pytest.mark.parametrize(("name", "channels"), NETWORKS)
def test_the_lines_of_a_card_build_the_network_that_codistill_trains(name, channels):
    trained = models.build(name, 7, channels, torch.Generator().manual_seed(0)).eval()
    recipe = recipe_for(name, trained, 7, channels)
    scope: dict = {}
    with torch.random.fork_rng(devices=[]):
        exec("\n".join((*recipe.imports, *recipe.lines)), scope)
    built = scope["network"].eval()
    built.load_state_dict(trained.state_dict(), strict=True)
    library = name.partition(":")[0]
    assert recipe.library == {"timm": "timm", "resnet8_tiny": "codistill"}.get(library, "torchvision")
    assert ("codistill" in "".join(recipe.imports)) == (library == "resnet8_tiny")
    size = {"torchvision:inception_v3": 80, "timm:test_vit2": 64}.get(name, 64)
    if "googlenet" in name or "inception" in name:
        return  # slow, and equal names and shapes leave no room for another network
    x = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(1))
    assert torch.equal(built(x), trained(x))


def test_networks_of_the_users_own_need_their_code_and_the_card_says_so():
    net = models.build("resnet8_tiny", 3)
    recipe = recipe_for("nets/mine.py:make", net, 3, 1)
    assert (*recipe.imports, *recipe.lines) == ("from mine import make", "network = make(num_classes=3, in_channels=1)")
    assert "the file mine.py, which is not in this folder" in recipe.note
    assert "your own program" in recipe_for("own", net, 3, 1).note


RULES = [("cover", None), ("shorter_side", 37), ("squash", None)]


@pytest.mark.parametrize(("resize", "shorter_side"), RULES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(60, 180), (181, 60), (20, 31), (300, 401), (1, 1), (32, 24)])
def test_pictures_prepared_by_the_graph_are_those_of_prepare_to_one_grey_level(resize, shorter_side, channels, size):
    # By this mean and deviation, one grey level is 1.
    how = Preparation(
        channels=channels, resize=resize, height=32, width=24, shorter_side=shorter_side,
        mean=(0.5,) * channels, std=(1 / 255,) * channels,
    )  # fmt: skip
    shape = (*size, 3) if channels == 3 else size
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wanted = prepare(Image.fromarray(pixels), how.to_json())
    (found,) = PictureGraph(how)(torch.from_numpy(pixels).reshape(1, *size, channels)).numpy()
    assert found.shape == (channels, 32, 24)
    assert np.abs(found - wanted).max() < 1.001
    assert np.abs(found - wanted).mean() < 0.3
