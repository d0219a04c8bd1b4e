"""The stored counts of the named networks are those of the networks."""

import pytest
import torchvision

from codistill import models
from codistill.modelfacts import describe
from codistill.peers.describe import empty_network, measure, named_networks
from codistill.tracing.cost import trainable

ROWS = {row["name"]: row for row in describe()}
REMEDY = "run python -m codistill.peers.describe"
# One of each family, and those whose layers are named differently from the others'.
MEASURED = ("resnet8_tiny", "wrn10_1", "vgg8_tiny", "densenet16_8", "mobilenet_v2_tiny_x0.5", "vgg16", "resnet18")


def test_every_named_network_is_listed_in_order():
    assert [row["name"] for row in describe()] == [network[0] for network in named_networks()], REMEDY
    assert sorted(ROWS) == models.available()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_stored_parameters_are_those_of_the_network(name):
    assert ROWS[name]["parameters"] == trainable(empty_network(name, ROWS[name]["classes"])), REMEDY


@pytest.mark.parametrize("name", MEASURED)
def test_a_stored_record_is_what_measuring_gives(name):
    (network,) = [network for network in named_networks() if network[0] == name]
    assert ROWS[name] == measure(*network), REMEDY


def test_a_record_counts_what_the_layers_compute():
    assert ROWS["resnet8_tiny"] == {
        "name": "resnet8_tiny",
        "from": "codistill",
        "classes": 100,
        "image_size": 32,
        "parameters": 48_640,
        # Stem, three stages of one block (two 3x3 convolutions, in the later two a 1x1 shortcut), classifier.
        "multiply_accumulates": 1024 * 9 * 12 * (3 + 12 + 12)
        + 256 * (9 * 24 * (12 + 24) + 12 * 24)
        + 64 * (9 * 48 * (24 + 48) + 24 * 48)
        + 48 * 100,
        "feature_width": 48,
        "default_split": "layer3",
    }
    assert (ROWS["vgg16"]["feature_width"], ROWS["vgg16"]["default_split"]) == (512, "stage5")
    assert (ROWS["mobilenet_v2_x1.2"]["feature_width"], ROWS["mobilenet_v2"]["default_split"]) == (1536, "features.14")


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "mobilenet_v2"])
def test_torchvision_networks_take_the_arithmetic_that_torchvision_publishes(name):
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    assert ROWS[name]["parameters"] == meta["num_params"]
    assert round(ROWS[name]["multiply_accumulates"] / 1e9, 3) == meta["_ops"]
    assert (ROWS[name]["classes"], ROWS[name]["image_size"]) == (1000, 224)
