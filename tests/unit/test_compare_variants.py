"""What is compared with what: the variants, the grid of tuning, and the refusals before anything runs."""

import dataclasses
from pathlib import Path

import pytest

from codistill.compare import CompareRequest
from codistill.compare.plan import placed, refuse_other, settings_of, threads_of
from codistill.compare.tuning import candidates, choose
from codistill.compare.variants import CHEAP, METHOD, cheap_variants, longer, make_variants, settled
from codistill.errors import UserError
from codistill.rundir import write_json


def request(*methods, **settings):
    return CompareRequest(methods=methods, model=("resnet8_tiny",), device="cpu", **settings)


def test_the_network_alone_may_be_named_and_is_there_once():
    named, unnamed = make_variants(request("baseline", "dml")), make_variants(request("dml"))
    assert named == unnamed


def test_the_network_alone_has_the_settings_of_all_but_nothing_of_a_group():
    asked = request("dml", "okddip,group=branches,split=layer3", peers=3, epochs=7, icl=True, batch_size=20)
    alone, dml, okddip = make_variants(asked)
    assert (alone.name, alone.config.method, alone.config.peers, alone.config.icl) == ("alone", "baseline", 1, False)
    assert {v.config.epochs for v in (alone, dml, okddip)} == {7}
    assert {v.config.batch_size for v in (alone, dml, okddip)} == {20}
    assert (dml.name, dml.config.peers, dml.config.group, dml.config.icl) == ("dml, ICL", 3, "networks", True)
    assert (okddip.name, okddip.config.group, okddip.config.split) == (
        "okddip, branches, ICL, split layer3", "branches", "layer3",
    )  # fmt: skip


def test_an_option_goes_to_every_method_that_has_it_and_one_of_its_own_wins():
    asked = request("dml", "okddip,temperature=4", "kdcl_naive", set=(("method_options.temperature=1.5",),))
    _, dml, okddip, naive = make_variants(asked)
    assert [v.config.method_options for v in (dml, okddip, naive)] == [
        {"temperature": 1.5}, {"temperature": 4}, {"temperature": 1.5},
    ]  # fmt: skip
    assert (dml.name, okddip.name) == ("dml", "okddip, temperature 4")


def test_what_is_given_with_set_is_what_the_options_give():
    given = ("seed=3", "out=runs/elsewhere", "data=glyphs", "threads=5", "optim.lr=0.2")
    asked = request("dml", seed=1, out=Path("runs/here"), set=((*given, "epochs=2"), ("epochs=4",)))
    plain = request("dml", seed=3, out=Path("runs/elsewhere"), data="glyphs", threads=5, epochs=4)
    assert settled(asked) == dataclasses.replace(plain, optim=dataclasses.replace(plain.optim, lr=0.2))
    assert settled(settled(asked)) == settled(asked)


def test_a_teacher_goes_to_methods_that_learn_from_one_and_adds_kd_with_one_student():
    _, dml, kd = make_variants(request("dml", teacher="runs/large", peers=3))
    assert (dml.config.teachers, dml.config.peers) == ((), 3)
    assert (kd.name, kd.config.teachers, kd.config.peers) == ("kd", ("runs/large",), 1)
    _, kd = make_variants(request("kd,weight=2", teacher="runs/large"))
    assert (kd.name, kd.config.method_options) == ("kd, weight 2", {"weight": 2})


def test_equal_compute_adds_a_smoothed_an_averaged_and_a_longer_trained_network():
    alone = make_variants(request("dml", epochs=5))[0]
    smoothed, averaged = cheap_variants(alone)
    assert (smoothed.kind, smoothed.config.label_smoothing, averaged.config.average) == (CHEAP, 0.1, 0.999)
    assert smoothed.config == dataclasses.replace(alone.config, label=smoothed.name, label_smoothing=0.1)
    assert longer(alone, 20).config == dataclasses.replace(alone.config, label="alone, 20 epochs", epochs=20)
    # What all variants have is no alternative.
    assert [v.name for v in cheap_variants(make_variants(request("dml", average=0.9))[0])] == ["alone, label smoothing"]


def test_the_grid_is_the_same_for_all_methods_and_leaves_out_what_is_set_and_what_is_default():
    asked = make_variants(request("kdcl_naive", "kdcl_linear", "okddip", "kdcl_minlogit,weight=3"))
    tried = candidates(asked)
    assert all(c.variant.kind == METHOD for c in tried)
    grids = {}
    for candidate in tried:
        grids.setdefault(candidate.variant.name, []).append(dict(candidate.options))
    naive = grids["kdcl_naive"]
    assert naive == grids["kdcl_linear"]
    # The defaults, temperature 2 and weight 1, come first and once: 1 + 3 x 3 - 1.
    assert (naive[0], len(naive)) == ({}, 9)
    assert {"temperature": 2.0, "weight": 1.0} not in naive
    assert grids["okddip"] == [{}, {"temperature": 1.0}, {"temperature": 2.0}, {"temperature": 4.0}]
    assert grids["kdcl_minlogit, weight 3"] == [{}, {"temperature": 1.0}, {"temperature": 4.0}]
    last = next(c for c in tried if c.variant.name == "kdcl_minlogit, weight 3" and c.options)
    assert last.tuned.config.method_options == {"weight": 3, "temperature": 1.0}
    assert last.name == "kdcl_minlogit, weight 3, temperature 1"


class Scored:
    """As much of a summary as the choice may read: without a test part."""

    figure = "error"

    class Leader:
        def __init__(self, error, nll):
            self.top1_error, self.nll = error, nll

        def shortfall(self, figure):
            assert figure == "error"
            return self.top1_error

    def __init__(self, error, nll=1.0):
        validation = type("Evaluation", (), {"leader": self.Leader(error, nll)})
        self.last = type("Outcome", (), {"validation": validation})


