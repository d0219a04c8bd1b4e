"""A Joint in other people's loops: the programs of examples/trainers, torch.compile, and several processes."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from codistill import Joint, methods
from codistill.peers import NetworkGroup

EXAMPLES = Path(__file__).parents[2] / "examples" / "trainers"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def example(name: str) -> ModuleType:
    """Load examples/trainers/NAME.py by its path."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_plain_pytorch(tmp_path, capsys):
    program = example("plain_pytorch")
    accuracy_P = program.main(epochs=2, out=tmp_path / "student.pt")
    assert float(accuracy_P.max()) > 20  # ten classes: learning has begun
    program.net(12).load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))
    assert "students: " in capsys.readouterr().out


def test_the_style_of_timm(tmp_path):
    program = example("timm_style")
    program.main(epochs=2, steps=3, out=tmp_path / "student.pt")
    student = program.net()
    assert isinstance(student, timm.models.resnet.ResNet)
    student.load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))


def test_the_programs_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 100, path.name


class Small(nn.Module):
    """Without batch norm, so that a part of a batch gives what it gives as part of the whole."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.body, self.fc = nn.Linear(6, 8), nn.Linear(8, 3)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x).relu())


def joint_of(name: str) -> Joint:
    group = NetworkGroup([Small(seed) for seed in range(4)], example=torch.zeros(2, 6))
    method = methods.build(name, group, generator=torch.Generator().manual_seed(9))
    return Joint(group, method, 10, 4).double()


def whole_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(8, 6, generator=generator, dtype=torch.float64), torch.randint(3, (8,), generator=generator)


def in_one_of_two_processes(rank: int, folder: str, port: int) -> None:
    """Two steps of each method on half of the batch, and the example; one start of the processes for all tests."""
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for as long as the process lives)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo")
    for name in TOGETHER:
        joint = joint_of(name)
        two_steps(joint, DistributedDataParallel(joint), *(part.chunk(2)[rank] for part in whole_batch()))
        found = {"state": joint.state_dict(), "grad": [p.grad for p in joint.parameters()]}
        torch.save(found, f"{folder}/{name}{rank}.pt")
    distributed.destroy_process_group()
    example("two_processes").main(epochs=1, out=Path(folder) / "student.pt")


TOGETHER = ("okddip", "pcl")


def two_steps(joint: Joint, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(joint.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(images, labels).loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes have written."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(in_one_of_two_processes, (str(folder), port), nprocs=2)
    return folder


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_train_as_one_on_the_whole_batch(two_processes, name):
    joint = joint_of(name)
    two_steps(joint, joint, *whole_batch())
    for rank in range(2):
        found = torch.load(two_processes / f"{name}{rank}.pt", weights_only=True)
        for value, p in zip(found["grad"], joint.parameters(), strict=True):
            assert (value is None) == (p.grad is None)
            assert value is None or torch.allclose(value, p.grad, rtol=1e-10, atol=1e-12)
        for key, value in joint.state_dict().items():
            assert torch.allclose(found["state"][key], value, rtol=1e-10, atol=1e-12), key
    assert joint.averages is None or joint.averages.steps == 2


def test_the_example_of_two_processes(two_processes):
    example("two_processes").net(12).load_state_dict(torch.load(two_processes / "student.pt", weights_only=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the tracer's own looking
@pytest.mark.parametrize("how", ["torch.compile(joint)", "joint.compile()"])
def test_a_compiled_joint_trains_as_the_joint_itself(how):
    torch.compiler.reset()
    joint, twin = joint_of("okddip"), joint_of("okddip")
    graphs: list[object] = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    if how == "joint.compile()":
        twin.compile(backend=backend)
        model = twin
    else:
        model = torch.compile(twin, backend=backend)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in (joint, twin)]
    for step in range(4):
        for module, optimizer in zip((joint, model), optimizers, strict=True):
            optimizer.zero_grad()
            out = module(*whole_batch())
            out.loss.backward()
            optimizer.step()
        for p, q in zip(joint.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-12)
        if step == 1:
            compiled = len(graphs)
    assert compiled == len(graphs) > 0  # the position, which changes in every step, is in no graph
    assert twin.position.epoch == 1
    student = model.student("leader")
    assert student.state_dict().keys() == Small(0).state_dict().keys()
    torch.compiler.reset()
