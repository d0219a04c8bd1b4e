"""Runs on data of every kind: policies, images that stay in files, a user's own Dataset; resumed to equal numbers."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

from codistill.config import default_label
from codistill.data import AugmentPolicy, Dataset, LazyImages
from codistill.errors import UserError
from codistill.training import Config, OptimConfig, apply_settings, resume, train
from codistill.training.batches import training_batches
from codistill.training.build import build_session
from codistill.training.check import check_config
from codistill.training.checkpoint import latest
from codistill.training.evaluate import evaluate_run


class Stop:
    def on_step(self, session, step, steps):
        if session.epoch == 1 and step == 2:
            raise KeyboardInterrupt


def end_of(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return load_file(latest(run_dir) / "weights.safetensors"), [line["train"] for line in lines]


def same(a, b):
    return a[1] == b[1] and all(torch.equal(a[0][k], b[0][k]) for k in a[0])


@pytest.fixture(scope="module")
def lazy_digits(digits):
    """The digits as if they were in files."""

    class Read:
        def __init__(self, images):
            self.images = images

        def __call__(self, index):
            return self.images[index]

    def part(images):
        return LazyImages(Read(images.images_NCHW), torch.arange(len(images)), images.labels_N, 1, 8)

    return dataclasses.replace(
        digits,
        train=part(digits.train),
        test=part(digits.test),
        augment=dataclasses.replace(digits.augment, crop_padding=0),
    )


@pytest.mark.parametrize(("kind", "mix"), [("memory", "mixup"), ("files", "cutmix")])
def test_policies_and_files_repeat_and_resume_to_the_bit(kind, mix, quick, digits, lazy_digits, tmp_path):
    dataset = digits if kind == "memory" else lazy_digits
    policies = (mix, f"randaugment+{mix}", f"trivialaugment+cutout+{mix}")
    config = dataclasses.replace(
        quick, method="ind", epochs=2, workers=0, icl=True, augment=AugmentPolicy(policies=policies)
    )
    train(dataclasses.replace(config, out=tmp_path / "whole"), dataset=dataset)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, out=tmp_path / "cut"), dataset=dataset, observers=[Stop()])
    torch.rand(5)
    resume(tmp_path / "cut", dataset=dataset)
    assert same(end_of(tmp_path / "cut"), end_of(tmp_path / "whole"))


def test_the_number_of_loader_processes_changes_nothing_not_even_after_a_resume(quick, lazy_digits, tmp_path):
    config = dataclasses.replace(quick, epochs=2, icl=True, workers=0)
    train(dataclasses.replace(config, out=tmp_path / "whole"), dataset=lazy_digits)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, out=tmp_path / "cut"), dataset=lazy_digits, observers=[Stop()])
    path = tmp_path / "cut" / "config.yaml"
    path.write_text(path.read_text().replace("workers: 0", "workers: 1"))
    resume(tmp_path / "cut", dataset=lazy_digits)
    assert same(end_of(tmp_path / "cut"), end_of(tmp_path / "whole"))


def test_under_icl_mixed_labels_are_one_for_all_students_and_views_differ(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path, icl=True, augment=AugmentPolicy(policies="mixup"))
    session = build_session(config, digits)
    batch = next(training_batches(session))
    assert batch.labels.shape == (64, 10)
    torch.testing.assert_close(batch.labels.sum(1), torch.ones(64))
    assert torch.equal(batch.classes_B, batch.labels.argmax(1))
    assert len(batch.views) == 3
    assert not torch.equal(batch.views[0], batch.views[1])


def test_an_image_folder_in_files_trains_with_loader_processes_and_scores_again(tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for label, name in enumerate("ab"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(20):
                shade = 60 * label + 4 * i + 40
                Image.new("RGB", (24 + i, 30), (shade, 255 - shade, 9)).save(tmp_path / part / name / f"{i:02}.png")
    config = Config(
        method="ind", model=("resnet8_tiny",), peers=2, icl=True, data="image_folder", data_dir=tmp_path, image_size=16,
        data_memory=0.0, workers=1, epochs=1, batch_size=8, device="cpu", out=tmp_path / "run",
        optim=OptimConfig(lr=0.05),
    )  # fmt: skip
    result = train(config)
    facts = json.loads((tmp_path / "run" / "input.json").read_text())
    assert (facts["channels"], facts["height"], facts["width"], facts["classes"]) == (3, 16, 16, ["a", "b"])
    assert evaluate_run(tmp_path / "run") == result.summary["last"]["test"]
    with pytest.raises(UserError) as caught:
        build_session(dataclasses.replace(config, augment=AugmentPolicy(crop_padding=2)))
    assert str(caught.value) == (
        "augment.crop_padding 2 with images that are decoded again in every step: these get random resized crops; "
        "leave it out (augment.crop_min_area says how small they may be)."
    )


def test_a_torch_dataset_trains_like_the_same_images_in_codistills_own_form(quick, digits, tmp_path):
    pair = tuple(TensorDataset(part.images_NCHW, part.labels_N) for part in (digits.train, digits.test))
    given = AugmentPolicy(crop_padding=1, flip=False)
    config = dataclasses.replace(quick, epochs=1, augment=given)
    train(dataclasses.replace(config, out=tmp_path / "torch"), dataset=pair)
    own = build_session(dataclasses.replace(config, out=tmp_path / "x"), pair).dataset
    assert isinstance(own, Dataset)
    train(dataclasses.replace(config, out=tmp_path / "own"), dataset=dataclasses.replace(own, train=digits.train))
    assert same(end_of(tmp_path / "torch"), end_of(tmp_path / "own"))


def test_labels_that_skip_an_index_are_refused_before_training(quick, tmp_path):
    images = torch.zeros(80, 1, 8, 8, dtype=torch.uint8)
    skipping = TensorDataset(images, torch.tensor([0, 1, 3, 4] * 20))
    with pytest.raises(UserError) as caught:
        train(dataclasses.replace(quick, out=tmp_path / "run"), dataset=skipping)
    assert str(caught.value) == (
        "label 2 ('2') has no training image, and labels are 0 to 4 without a gap: add images of it (damaged ones that "
        "were skipped do not count), or take the class out."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["kdcl_minlogit", "kdcl_linear"])
def test_methods_that_need_the_true_class_refuse_mixed_labels_before_any_data_is_read(quick, method):
    config = dataclasses.replace(quick, method=method, data="cifar10", augment=AugmentPolicy(policies="cutmix"))
    with pytest.raises(UserError) as caught:
        check_config(config)
    assert str(caught.value) == (
        f"cutmix with the method {method!r}: its target is defined by the one true class, and mixed labels have two; "
        "use another policy or method."
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ["augment.policies=[standard, cutout]", "icl=true"],
            "2 augmentation policies for 3 students: give one for all, or one for each.",
        ),
        (
            ["augment.policies=standard,cutout,cutout"],
            "3 augmentation policies without icl: students that share a view share its policy; turn icl on or give "
            "one.",
        ),
        (["augment.policies=cuotut"], "unknown augmentation policy 'cuotut': did you mean 'cutout' or 'cutmix'?"),
        (["augment.crop_padding=-1"], "crop_padding -1: give 0 or more pixels."),
        (["data_memory=-1"], "data_memory -1.0: it must be 0 or more GiB."),
        (["workers=-1"], "workers -1: it must be 0 to 1024 processes."),
        (["data=parquet"], "data set 'parquet' is incomplete: write parquet:PATH."),
    ],
)
def test_settings_of_the_data_that_make_no_sense_are_refused(quick, settings, says):
    with pytest.raises(UserError) as caught:
        check_config(apply_settings(quick, settings))
    assert str(caught.value) == says


def test_policies_stand_in_the_label_and_places_of_data_in_no_folder_name(quick):
    config = dataclasses.replace(quick, label=None, out=None, icl=True, data="parquet:my/data", model=("resnet20",))
    config = dataclasses.replace(config, augment=AugmentPolicy(policies="mixup+cutout"))
    assert default_label(config) == "okddip, ICL, mixup+cutout"
    out = check_config(config).out
    assert out.parent.name == "runs"
    assert out.name.startswith("parquet-my-data-resnet20-okddip")
