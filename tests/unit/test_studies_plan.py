"""The runs of studies: all are valid, the key of a folder is the hash of the experiment, selections are complete."""

import dataclasses
import hashlib
from collections import defaultdict
from pathlib import Path

import pytest

from codistill.studies import run_list
from codistill.studies.catalog import STUDIES, find_study, studies_named
from codistill.studies.profiles import PROFILES
from codistill.studies.readings import READINGS
from codistill.studies.run_list import folder_stem, make_run_list, select
from codistill.studies.study import Entry, Study, Variant
from codistill.training import Config, OptimConfig
from refusals import refusal

BASE = Config(method="baseline", model=("resnet8_tiny",), peers=1, data="digits", epochs=2, label="vanilla")
ELSEWHERE = {
    "seed": 3, "label": "another", "device": "cuda:1", "threads": 2, "executor": "fused", "out": Path("x"),
    "channels_last": False, "deterministic": True, "compile": True, "teachers": ("runs/x",), "workers": 2,
    "download": False, "memory_limit": 1.0, "data_dir": Path("x"), "validation_dir": Path("x"), "recipe": "x",
    "cuda_graphs": True, "tf32": True, "follow_links": True, "keep": 5, "logger": ("tensorboard",),
    "save_minutes": 1.0, "save_steps": 7, "worker_timeout": 9.0, "rank_timeout": 9.0, "mesh": "peer=2",
}  # fmt: skip


def study_of(config=BASE, teacher=None):
    """A study of one variant, "v", and of the variant "t" that teaches it."""
    variants = {"t": Variant("heading", teacher)} if teacher else {}
    variants["v"] = Variant("heading", config, "t" if teacher else None)
    entries = tuple(Entry("r", name, name) for name in variants)
    return Study("okddip/table5", "smoke", "made up", "error", variants, entries)


def key(config=BASE, teacher=None):
    """The hash in the name of the run directory."""
    return folder_stem(study_of(config, teacher), "v").rpartition("-")[2]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_configuration_of_every_study_is_valid_and_has_a_folder_of_its_own(profile, reading):
    listed = make_run_list([find_study(name, profile, reading) for name in STUDIES], 1, Path("studies"))  # checks all
    folders = [run.config.out for run in listed.runs]
    assert len(set(folders)) == len(folders)
    assert {folder.parent for folder in folders} == {Path("studies/runs")}
    assert {name for name, _, _ in listed.index} == set(STUDIES)
    for index, run in enumerate(listed.runs):
        assert all(teacher < index for teacher in run.after)
        assert run.config.teachers == tuple(str(listed.runs[teacher].config.out) for teacher in run.after)
        assert (run.config.method == "kd") == bool(run.after)


def test_seeds_are_finished_one_after_the_other_and_learn_from_their_own_teacher():
    study = select(find_study("kdcl/table7", "smoke"), ["2_distill_1"])
    listed = make_run_list([study], 3, Path())
    seeds = [run.config.seed for run in listed.runs]
    assert seeds == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    pupil = listed.runs[listed.index[study.name, "2_distill_1, resnet32", 1]]
    assert pupil.config.teachers == (str(listed.folder(study.name, "vanilla, wrn16_2", 1)),)


def test_the_key_is_the_hash_of_what_departs_from_the_defaults():
    config = Config(epochs=7, optim=OptimConfig(lr=0.2))
    assert key(config) == hashlib.sha256(b'{"epochs": 7, "optim.lr": 0.2}').hexdigest()[:10]


def test_the_key_does_not_depend_on_where_how_fast_and_under_which_name_a_run_goes():
    for name, value in ELSEWHERE.items():
        assert key(dataclasses.replace(BASE, **{name: value})) == key(), name


def test_the_key_depends_on_every_other_setting():
    names = {f.name for f in dataclasses.fields(Config)} - {*ELSEWHERE, "optim", "augment", "method_options"}
    others = {name: dataclasses.replace(BASE, **{name: "other"}) for name in names}
    others["method_options"] = dataclasses.replace(BASE, method_options={"temperature": 2.0})
    for part in ("optim", "augment"):
        section = getattr(BASE, part)
        for f in dataclasses.fields(section):
            other = dataclasses.replace(section, **{f.name: "other"})
            others[f"{part}.{f.name}"] = dataclasses.replace(BASE, **{part: other})
    keys = {name: key(config) for name, config in others.items()}
    assert not {name for name, found in keys.items() if found == key()}
    assert len(set(keys.values())) == len(keys) > 30


def test_the_key_depends_on_the_teacher_and_its_settings():
    pupil = dataclasses.replace(BASE, method="kd")
    teacher = dataclasses.replace(BASE, model=("wrn10_1",))
    slower = dataclasses.replace(teacher, optim=OptimConfig(lr=0.05))
    renamed = dataclasses.replace(teacher, label="teacher", device="cuda", threads=4)
    assert key(pupil, teacher) == key(pupil, renamed)
    assert len({key(pupil), key(pupil, teacher), key(pupil, slower)}) == 3


def test_a_setting_of_a_later_version_changes_no_key_until_it_is_used(monkeypatch):
    before = key()
    to_dict = run_list.config_to_dict
    monkeypatch.setattr(run_list, "config_to_dict", lambda c: {**to_dict(c), "later": {"option": 1.0}})
    assert key() == before
    monkeypatch.setattr(run_list, "config_to_dict", lambda c: {**to_dict(c), "later": {"option": 1.0 + (c is BASE)}})
    assert key() != before


