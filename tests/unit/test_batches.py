"""How many images are evaluated at once."""

import pytest
import torch

from codistill.training.batches import evaluation_batch


@pytest.mark.parametrize(
    ("image", "device", "expected"),
    [
        ((3, 32, 32), "cpu", 64),
        ((1, 16, 16), "cpu", 256),
        ((1, 8, 8), "cpu", 512),
        ((3, 224, 224), "cpu", 16),
        ((3, 32, 16), "cpu", 128),
        ((3, 32, 32), "cuda", 512),
        ((3, 224, 224), "cuda", 512),
    ],
)
def test_activations_stay_in_a_cpus_cache(image, device, expected):
    assert evaluation_batch(image, torch.device(device)) == expected
