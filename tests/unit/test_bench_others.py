"""The adapters to other people's code, tested on stand-ins of ours with the same signatures."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch

from codistill.errors import UserError
from codistill.training.batches import evaluation_images
from others import dml, okddip, suite
from others import task as tasks
from others.importing import import_code, quiet_on_cpu
from ratios import show, suites
from ratios.setting import Setting
from ratios.steps import Size
from run import main

SMALL = Size("small", tasks.TINY.make, (1, 8, 8), 16, 10)
LOOP = """
import argparse, os
import torch
import utils
import models.model_cifar as model_cifar
from tensorboardX import SummaryWriter
from tqdm import tqdm

args = argparse.ArgumentParser().parse_args()
os.environ["CUDA_VISIBLE_DEVICES"] = "7"
torch.backends.cudnn.benchmark = True
calls = []

def train(train_loader, model, optimizer, criterion, criterion_T, accuracy, args, consistency_weight):
    with tqdm(total=len(train_loader)) as bar:
        for images, labels in train_loader:
            logits, mixed, leader = model(images.cuda(non_blocking=True))
            loss = criterion(leader, labels) + consistency_weight * criterion_T(logits[:, :, 0], mixed[:, :, 0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.update()
    print("noise")
    calls.append(("train", args.num_branches, len(train_loader)))
    return {"accuracy": accuracy(leader, labels, topk=(1, 5))}

def evaluate(test_loader, model, criterion, criterion_T, accuracy, args, consistency_weight):
    calls.append(("evaluate", args.num_branches, len(test_loader)))
"""
GROUP = """
import torch

class StuNet(torch.nn.Module):
    def __init__(self, model="resnet32", num_branches=4, num_classes=10, input_channel=64):
        super().__init__()
        self.peers = num_branches
        self.query_weight = torch.nn.Linear(input_channel, input_channel // 8, bias=False)
        self.key_weight = torch.nn.Linear(input_channel, input_channel // 8, bias=False)

    def forward(self, x):
        outputs = [getattr(self, f"stu{i}")(x) for i in range(self.peers)]
        logits = torch.stack([z for _, z in outputs[:-1]], -1)
        return logits, logits + self.query_weight(outputs[0][0]).mean(), outputs[-1][1]
"""
BRANCHES = """
import torch

def resnet32(num_classes, num_branches):
    return torch.nn.Linear(2, num_classes)
"""
PYDML = """
class DMLConfig:
    def __init__(self, temperature):
        self.temperature = temperature

class DMLTrainer:
    fitted = []

    def __init__(self, models, config=None, device="cuda", optimizers=None):
        assert device == "cpu" and config.temperature == 1 and len(models) == len(optimizers) == 2

    def fit(self, train_loader, val_loader=None, epochs=100, verbose=True):
        self.fitted.append((len(train_loader), len(val_loader), epochs))
"""
KDLIB = """
import torch
from torch.utils.tensorboard import SummaryWriter

class DML:
    trained = []

    def __init__(self, student_cohort, train_loader, val_loader, student_optimizers, loss_fn=None, device="cpu"):
        self.cohort, self.loss_fn = student_cohort, loss_fn

    def train_students(self, epochs=20, plot_losses=True, save_model=True):
        z = torch.zeros(3, 4, requires_grad=True)
        self.trained.append((epochs, plot_losses, save_model, self.loss_fn(z, z).item()))
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def released(tmp_path):
    files = {"utils.py": "def KL_Loss(temperature):\n    return lambda a, b: ((a - b) / temperature).square().mean()\n"}
    files |= {"train_GL.py": LOOP, "models/__init__.py": "", "models/model_cifar/resnet_GL.py": BRANCHES}
    files |= {
        "models/model_cifar/MultiNet.py": GROUP,
        "models/model_cifar/__init__.py": "from . import MultiNet, resnet_GL",
    }
    return write(tmp_path / "released", files)


@pytest.fixture
def small_tasks(monkeypatch):
    def task(batches: int, peers: int, method: str, **options) -> tasks.Task:
        return tasks.Task(SMALL, tasks.TINY_MODEL, batches, peers, method, options)

    monkeypatch.setattr(
        suite, "okddip_tasks", lambda batches: iter([(task(batches, 3, "okddip", preset="released"), "≥ 2")])
    )
    names = ("pytorch-dml", "KD-Lib")
    monkeypatch.setattr(suite, "dml_tasks", lambda batches: dict.fromkeys(names, task(batches, 2, "dml")))


def test_what_has_no_path_is_left_out_with_one_line_each(capsys):
    assert list(suites.run_suites(["others"], Setting())) == []
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "others: okddip is left out; --okddip PATH names the folder that holds its code"
    assert [line.split()[1] for line in lines] == ["okddip", "pytorch-dml", "kdlib"]


@pytest.mark.parametrize(
    ("option", "module"), [("--okddip", "train_GL"), ("--pytorch-dml", "pydml"), ("--kdlib", "dml")]
)
def test_a_wrong_path_is_one_sentence(option, module, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--suite", "others", option, str(tmp_path / "nowhere")])
    assert exit_.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    pattern = rf"benchmarks: error: {option}: .*nowhere\S* contains no module {module}; give the folder .* unpacked\."
    assert re.fullmatch(pattern, said), said


def test_a_wrong_path_is_refused_before_an_earlier_suite_runs(tmp_path, monkeypatch):
    def floor(setting):
        yield pytest.fail("measured")

    monkeypatch.setitem(suites.SUITES, "floor", floor)
    with pytest.raises(UserError, match="contains no module pydml"):
        list(suites.run_suites(["floor", "others"], Setting(pytorch_dml=tmp_path)))


def test_code_without_a_function_that_is_called_is_refused(released):
    text = (released / "train_GL.py").read_text(encoding="utf-8")
    (released / "train_GL.py").write_text(text.replace("def evaluate", "def score"), encoding="utf-8")
    with pytest.raises(UserError, match=r"--okddip: train_GL in .* has no evaluate; give the version"):
        okddip.load_okddip(released)


def test_code_that_needs_what_is_not_installed_is_refused(tmp_path):
    write(tmp_path, {"pydml/__init__.py": "import no_such_package"})
    with pytest.raises(UserError, match=r"pydml in .* cannot be imported \(No module named 'no_such_package'\)"):
        dml.load_pytorch_dml(tmp_path)


@pytest.mark.parametrize("broken", [False, True])
def test_an_import_leaves_the_interpreter_as_it_was(released, broken, monkeypatch):
    mine = type(sys)("utils")
    monkeypatch.setitem(sys.modules, "utils", mine)
    # None counts as not installed, so that something stands in for it.
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if broken:
        write(released, {"utils.py": "import no_such_package"})
    before = (list(sys.path), list(sys.argv), dict(os.environ), torch.backends.cudnn.benchmark, set(sys.modules))
    try:
        code = import_code(released, "train_GL", "--okddip", ("train",))
        assert code.utils is not mine
    except UserError:
        assert broken
    after = (list(sys.path), list(sys.argv), dict(os.environ), torch.backends.cudnn.benchmark)
    assert after == before[:4]
    assert sys.modules["utils"] is mine
    assert not {"train_GL", "models", "models.model_cifar"} & set(sys.modules)
    assert not list(released.rglob("__pycache__"))


def test_nothing_is_printed_and_nothing_goes_to_a_gpu_in_the_scope_alone(capsys):
    cuda, x = torch.Tensor.cuda, torch.ones(1)
    with quiet_on_cpu():
        print("noise")
        print("noise", file=sys.stderr)
        assert x.cuda(non_blocking=True) is x
    assert torch.Tensor.cuda is cuda
    assert capsys.readouterr() == ("", "")


def test_the_folders_that_were_given_are_named_with_the_setting():
    setting = Setting(turns=1, kdlib=Path("some", "folder"))
    shown = {"turns": 1, "clock": "wall", "threads": 1, "batches": 4, "kdlib": str(Path("some", "folder"))}
    assert show.given(setting) == shown


def test_okddip_is_measured_in_turns_with_ours(released, small_tasks, capsys, monkeypatch):
    ours, loaded = [], []
    monkeypatch.setattr(tasks, "train_epoch", lambda session, observers: ours.append("train"))
    monkeypatch.setattr(tasks, "evaluate", lambda session, images, leader: ours.append(len(images)))
    load = suite.load_okddip
    monkeypatch.setattr(suite, "load_okddip", lambda path: loaded.append(load(path)) or loaded[0])
    rows = list(suite.others_suite(Setting(turns=2, batches=5, okddip=released)))
    assert loaded[0].calls == [("train", 3, 5)] * 3 + [("evaluate", 3, 1)] * 3
    assert ours == ["train"] * 3 + [16] * 3
    assert [(row.above, row.below, row.goal) for row in rows] == [
        ("released OKDDip", "codistill", "≥ 2"),
        ("released OKDDip", "codistill", "≥ 1.5"),
    ]
    assert "noise" not in capsys.readouterr().out


def test_networks_of_other_sizes_are_no_comparison(released):
    task = tasks.Task(SMALL, tasks.TINY_MODEL, 2, 3, "okddip", group="branches")
    with pytest.raises(
        UserError, match=r"its 3 branches have 30 parameters and ours [\d,]+, so the times cannot be compared"
    ):
        okddip.okddip_epochs(okddip.load_okddip(released), task)


def test_both_packages_are_measured_in_turns_with_ours(tmp_path, small_tasks, monkeypatch):
    ours, code = [], {}
    monkeypatch.setattr(tasks, "train_epoch", lambda session, observers: ours.append("train"))
    monkeypatch.setattr(tasks, "evaluate", lambda session, images, leader: ours.append("evaluate"))
    for name in ("load_pytorch_dml", "load_kdlib"):
        load = getattr(suite, name)
        monkeypatch.setattr(suite, name, lambda p, name=name, load=load: code.setdefault(name, load(p)))
    folder = write(tmp_path, {"pydml/__init__.py": PYDML, "KD_Lib/KD/vision/DML/dml.py": KDLIB})
    rows = list(suite.others_suite(Setting(turns=1, batches=2, pytorch_dml=folder, kdlib=folder)))
    assert code["load_pytorch_dml"].DMLTrainer.fitted == [(2, 1, 1)] * 2
    assert code["load_kdlib"].DML.trained == [(1, False, False, 0.0)] * 2
    assert ours == ["train", "evaluate"] * 4
    assert [(row.above, row.goal) for row in rows] == [("pytorch-dml", "≥ 1.5"), ("KD-Lib", "≥ 1.5")]


def test_both_sides_see_the_same_images():
    task = tasks.Task(SMALL, tasks.TINY_MODEL, 8, 2, "dml")
    train_loader, test_loader = task.loaders()
    ours, labels = zip(*evaluation_images(task.session, task.session.dataset.test), strict=True)
    images, theirs = zip(*test_loader, strict=True)
    torch.testing.assert_close(torch.cat(images), torch.cat(ours))
    assert torch.equal(torch.cat(theirs), torch.cat(labels))
    assert [len(labels_B) for _, labels_B in train_loader] == [16] * 8
    assert len(task.session.splits.train_N) // 16 == 8


def test_our_epoch_trains_and_our_evaluation_scores_every_image():
    task = tasks.Task(SMALL, tasks.TINY_MODEL, 8, 2, "dml", executor="fused")
    before = [p.detach().clone() for p in task.session.executor.group.parameters() if p.ndim > 1]
    assert len(task.our_epoch().train.loss_by_peer) == 2
    after = [p for p in task.session.executor.group.parameters() if p.ndim > 1]
    assert not any(torch.equal(p, q) for p, q in zip(before, after, strict=True))
    assert task.our_evaluation().images == 32


def test_top_k_accuracy_in_percent():
    logits_BC = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [2.0, 3.0, 1.0]])
    found = okddip._accuracy(logits_BC, torch.tensor([0, 1, 0, 1]), topk=(1, 2))
    assert [value.item() for value in found] == [50.0, 75.0]


def test_mimicry_is_the_divergence_from_a_peer_that_learns_nothing_from_it():
    z = torch.tensor([[0.0, 0.0]], requires_grad=True)
    peer = torch.tensor([[3.0, 1.0]]).log().requires_grad_()
    loss = dml._mimicry(z, peer)
    loss.backward()
    # 3/4 ln(3/4 ÷ 1/2) + 1/4 ln(1/4 ÷ 1/2)
    assert loss.item() == pytest.approx(0.1308, abs=1e-4)
    torch.testing.assert_close(z.grad, torch.tensor([[-0.25, 0.25]]))
    assert peer.grad is None


def test_a_network_with_features_puts_out_the_same_logits():
    network, x = tasks.tiny(10, 1).eval(), torch.randn(2, 1, 8, 8)
    expected = network(x)
    h_BD, logits_BC = okddip._WithFeatures(network).eval()(x)
    assert h_BD.shape == (2, 32)
    assert torch.equal(logits_BC, expected)