def test_studies_go_by_name_by_the_beginning_of_names_or_all():
    assert studies_named(["kdcl/table7", "okddip/figure"]) == ["kdcl/table7", "okddip/figure3"]
    assert studies_named(["kdcl"]) == [name for name in STUDIES if name.startswith("kdcl/")]
    assert studies_named(["kdcl/table2", "all"]) == ["kdcl/table2", *(n for n in STUDIES if n != "kdcl/table2")]
    for nothing in ("", "k", "okd"):
        assert refusal(studies_named, [nothing]).startswith(f"unknown study {nothing!r}")
    assert refusal(studies_named, ["okdip"]).startswith("unknown study 'okdip': did you mean 'okddip'")


def test_studies_share_what_they_have_in_common():
    listed = make_run_list([find_study(name, "paper") for name in STUDIES], 1, Path())

    def index(study, variant):
        return listed.index[study, variant, 0]

    assert index("okddip/table2", "resnet32/okddip_branch") == index("okddip/table5", "resnet32/okddip_branch")
    assert index("okddip/table2", "resnet32/okddip_branch") == index("okddip/figure3", "resnet32/4")
    assert index("okddip/table2", "vgg16/one") == index("okddip/table4", "vgg16/one")
    assert len({index(f"kdcl/table{n}", "vanilla, resnet18") for n in (2, 3, 4, 5, 6)}) == 1
    assert index("kdcl/table2", "vanilla, resnet50") == index("kdcl/table6", "vanilla, resnet50")
    assert index("okddip/table2", "vgg16/ind") == index("okddip/table4", "vgg16/ind")
    assert index("kdcl/table4", "vanilla, resnet18*") != index("kdcl/table4", "vanilla, resnet18")
    assert index("kdcl/table7", "vanilla, resnet32") != index("okddip/table2", "resnet32/baseline")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_experiment_is_trained_twice_under_two_names(profile):
    folders = defaultdict(set)
    for name in STUDIES:
        study = find_study(name, profile)
        for variant in study.variants:
            stem = folder_stem(study, variant)
            folders[stem.rpartition("-")[2]].add(stem)
    assert [stems for stems in folders.values() if len(stems) > 1] == []


def test_a_selection_keeps_what_its_numbers_are_compared_with():
    study = select(find_study("okddip/table2", "cpu"), ["resnet32"], ["one"])
    assert [(e.row, e.column) for e in study.entries] == [("resnet32", "baseline"), ("resnet32", "one")]
    assert list(study.variants) == ["resnet32/baseline", "resnet32/one"]
    whole = find_study("okddip/table2", "cpu")
    assert select(whole) == whole
    assert select(whole, ["resnet32"]).columns == whole.columns
    by_method = select(whole, methods=["okddip"])
    assert by_method.columns == ("baseline", "okddip_network", "okddip_branch")
    assert select(whole, methods=["ind"]).columns == ("baseline", "ind", "ind_networks")
    assert len(by_method.rows) == 5


def test_a_selection_keeps_the_teachers_before_their_pupils():
    whole = find_study("kdcl/table7", "smoke")
    study = select(whole, methods=["kd"])
    assert [(e.row, e.column) for e in study.entries] == [
        ("vanilla", "resnet32"), ("vanilla", "wrn16_2"), ("2_distill_1", "resnet32"), ("1_distill_2", "wrn16_2"),
    ]  # fmt: skip
    alone = select(whole, ["2_distill_1"], ["kd"])
    assert list(alone.variants) == ["vanilla, resnet32", "vanilla, wrn16_2", "2_distill_1, resnet32"]
    assert alone.variants["2_distill_1, resnet32"].teacher == "vanilla, wrn16_2"
    assert [(e.row, e.column) for e in alone.entries] == [("vanilla", "resnet32"), ("2_distill_1", "resnet32")]


def test_unknown_names_are_refused_in_one_sentence():
    study = find_study("okddip/table2", "smoke")
    assert refusal(find_study, "okddip/table22", "smoke").startswith(
        "unknown study 'okddip/table22': did you mean 'okddip/table2'"
    )
    assert refusal(find_study, "okddip/table2", "cup") == "unknown profile 'cup': did you mean 'cpu'?"
    assert refusal(select, study, ["resnet33"]).startswith(
        "unknown row of okddip/table2 'resnet33': did you mean 'resnet32'"
    )
    assert refusal(select, study, [], ["dmll"]).startswith("unknown method of okddip/table2 'dmll': did you mean 'dml'")
    nothing = refusal(select, find_study("kdcl/table7", "smoke"), ["2_distill_1"], ["dml"])
    assert nothing == "kdcl/table7 has no number for 2_distill_1, dml: see 'codistill study list'."


def test_a_configuration_that_makes_no_sense_is_refused_before_anything_runs():
    study = study_of(dataclasses.replace(BASE, method="dml"))
    assert refusal(make_run_list, [study], 1, Path()).startswith("peers 1: the method 'dml' needs at least 2")


def test_the_profile_for_a_gpu_trains_the_papers_networks_on_other_data_in_bf16():
    ours = find_study("okddip/table2", "gpu")
    assert set(ours.networks) == set(ours.networks.values())
    config = ours.variants["resnet32/dml"].config
    chosen = (config.data, config.image_size, config.epochs, config.batch_size, config.amp, config.train_subset)
    assert chosen == ("glyphs", 32, 40, 128, "bf16", None)
    # The choice is by measured times, so that graphs are tried.
    assert not config.deterministic
    assert find_study("okddip/table1", "gpu").variants["resnet32/dml"].config.data == "fashion_mnist"
    assert find_study("kdcl/table2", "gpu").networks == {"resnet50": "resnet110", "resnet18": "resnet20"}
