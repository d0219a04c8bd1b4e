"""A dry run: counts by hand for networks, branches and a tree, and nothing left behind."""

import dataclasses

import pytest
from PIL import Image

from codistill.cli import main
from codistill.errors import UserError
from codistill.training import Config
from codistill.training.dry_run import dry_run as plan

CHAIN = """
from torch import nn

def make(num_classes, in_channels):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64 * in_channels, 16), nn.Linear(16, 8), nn.Linear(8, num_classes)
    )
"""
# On the digits, 8 x 8 pixels and 10 classes: multiplications of the three layers, and their parameters with biases.
MACS = 64 * 16, 16 * 8, 8 * 10
PARAMETERS = 64 * 16 + 16, 16 * 8 + 8, 8 * 10 + 10


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "nets.py"
    path.write_text(CHAIN)
    return Config(method="dml", model=(f"{path}:make",), peers=2, data="digits", batch_size=32, device="cpu")


def test_networks_by_hand(chain):
    planned = plan(chain)
    assert (planned.image, planned.classes, planned.splits) == ((1, 8, 8), 10, {})
    assert (planned.training, planned.method_parameters) == (2 * sum(PARAMETERS), 0)
    assert planned.deployed == (sum(PARAMETERS),) * 2
    assert planned.forward_macs == 32 * 2 * sum(MACS)
    assert planned.step_macs == 3 * planned.forward_macs
    # One input for both, and what enters the two upper layers of each, in 4 bytes a number.
    assert planned.held_bytes == 32 * 4 * (64 + 2 * (16 + 8))


def test_branches_by_hand(chain):
    planned = plan(dataclasses.replace(chain, method="cl_ilr", group="branches", split="2", peers=3))
    assert planned.splits == {"2": 3}
    assert planned.training == PARAMETERS[0] + 3 * (PARAMETERS[1] + PARAMETERS[2])
    assert planned.deployed == (sum(PARAMETERS),) * 3
    assert planned.step_macs == 3 * 32 * (MACS[0] + 3 * (MACS[1] + MACS[2]))
    assert planned.held_bytes == 32 * 4 * (64 + 16 + 3 * 8)


def test_a_tree_by_hand(chain):
    planned = plan(dataclasses.replace(chain, method="clnn", group="tree", split="2:2,3:2", peers=None))
    assert planned.splits == {"2": 2, "3": 2}
    assert planned.training == PARAMETERS[0] + 2 * PARAMETERS[1] + 4 * PARAMETERS[2]
    assert planned.deployed == (sum(PARAMETERS),) * 4
    assert planned.step_macs == 3 * 32 * (MACS[0] + 2 * MACS[1] + 4 * MACS[2])


def test_a_view_a_student_runs_the_trunk_once_a_view(chain):
    shared = dataclasses.replace(chain, method="cl_ilr", group="branches", split="2", peers=3)
    assert plan(dataclasses.replace(shared, icl=True)).forward_macs == 32 * 3 * sum(MACS)


def test_alternating_updates_predict_anew_for_each_student(chain):
    alternating = dataclasses.replace(chain, peers=4, method_options={"updates": "alternating"})
    assert plan(alternating).step_macs == 4 * plan(dataclasses.replace(chain, peers=4)).step_macs


def test_the_methods_own_parameters_train_and_are_not_deployed(chain):
    planned = plan(dataclasses.replace(chain, method="okddip", peers=3))
    # Two projections of the 8 features to one number: 8 // 8, without bias.
    assert planned.method_parameters == 2 * 8 * 1
    assert planned.training == 3 * sum(PARAMETERS) + planned.method_parameters
    assert planned.deployed == (sum(PARAMETERS),) * 3


def test_data_of_known_size_need_not_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    planned = plan(Config(model=("resnet20",), data="cifar100", device="cpu", batch_size=4))
    assert (planned.image, planned.classes) == ((3, 32, 32), 100)
    assert set(planned.deployed) == {278_324}
    assert plan(Config(model=("resnet20",), data="cifar100", device="cpu", image_size=16)).image == (3, 16, 16)


def test_data_of_the_users_own_are_looked_at(tmp_path):
    for name in ("dark", "light"):
        (tmp_path / name).mkdir()
        for k in range(10):
            Image.new("RGB", (20, 24), (k, 0, 0)).save(tmp_path / name / f"{k}.png")
    files = sorted(tmp_path.rglob("*"))
    own = Config(model=("resnet8_tiny",), data="image_folder", data_dir=tmp_path, image_size=16, batch_size=4)
    planned = plan(dataclasses.replace(own, method="dml", device="cpu"))
    assert (planned.image, planned.classes) == ((3, 16, 16), 2)
    assert sorted(tmp_path.rglob("*")) == files


def test_a_dry_run_prints_the_group_and_writes_nothing(chain, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    command = ["train", "--dry-run", "--method", "okddip", "--model", *chain.model, "--peers", "3", "--device", "cpu"]
    main([*command, "--batch-size", "32", "--out", "here"])
    out = capsys.readouterr().out
    for text in (f"{3 * sum(PARAMETERS) + 16:,} (16 of them the method's)", f"{sum(PARAMETERS):,} (one student)"):
        assert text in out
    assert f"{3 * 32 * 3 * sum(MACS) / 1e9:.3f} G per step: 3 x the" in out
    assert f"{32 * 4 * (64 + 3 * 24) / 2**20:.1f} MiB held for backward" in out
    assert list(tmp_path.iterdir()) == []


def test_the_classifier_can_be_named(chain, tmp_path):
    # Its last linear layer is none that makes the logits: it weighs them.
    (tmp_path / "gated.py").write_text(
        "from torch import nn\n\n"
        "class Gated(nn.Module):\n"
        "    def __init__(self, classes, channels):\n"
        "        super().__init__()\n"
        "        self.body, self.fc = nn.Linear(64 * channels, 6), nn.Linear(6, classes)\n"
        "        self.gate = nn.Linear(classes, 1)\n\n"
        "    def forward(self, x):\n"
        "        logits = self.fc(self.body(x.flatten(1)))\n"
        "        return logits * self.gate(logits)\n\n"
        "def make(num_classes, in_channels):\n"
        "    return Gated(num_classes, in_channels)\n"
    )
    gated = dataclasses.replace(chain, model=(f"{tmp_path / 'gated.py'}:make",), method="okddip", peers=3)
    with pytest.raises(UserError, match=r"'gate' has 1 outputs for 10 classes.*classifier=\"fc\" \(--classifier"):
        plan(gated)
    # OKDDip's projections read the classifier's six inputs: 6 // 8 numbers, and at least one.
    assert plan(dataclasses.replace(gated, classifier="fc")).method_parameters == 2 * 6
    branches = dataclasses.replace(gated, group="branches", split="fc", classifier="fc")
    assert plan(branches).training == 64 * 6 + 6 + 3 * (6 * 10 + 10 + 11) + 12


def test_a_dry_run_refuses_what_training_would_refuse(chain):
    with pytest.raises(UserError, match="unknown split '9'"):
        plan(dataclasses.replace(chain, group="branches", method="one", split="9"))
    with pytest.raises(UserError, match="unknown model 'resnet33'"):
        plan(dataclasses.replace(chain, model=("resnet33",)))
