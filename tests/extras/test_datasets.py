"""Data sets of Hugging Face's package `datasets`, read from disk (extra hf)."""

import io

import datasets
import pytest
import torch
from PIL import Image

from codistill import data
from codistill.data import LazyImages
from codistill.errors import UserError


def picture(shade):
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), (shade, shade // 2, 7)).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set of two classes in the layout of the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    (tmp_path / "set" / "data").mkdir(parents=True)
    for part, labels in (("train", [0, 1, 1, 0]), ("test", [1])):
        rows = {"image": [picture(40 * i) for i in range(len(labels))], "label": labels}
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(tmp_path / "set" / "data" / f"{part}-00000-of-00001.parquet")
    return tmp_path / "set"


def test_small_images_are_read_into_memory_and_large_ones_from_disk(folder):
    small, large = (data.load(f"hf:{folder}", image_size=size) for size in (16, 128))
    for found in (small, large):
        assert found.classes == ("cat", "dog")
        assert (found.train.labels_N.tolist(), found.test.labels_N.tolist()) == ([0, 1, 1, 0], [1])
    assert isinstance(large.train, LazyImages)
    assert large.train.decode(torch.arange(4))[:, 0, 9, 9].tolist() == [0, 40, 80, 120]
    assert small.train.images_NCHW[:, 0, 9, 9].tolist() == [0, 40, 80, 120]


def test_a_data_set_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError) as caught:
        data.load(f"hf:{tmp_path / 'nowhere'}", download=False)
    assert str(caught.value).startswith(f"hf:{tmp_path / 'nowhere'} cannot be loaded (")
