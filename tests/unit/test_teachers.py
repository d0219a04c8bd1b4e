"""Teachers from torchvision, and what is refused as a teacher."""

import json
from urllib.error import URLError

import pytest
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


def test_torchvisions_network_comes_with_its_default_weights(monkeypatch):
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return models.build("resnet8_tiny", 10)

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    (teacher,) = load("torchvision:resnet18", facts_of())
    assert asked == [("resnet18", "DEFAULT")]
    assert teacher.fc.out_features == 10
    assert "knows 10 classes, the data has 7" in refusal("torchvision:resnet18", classes=7)


def test_what_cannot_teach_is_refused(monkeypatch, tmp_path):
    def offline(name, weights):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    assert "could not be downloaded" in refusal("torchvision:resnet18")
    assert "no such classification network" in refusal("torchvision:resnet1888")
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


@pytest.mark.parametrize(
    ("change", "says"),
    [({"side": 16}, "images of 8 × 8 pixels then, 16 × 16 pixels now"), ({"mean": 0.6}, "mean of the pixels")],
)
def test_a_teacher_that_was_trained_on_other_pixels_is_used_with_a_warning(exported, change, says):
    with pytest.warns(UserWarning, match=says):
        load(exported, facts_of(**change))
