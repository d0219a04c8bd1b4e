"""Teachers from torchvision, and what is refused as a teacher."""

import json
from urllib.error import URLError

import pytest
import torchvision

from codistill import models
from codistill.errors import UserError
from codistill.training import Config
from codistill.training.teachers import load_teachers


def refusal(name, classes=10, channels=3):
    with pytest.raises(UserError) as caught:
        load_teachers(Config(method="kd", teachers=(name,)), classes, channels)
    return str(caught.value)


def test_torchvisions_network_comes_with_its_default_weights(monkeypatch):
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return models.build("resnet8_tiny", 10)

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    (teacher,) = load_teachers(Config(method="kd", teachers=("torchvision:resnet18",)), 10, 3)
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
    facts = {"version": 1, "classes": ["a", "b"], "channels": 3, "model": "resnet20"}
    (tmp_path / "student.json").write_text(json.dumps(facts))
    assert "knows 2 classes in images of 3 channels, the data has 10 in 3" in refusal(str(tmp_path))
