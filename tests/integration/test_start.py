"""Runs that start from trained weights: what every peer gets, what is said, and that it matters."""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import stat
import warnings

import pytest
import torch
from interrupted_runs import cut_and_resumed
from PIL import Image
from rich.console import Console
from torch import nn

from codistill import Config, load_student, models, resume, train
from codistill.data import AugmentPolicy
from codistill.export import export_student
from codistill.progress import RunProgress
from codistill.rundir import InputRecord, read_record
from codistill.training import OptimConfig
from codistill.training.build import build_session
from codistill.training.dry_run import dry_run
from refusals import refusal

OWN = """
import torch
from codistill import models

def full(num_classes, in_channels):
    return models.build("resnet8_tiny", num_classes, in_channels, torch.Generator().manual_seed(0))
"""


def students(session):
    group = session.executor.group
    return [group.student(peer).state_dict() for peer in range(group.shape.peers)]


def equal(a, b, classifier=True):
    return all(torch.equal(a[name], b[name]) for name in a if classifier or not name.startswith("fc."))


@pytest.fixture
def short(tmp_path):
    return Config(
        method="dml", model="resnet8_tiny", peers=2, epochs=1, batch_size=64, device="cpu", executor="loop",
        out=tmp_path / "run",
    )  # fmt: skip


@pytest.fixture
def weights(tmp_path):
    """Weights of seven classes in a file, and as they are."""
    state = models.build("resnet8_tiny", 7, 1, torch.Generator().manual_seed(5)).state_dict()
    torch.save(state, tmp_path / "net.pth")
    return str(tmp_path / "net.pth"), state


def test_a_setting_is_taken_from_python_as_a_name_a_path_or_a_list(tmp_path):
    assert Config().init == ("random",)
    assert Config(init="pretrained").init == ("pretrained",)
    assert Config(init=tmp_path / "x.pth").init == (str(tmp_path / "x.pth"),)
    assert Config(init=("a", "b")).init == ("a", "b")


SHARED = ({"group": "networks"}, {"group": "branches"}, {"group": "tree", "split": "layer2:2,layer3:2", "peers": 4})


@pytest.mark.parametrize("shared", SHARED, ids=lambda shared: shared["group"])
def test_every_peer_starts_from_the_weights_with_a_classifier_of_its_own(short, digits, weights, shared):
    path, state = weights
    plain = build_session(dataclasses.replace(short, **shared), digits)
    started = build_session(dataclasses.replace(short, init=path, average=0.9, **shared), digits)
    for before, after in zip(students(plain), students(started), strict=True):
        assert equal(after, state, classifier=False)
        # Drawn as without weights: the same random numbers in the same order.
        assert torch.equal(before["fc.weight"], after["fc.weight"])
    first, second, *_ = students(started)
    assert not torch.equal(first["fc.weight"], second["fc.weight"])
    averages = started.executor.deployed_averages.group.student(1).state_dict()
    assert equal(averages, second)
    assert started.notes == (
        f"weights: loaded 54 of 56 tensors from {path}; left at random: fc.weight, fc.bias",
        "images: 8 × 8 pixels, normalised by the mean (0.305) and deviation (0.376) of the data",
    )
    assert plain.notes == ()


def test_one_start_per_peer(short, digits, weights):
    path, state = weights
    session = build_session(dataclasses.replace(short, init=("random", path)), digits)
    first, second = students(session)
    assert equal(second, state, classifier=False)
    assert equal(first, students(build_session(short, digits))[0])
    assert session.notes[0].startswith("weights of peer 1: loaded 54")
    said = refusal(build_session, dataclasses.replace(short, peers=3, init=(path, path)), digits)
    assert said == "2 starts for 3 peers: give one --init for all, or one for each peer."
    branches = dataclasses.replace(short, group="branches", init=(path, path))
    assert "give one --init" in refusal(build_session, branches, digits)


def test_what_was_loaded_is_printed_before_the_first_epoch(short, digits, weights):
    console = Console(record=True, width=200)
    train(dataclasses.replace(short, init=weights[0]), dataset=digits, observers=[RunProgress(console)])
    assert "weights: loaded 54 of 56 tensors" in console.export_text()


