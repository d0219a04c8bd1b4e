"""Pictures, short runs on them, and programs of cards, for the tests of exports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from codistill import Config, data, load_student, train
from codistill.training import OptimConfig

WITHOUT_CODISTILL = """
import importlib.abc, json, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "codistill":
            raise ModuleNotFoundError(f"{name} is hidden")

sys.meta_path.insert(0, Hidden())
sys.path.insert(0, ".")
"""

CLASSIFY_ALL = """
import torch
torch.set_num_threads(1)
json.dump([classify(path) for path in json.load(open(sys.argv[1]))], open(sys.argv[2], "w"))
"""


def draw_pictures(folder: Path) -> Path:
    """Wide photos whose class shows in the middle third, with so much noise that some are mistaken."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 12)):
        for label, name in enumerate("abc"):
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((40, 120, 3), 40)
                pixels[..., (label + 1) % 3] = 200
                pixels[:, 40:80] = 40
                pixels[:, 40:80, label] = 90
                noisy = pixels + rng.integers(-60, 60, (1, 1, 3)) + rng.integers(-40, 40, pixels.shape)
                Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(place / f"{number}.png")
    return folder


def train_on(pictures: Path, out: Path, model: str, **settings: object) -> Path:
    config = Config(
        method="dml", peers=2, epochs=2, batch_size=16, device="cpu", executor="loop", threads=1, image_size=32,
        data="image_folder", data_dir=pictures, optim=OptimConfig(lr=0.05), model=model, out=out,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(Config(**{**vars(config), **settings}))
    return out


def program_of(folder: Path, file: str) -> str:
    """The program of the card that uses `file`."""
    text = (folder / "README.md").read_text(encoding="utf-8").partition(f"## Use `{file}`")[2]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found, f"no program for {file}"
    return found.group(1)


def classified(folder: Path, file: str, pictures: list[Path], tmp_path: Path) -> list[list[float]]:
    """What the card's own program gives for each picture, in a process that has no codistill."""
    code = program_of(folder, file).replace('"picture.jpg"', repr(str(pictures[0])))
    asked, answer = tmp_path / "asked.json", tmp_path / "answer.json"
    asked.write_text(json.dumps([str(path) for path in pictures]))
    whole = WITHOUT_CODISTILL + code + CLASSIFY_ALL
    done = subprocess.run(
        [sys.executable, "-c", whole, str(asked), str(answer)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(json.loads(answer.read_text())[0])
    return json.loads(answer.read_text())


def evaluated(run: Path, pictures: Path) -> tuple[np.ndarray, float]:
    """The student's probabilities for the test images as evaluation reads them, and the error in the summary."""
    facts = json.loads((run / "input.json").read_text())
    images = data.load("image_folder", pictures, image_size=32).test
    assert isinstance(images, data.ImageSet)
    inputs = data.normalise(images.images_NCHW, facts["mean"], facts["std"], "cpu")
    with torch.no_grad():
        probabilities = load_student(run)(inputs).softmax(1).numpy()
    error = json.loads((run / "summary.json").read_text())["last"]["test"]["leader"]["top1_error"]
    return probabilities, error


def agrees(answers: list[list[float]], run: Path, pictures: Path, tolerance: float = 1e-3) -> None:
    """The answers for all test pictures, in the order of their paths, are codistill's, and so is their error."""
    probabilities, error = evaluated(run, pictures)
    np.testing.assert_allclose(answers, probabilities, rtol=0, atol=tolerance)
    labels = np.repeat(np.arange(3), len(answers) // 3)
    np.testing.assert_allclose(100 * np.mean(np.argmax(answers, 1) != labels), error)
