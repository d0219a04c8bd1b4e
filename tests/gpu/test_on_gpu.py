"""The checks of benchmarks/gpu.py on a GPU: executors, graphs, methods, runs, and that nothing waits for the device."""

import pytest
import torch

from on_gpu.checks import CHECKS

if not torch.cuda.is_available():
    pytest.skip("no CUDA device: the checks of benchmarks/gpu.py need one", allow_module_level=True)


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", CHECKS)
def test_on_the_device(name):
    CHECKS[name](torch.device("cuda"))