def test_a_run_that_began_no_longer_needs_its_weights(short, digits, weights, tmp_path):
    shutil.copy(weights[0], tmp_path / "lent.pth")
    config = dataclasses.replace(short, init=str(tmp_path / "lent.pth"), normalise="imagenet", epochs=2)

    def resume_without(*arguments, **keywords):
        (tmp_path / "lent.pth").unlink()
        return resume(*arguments, **keywords)

    cut_and_resumed(config, digits, tmp_path, train, resume_without)


@pytest.fixture(scope="module")
def ended(digits, tmp_path_factory):
    """A finished run of two networks, and one of two branches."""
    out = tmp_path_factory.mktemp("ended")
    config = Config(method="dml", model="resnet8_tiny", peers=2, epochs=1, batch_size=64, device="cpu", executor="loop")
    train(dataclasses.replace(config, out=out / "networks"), dataset=digits)
    train(dataclasses.replace(config, out=out / "branches", group="branches"), dataset=digits)
    return out


def test_a_new_run_goes_on_from_a_finished_one_student_by_student(short, digits, ended):
    for kind, groups in (("networks", ["networks"]), ("branches", ["networks", "branches"])):
        old = [load_student(ended / kind, peer).state_dict() for peer in (0, 1)]
        for group in groups:
            session = build_session(dataclasses.replace(short, group=group, init=ended / kind), digits)
            assert all(equal(a, b) for a, b in zip(students(session), old, strict=True))
            assert "56 of 56 tensors" in session.notes[0]
            assert session.notes[0].endswith("student by student")


def test_a_run_of_other_classes_lends_all_but_its_classifiers(short, digits, ended):
    other = dataclasses.replace(digits, classes=tuple("abcdefghij"))
    session = build_session(dataclasses.replace(short, init=ended / "networks"), other)
    old = [load_student(ended / "networks", peer).state_dict() for peer in (0, 1)]
    for new, before in zip(students(session), old, strict=True):
        assert equal(new, before, classifier=False)
        assert not torch.equal(new["fc.weight"], before["fc.weight"])


@pytest.mark.parametrize("shared", SHARED, ids=lambda shared: shared["group"])
def test_a_run_of_one_network_starts_every_peer_with_a_classifier_of_its_own(short, digits, tmp_path, shared):
    alone = dataclasses.replace(short, method="baseline", peers=1)
    train(alone, dataset=digits)
    old = load_student(tmp_path / "run").state_dict()
    plain = build_session(dataclasses.replace(short, **shared), digits)
    session = build_session(dataclasses.replace(short, init=tmp_path / "run", **shared), digits)
    assert session.notes[0].startswith("weights: loaded 54 of ")
    assert "run, its one student; left at random: fc.weight" in session.notes[0]
    for before, new in zip(students(plain), students(session), strict=True):
        assert equal(new, old, classifier=False)
        assert torch.equal(new["fc.weight"], before["fc.weight"])
    (goes_on,) = students(build_session(dataclasses.replace(alone, init=tmp_path / "run"), digits))
    assert equal(goes_on, old)


def test_a_run_that_does_not_fit_the_group_is_refused(short, digits, ended, tmp_path):
    def said(**changed):
        return refusal(build_session, dataclasses.replace(short, **changed), digits)

    run = str(ended / "networks")
    assert said(init=run, peers=3) == (
        f"init {run}: this run has 2 student(s), the group 3; give --peers 2, or start all from one student with "
        f"'codistill export {run}' and --init {run}/export."
    )
    assert "the students differ in 'conv1.weight', which this group's peers share" in said(init=run, group="branches")
    assert "give weights of this very network" in said(init=run, model=("wrn10_1",))
    shutil.copytree(ended / "networks", tmp_path / "cut")
    (tmp_path / "cut" / "summary.json").unlink()
    assert "this run is not finished; finish it with 'codistill resume" in said(init=tmp_path / "cut")
    again = dataclasses.replace(short, init=run, out=ended / "networks")
    assert "is the start of this run, which would be replaced" in refusal(
        lambda: train(again, dataset=digits, overwrite=True)
    )


