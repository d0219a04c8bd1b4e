"""Teachers from everywhere, images as each of them knows them, and what is refused as a teacher."""

import json
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from codistill import models
from codistill.errors import UserError
from codistill.rundir import InputRecord
from codistill.training import Config
from codistill.training.teachers import load_teachers


def facts_of(classes=10, channels=3, side=8, mean=0.5):
    return {
        "version": 1, "channels": channels, "height": side, "width": side, "mean": [mean] * channels,
        "std": [0.25] * channels, "classes": [str(c) for c in range(classes)],
    }  # fmt: skip


def load(name, facts):
    return load_teachers(Config(method="kd", teachers=(str(name),)), InputRecord.from_json(facts))


def refusal(name, classes=10, channels=3):
    with pytest.raises(UserError) as caught:
        load(name, facts_of(classes, channels))
    return str(caught.value)


@pytest.fixture
def exported(tmp_path):
    """A teacher as `codistill export` leaves it."""
    save_file(models.build("resnet8_tiny", 10).state_dict(), tmp_path / "student.safetensors")
    (tmp_path / "student.json").write_text(json.dumps({**facts_of(), "model": "resnet8_tiny"}))
    return tmp_path


def test_torchvisions_network_comes_with_its_weights_and_sees_images_as_it_knows_them(monkeypatch):
    asked, seen = [], []

    def get_model(name, weights):
        asked.append((name, weights.name))
        net = models.build("resnet8_tiny", 10)
        net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        return net

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    for name in ("torchvision:resnet18", "resnet18@IMAGENET1K_V1"):
        (teacher,) = load(name, facts_of())
        assert teacher(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
        # Grey pixels of 0.5, in ImageNet's mean and deviation.
        assert seen[-1].shape == (2, 3, 224, 224)
        assert seen[-1][0, :, 0, 0].tolist() == pytest.approx([0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225], abs=1e-5)
    assert asked == [("resnet18", "IMAGENET1K_V1")] * 2
    assert "knows 10 classes, the data has 7" in refusal("torchvision:resnet18", classes=7)


def test_timms_network_comes_with_its_weights(monkeypatch):
    timm = pytest.importorskip("timm")
    net = timm.create_model("mobilenetv3_small_050", num_classes=10)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: net if pretrained else None)
    (teacher,) = load("timm:mobilenetv3_small_050.lamb_in1k", facts_of())
    assert teacher.network is net
    assert teacher.size == (224, 224)


def test_a_state_dict_teaches_with_the_name_of_its_network(tmp_path):
    net, path = models.build("resnet8_tiny", 10), tmp_path / "net.pth"
    torch.save({"model": {f"module.{name}": value for name, value in net.state_dict().items()}}, path)
    with pytest.warns(UserWarning, match="does not say what images it was trained on"):
        (teacher,) = load(f"resnet8_tiny@{path}", facts_of())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(teacher.eval()(x), net.eval()(x))
    with pytest.warns(UserWarning, match="does not say"):
        said = refusal(f"resnet8_tiny@{path}", classes=7)
    assert "fc.weight is missing" in said
    assert "has another shape than for the 7 classes of the data" in said


def test_a_function_in_a_file_teaches(tmp_path):
    (tmp_path / "t.py").write_text(
        "from codistill import models\n\ndef make(num_classes, in_channels):\n"
        "    return models.build('resnet8_tiny', 10, in_channels)\n"
    )
    assert load(f"{tmp_path}/t.py:make", facts_of())[0].fc.out_features == 10
    assert "knows 10 classes, the data has 7" in refusal(f"{tmp_path}/t.py:make", classes=7)


def test_what_cannot_teach_is_refused(monkeypatch, tmp_path):
    def offline(name, weights):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    assert "could not be loaded (<urlopen error no route to host>)" in refusal("torchvision:resnet18")
    assert "unknown torchvision model 'resnet1888'" in refusal("torchvision:resnet1888")
    assert "sees RGB, the data has 1 channel(s)" in refusal("torchvision:resnet18", channels=1)
    assert "no finished run and no exported student" in refusal(str(tmp_path))
    (tmp_path / "student.json").write_text(json.dumps({**facts_of(classes=2), "model": "resnet20"}))
    assert "knows 2 classes in images of 3 channels, the data has 10 in 3" in refusal(str(tmp_path))


def test_a_teacher_of_as_many_but_other_classes_is_refused(exported):
    names = facts_of()["classes"]
    other = {**facts_of(), "classes": [names[1], names[0], *names[2:]]}
    with pytest.raises(UserError, match="its class 0 is '0', that of the data '1'"):
        load(exported, other)
    assert len(load(exported, facts_of())) == 1
    # Names on one side only say nothing against the other.
    assert len(load(exported, {**facts_of(), "classes": [f"digit {name}" for name in names]})) == 1


def test_a_teacher_of_the_same_pixels_is_used_as_it_is_and_of_others_behind_a_layer(exported):
    (same,) = load(exported, facts_of())
    assert type(same).__name__ == "ResNet"
    (other,) = load(exported, facts_of(side=16, mean=0.6))
    grey = torch.rand(2, 3, 1, 1).expand(-1, -1, 16, 16)
    with torch.no_grad():
        expected = same.eval()((grey[..., :8, :8] - 0.5) / 0.25)
        torch.testing.assert_close(other.eval()((grey - 0.6) / 0.25), expected)