def test_the_choice_reads_validation_errors_alone_and_equal_ones_go_by_likelihood_then_to_the_defaults():
    tried = candidates(make_variants(request("okddip", "dml")))
    assert [c.name for c in tried if c.variant.name == "okddip"] == [
        "okddip", "okddip, temperature 1", "okddip, temperature 2", "okddip, temperature 4",
    ]  # fmt: skip
    okddip = [Scored(4.0), Scored(3.0, 0.9), Scored(3.0, 0.8), Scored(5.0)]
    rest = [Scored(2.0)] * (len(tried) - 4)
    first, second = choose(tried, [*okddip, *rest])
    assert (first.variant, first.options) == ("okddip", {"temperature": 2.0})
    assert first.tried[0] == ("okddip, temperature 2", 3.0)
    assert (second.variant, second.options) == ("dml", {})


def test_a_run_is_named_after_its_variant_and_shares_the_cores(tmp_path):
    variant = make_variants(request("okddip,group=branches"))[1]
    config = placed(variant, 3, tmp_path, 2)
    assert (config.out, config.seed, config.threads) == (tmp_path / "okddip-branches-seed3", 3, 2)
    assert threads_of(request("dml"), 1000) == 1
    assert threads_of(request("dml", threads=5), 1) == 5


def recorded(folder, variants, images="100 + 50, labels abc", seed=0):
    record = {"version": 1, "settings": settings_of(variants), "images": images, "first_seed": seed}
    write_json(folder / "comparison.json", record)


def test_more_seeds_and_methods_are_the_same_comparison_and_other_settings_are_refused(tmp_path):
    images = "100 + 50, labels abc"
    variants = make_variants(request("dml", epochs=5))
    assert refuse_other(tmp_path, settings_of(variants), images, 0) == ()
    recorded(tmp_path, variants)
    more = make_variants(request("dml", "okddip", epochs=5, seeds=9, threads=1, out=Path("elsewhere")))
    assert refuse_other(tmp_path, settings_of(more), images, 0) == ()
    fewer = make_variants(request("okddip", epochs=5))
    assert refuse_other(tmp_path, settings_of(fewer), images, 0) == ("dml",)
    longer_ones = settings_of(make_variants(request("dml", epochs=6)))
    with pytest.raises(
        UserError, match=r"holds another comparison \(alone: epochs 5 there, 6 here\): give another --out"
    ):
        refuse_other(tmp_path, longer_ones, images, 0)
    with pytest.raises(UserError, match=r"\(of other images, 100 \+ 50, labels abc; these are 100 \+ 50, labels abd\)"):
        refuse_other(tmp_path, settings_of(variants), "100 + 50, labels abd", 0)
    with pytest.raises(UserError, match=r"\(its first seed is 0, not 1\)"):
        refuse_other(tmp_path, settings_of(variants), images, 1)


def test_a_setting_that_an_older_version_did_not_write_had_its_default(tmp_path):
    variants = make_variants(request("dml"))
    settings = settings_of(variants)
    for of_variant in settings.values():
        del of_variant["label_smoothing"]
    write_json(tmp_path / "comparison.json", {"version": 1, "settings": settings, "images": "i", "first_seed": 0})
    assert refuse_other(tmp_path, settings_of(variants), "i", 0) == ()
    smoothed = settings_of(make_variants(request("dml", label_smoothing=0.1)))
    with pytest.raises(UserError, match=r"label_smoothing 0 there, 0\.1 here"):
        refuse_other(tmp_path, smoothed, "i", 0)


@pytest.mark.parametrize(
    ("methods", "settings", "sentence"),
    [
        (["dmll"], {}, "unknown method 'dmll': did you mean 'dml'"),
        (["baseline"], {}, "no methods: name those to compare"),
        (["baseline,icl=true"], {}, "methods 'baseline,icl=true': the network alone is in every comparison as it is"),
        (["dml", "dml"], {}, "methods 'dml' is named twice"),
        ([], {}, "no methods: name those to compare"),
        (["kd"], {}, "methods 'kd' needs a teacher"),
        (["dml,epochs=9"], {}, "methods 'dml,epochs=9': epochs must be the same for all"),
        (["dml,tempreture=9"], {}, "methods 'dml,tempreture=9': tempreture must be the same for all; only group,"),
        (["dml"], {"set": (("method_options.weight=2",),)}, "unknown option of the methods compared 'weight'"),
        (["dml,peers=2,peers=3"], {}, "methods 'dml,peers=2,peers=3': peers is given twice; give each setting of a"),
        (
            ["dml,temperature=2,method_options.temperature=2"],
            {},
            "methods 'dml,temperature=2,method_options.temperature=2': temperature is given twice; give each",
        ),
        (["dml"], {"set": (("method=okddip",),)}, "--set method=okddip: a comparison takes several methods: name them"),
        (["dml"], {"set": (("epochs=1",), ("label=foo",))}, "--set label=foo: each variant of a comparison is named"),
        (["dml"], {"init": ("random", "pretrained")}, "2 starts: a comparison asks whether one network gains"),
    ],
)
def test_what_makes_no_comparison_is_refused_in_one_sentence(methods, settings, sentence):
    with pytest.raises(UserError) as refused:
        make_variants(request(*methods, **settings))
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_several_networks_are_refused():
    asked = CompareRequest(methods=("dml",), model=("resnet8_tiny", "resnet11_tiny"))
    with pytest.raises(UserError, match="2 networks: a comparison asks whether one network gains; give one --model"):
        make_variants(asked)