def test_an_exported_student_starts_every_peer_and_says_how_it_saw_images(short, digits, ended, tmp_path):
    folder = export_student(ended / "networks", tmp_path / "student", peer=1)
    record = read_record(folder / "student.json", InputRecord)
    config = dataclasses.replace(short, init=folder, normalise="weights")
    session = build_session(config, dataclasses.replace(digits, mean=(0.1,), std=(0.2,)))
    old = load_student(ended / "networks", 1).state_dict()
    assert all(equal(new, old, classifier=False) for new in students(session))
    assert (session.dataset.mean, session.dataset.std) == (record.mean, record.std)


def test_a_start_that_has_learnt_from_validation_images_is_told(short, digits, ended, tmp_path):
    def said(**changed):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            build_session(dataclasses.replace(short, **changed), digits)
        return [str(w.message) for w in caught if "has learnt from images" in str(w.message)]

    run = ended / "networks"
    assert said(init=run) == said(seed=1) == []
    assert said(init=run, seed=1) == [
        f"init {run} was trained on these data in another split (seed 0, validation 0.1; here 1 and 0.1), so it has "
        "learnt from images that are validation images here: the validation figures, which choose the epoch and the "
        "student, then flatter this run; give --seed 0 --validation 0.1, or a validation folder of your own"
    ]
    assert len(said(init=run, validation=0.2)) == 1
    exported = export_student(run, tmp_path / "student", peer=1)
    assert (len(said(init=exported)), len(said(init=exported, seed=1))) == (0, 1)
    part = torch.arange(len(digits.train) - 300)
    digits = dataclasses.replace(digits, train=digits.train.take(part))
    assert said(init=run, seed=1) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_an_exported_student_may_be_read_by_whom_the_umask_allows(ended, tmp_path):
    before = os.umask(0o022)
    try:
        folder = export_student(ended / "networks", tmp_path / "student")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}


def test_an_edited_run_is_refused_with_the_way_to_go_on(ended, digits, tmp_path):
    shutil.copytree(ended / "networks", tmp_path / "run")
    text = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text.replace("epochs: 1\n", "epochs: 3\n"))
    said = refusal(lambda: resume(tmp_path / "run", dataset=digits))
    assert said.endswith(
        f"with 'codistill train --config ... --out ...' (from these weights with --init {tmp_path / 'run'})."
    )


@pytest.fixture
def own(tmp_path):
    (tmp_path / "nets.py").write_text(OWN)
    return f"{tmp_path}/nets.py:full"


def equal_warnings(config, digits, **keywords):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(config, dataset=digits, overwrite=True, **keywords)
    return [str(w.message) for w in caught if "start with the same weights" in str(w.message)]


def test_students_that_start_equal_and_would_stay_equal_are_warned_of(short, digits, own):
    equal_start = dataclasses.replace(short, model=own)
    (text,) = equal_warnings(equal_start, digits)
    assert text.startswith("students 0 and 1 start with the same weights, classifier included")
    assert equal_warnings(dataclasses.replace(equal_start, icl=True), digits) == []
    assert equal_warnings(dataclasses.replace(equal_start, init="pretrained"), digits) == []
    assert equal_warnings(short, digits) == []
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    assert len(equal_warnings(short, digits, network=[net, copy.deepcopy(net)])) == 1


def test_equal_students_do_stay_equal_and_the_remedy_sets_them_apart(short, digits, own):
    config = dataclasses.replace(short, model=own)
    with pytest.warns(UserWarning, match="same weights"):
        same = train(config, dataset=digits)
    assert same.summary["last"]["test"]["diversity"]["distance"] == 0
    apart = train(dataclasses.replace(config, init="pretrained"), dataset=digits, overwrite=True)
    assert apart.summary["last"]["test"]["diversity"]["distance"] > 0


@pytest.mark.parametrize("group", ["networks", "branches"])
def test_pretrained_keeps_what_a_network_of_ones_own_comes_with(short, digits, own, group):
    state = models.build("resnet8_tiny", 10, 1, torch.Generator().manual_seed(0)).state_dict()
    named = build_session(dataclasses.replace(short, model=own, init="pretrained", group=group), digits)
    net = models.build("resnet8_tiny", 10, 1, torch.Generator().manual_seed(0))
    config = dataclasses.replace(short, model=("own",), init="pretrained", group=group)
    for session in (named, build_session(config, digits, net)):
        first, second = students(session)
        assert equal(first, state, classifier=False)
        assert equal(second, state, classifier=False)
        heads = [state["fc.weight"], first["fc.weight"], second["fc.weight"]]
        assert not any(torch.equal(heads[a], heads[b]) for a, b in ((0, 1), (1, 2), (0, 2)))
        assert "from the network as it was given" in session.notes[0]


def test_a_tag_without_its_weights_is_mentioned_once(short, digits):
    pytest.importorskip("timm")
    config = dataclasses.replace(short, model="timm:mobilenetv3_small_050.lamb_in1k")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_session(config, digits)
    assert sum("names trained weights" in str(w.message) for w in caught) == 1


@pytest.fixture
def photos(tmp_path):
    for name, shade in (("cat", 40), ("dog", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (20, 20), (shade, i, 255 - shade)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_folders_take_size_and_normalisation_from_the_weights_unless_told_otherwise(
    short, photos, tmp_path, monkeypatch
):
    net = models.build("torchvision:shufflenet_v2_x0_5", 1000, 3, torch.Generator().manual_seed(0))
    monkeypatch.setattr("codistill.models.pretrained.pretrained_network", lambda *_: net)
    folder = dataclasses.replace(
        short, model=("torchvision:shufflenet_v2_x0_5",), data="image_folder", data_dir=photos, batch_size=8,
        init="pretrained",
    )  # fmt: skip
    session = build_session(folder)
    assert session.dataset.train.shape == (3, 224, 224)
    assert session.dataset.mean == (0.485, 0.456, 0.406)
    assert (session.config.image_size, session.config.normalise) == (224, "weights")
    assert session.notes[1].startswith("images: 224 × 224 pixels, normalised by the mean (0.485, 0.456, 0.406)")
    assert dry_run(folder).image == (3, 224, 224)
    chosen = build_session(dataclasses.replace(folder, image_size=32, normalise="data"))
    assert chosen.dataset.train.shape == (3, 32, 32)
    assert chosen.dataset.mean != (0.485, 0.456, 0.406)
    plain = build_session(dataclasses.replace(folder, init="random"))
    assert plain.dataset.train.shape == (3, 64, 64)
    assert plain.config.normalise == "data"
    imagenet = build_session(dataclasses.replace(folder, init="random", normalise="imagenet"))
    assert imagenet.dataset.mean == (0.485, 0.456, 0.406)


def test_data_of_a_known_size_keep_their_pixels_and_unknown_ones_are_refused(short, digits, weights):
    assert build_session(dataclasses.replace(short, init=weights[0]), digits).dataset.mean == digits.mean
    grey = build_session(dataclasses.replace(short, normalise="imagenet"), digits).dataset
    assert grey.mean == pytest.approx((0.449,), abs=1e-3)
    said = refusal(build_session, dataclasses.replace(short, init=weights[0], normalise="weights"), digits)
    assert said.endswith("no mean and deviation of these are known; choose data or imagenet.")
    said = refusal(build_session, dataclasses.replace(short, init="nowhere.pth"), digits)
    assert said.startswith("weights 'nowhere.pth': there is no such file or folder")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A tiny network that has learned characters in many font faces, as a file."""
    out = tmp_path_factory.mktemp("pretrained")
    config = Config(
        method="baseline", model="resnet8_tiny", data="glyphs", image_size=16, train_subset=8000, epochs=5,
        batch_size=64, device="cpu", executor="loop", optim=OptimConfig(schedule="cosine"), out=out / "run",
    )  # fmt: skip
    # Of 100 classes. Weights that have learned nothing are a worse start than random ones.
    assert train(config).test_error < 50
    torch.save({"state_dict": load_student(out / "run").state_dict()}, out / "glyphs.pth")
    return str(out / "glyphs.pth")


@pytest.mark.parametrize("shared", SHARED, ids=lambda shared: shared["group"])
def test_trained_weights_lower_the_error_after_one_epoch(pretrained, short, shared):
    config = dataclasses.replace(
        short, data="digits", image_size=16, train_subset=400, batch_size=32, augment=AugmentPolicy(crop_padding=0),
        optim=OptimConfig(lr=0.02, schedule="constant"), **shared,
    )  # fmt: skip
    error = {}
    for init in ("random", pretrained):
        summary = train(dataclasses.replace(config, init=init), overwrite=True).summary
        error[init] = summary["last"]["test"]["mean"]["top1_error"]
    assert error[pretrained] < error["random"] - 15, error
