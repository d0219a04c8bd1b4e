"""`codistill compare` with real runs: what it trains, keeps, continues, tunes, writes and refuses."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from codistill.cli import main
from codistill.compare import preflight
from codistill.studies import local, one_run

SHORT = [
    "--data", "digits", "--train-subset", "60", "--validation", "0.2", "--model", "resnet8_tiny", "--peers", "2",
    "--batch-size", "30", "--epochs", "1", "--optim.lr", "0.05", "--device", "cpu", "--jobs", "1",
    "--executor", "loop",
]  # fmt: skip


class InThisProcess(ThreadPoolExecutor):
    """Stands for a pool of one process where a test is not about processes, which take seconds to start."""

    def __init__(self):
        super().__init__(1)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setattr(local, "_new_pool", InThisProcess)


def compare(*arguments):
    """The exit code of `codistill compare`."""
    try:
        main(["compare", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def ends(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/summary.json")}


def record_of(folder):
    return json.loads((folder / "comparison.json").read_text())


def test_an_interrupted_comparison_has_an_answer_and_the_same_command_finishes_it(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = [*SHORT, "--methods", "dml", "--seeds", "2", "--out", out]
    train, trained = one_run.train, []

    def interrupted(config, **keywords):
        if len(trained) == 3:
            raise SystemExit("stands for a signal")
        trained.append(config.out)
        return train(config, **keywords)

    assert compare(*command, "--dry-run") == 0
    assert "4 of 4 runs to do; nothing was run" in capsys.readouterr().out
    assert not out.exists()

    with monkeypatch.context() as patch:
        patch.setattr(one_run, "train", interrupted)
        assert compare(*command) != 0
    first = ends(out)
    assert sorted(first) == ["alone-seed0", "alone-seed1", "dml-seed0"]
    assert record_of(out)["gains"][0]["less_error_points"]["values"]
    assert "Not finished: 3 of 4 runs are done." in (out / "report.html").read_text()
    capsys.readouterr()

    assert compare(*command) == 0
    screen = capsys.readouterr().out
    assert screen.count("finished by an earlier call") == 3
    assert {name: time for name, time in ends(out).items() if name in first} == first
    record = record_of(out)
    (gain,) = record["gains"]
    errors = {v["name"]: v["error_percent"]["values"] for v in record["variants"]}
    expected = [a - b for a, b in zip(errors["alone"], errors["dml"], strict=True)]
    assert gain["less_error_points"]["values"] == pytest.approx(expected)
    summary = json.loads((out / "runs" / "dml-seed1" / "summary.json").read_text())
    assert errors["dml"][1] == summary["last"]["test"]["leader"]["top1_error"]
    assert record["deployed_network"]["milliseconds"] > 0
    page = " ".join((out / "report.html").read_text().split())
    for line in ("The network alone had an error of", "With 2 seeds, dml had"):
        assert line in screen
        assert line in page
    command_to_deploy = screen.partition(": codistill export ")[2].split()[0]
    assert (tmp_path / command_to_deploy / "summary.json").is_file()
    assert (out / "comparison.csv").read_text().count("\n") == 3

    # More seeds and methods go on from there.
    assert compare(*command, "--seeds", "3", "--methods", "dml", "okddip,group=branches") == 0
    assert {name: time for name, time in ends(out).items() if name in first} == first
    assert len(ends(out)) == 9


def test_tuning_takes_the_best_by_validation_into_the_runs(tmp_path, capsys):
    out = tmp_path / "out"
    command = [*SHORT, "--methods", "dml,target=mean", "--seeds", "1", "--tune", "--out", out]
    assert compare(*command) == 0
    screen = capsys.readouterr().out
    assert "One seed says nothing about chance" in screen
    assert "which is none of the seeds compared. The search reads no test result" in screen
    tried = {path.parent.name: json.loads(path.read_text()) for path in out.glob("tuning/*/summary.json")}
    assert {summary["seed"] for summary in tried.values()} == {1000}
    best = min(
        tried.values(), key=lambda s: [s["last"]["validation"]["leader"][name] for name in ("top1_error", "nll")]
    )
    settings = yaml.safe_load((out / "runs" / "dml-target-mean-seed0" / "config.yaml").read_text())
    options = {k: v for k, v in settings["method_options"].items() if k != "target"}
    (choice,) = record_of(out)["tuning"]
    assert choice["options"] == options
    assert min(choice["tried"], key=lambda one: one[1])[1] == best["last"]["validation"]["leader"]["top1_error"]
    assert len(choice["tried"]) == len(tried)

    assert compare(*command) == 0
    assert capsys.readouterr().out.count("finished by an earlier call") == len(tried) + 2
    assert compare(*[one for one in command if one != "--tune"]) == 2
    assert "holds another comparison (search: tune true there, false here)" in capsys.readouterr().err


def test_equal_compute_trains_the_network_alone_for_as_much_arithmetic(tmp_path, capsys):
    assert compare(*SHORT, "--methods", "dml", "--seeds", "1", "--equal-compute", "--out", tmp_path) == 0
    assert sorted(ends(tmp_path)) == [
        "alone-2-epochs-seed0", "alone-averaged-weights-seed0", "alone-label-smoothing-seed0", "alone-seed0",
        "dml-seed0",
    ]  # fmt: skip
    screen = capsys.readouterr().out
    assert "The arithmetic of dml is 2.0 times that of the network alone, which is worth alone, 2 epochs." in screen
    assert len(record_of(tmp_path)["equal_compute"]) == 3


def test_every_variant_is_built_before_anything_is_trained(tmp_path, monkeypatch):
    built, build = [], preflight.build_session
    monkeypatch.setattr(
        preflight, "build_session", lambda config, data: [built.append(config.label), build(config, data)][1]
    )
    assert compare(*SHORT, "--methods", "dml", "--equal-compute", "--dry-run", "--out", tmp_path / "out") == 0
    assert built == ["alone", "dml", "alone, label smoothing", "alone, averaged weights", "alone, 2 epochs"]


def test_set_moves_the_first_seed_and_the_folder(tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(*SHORT, "--methods", "dml", "--seeds", "2", "--dry-run", "--set", "seed=3", f"out={out}") == 0
    runs = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("to run")]
    assert runs == [str(out / "runs" / f"{name}-seed{seed}") for seed in (3, 4) for name in ("alone", "dml")]


def test_a_configuration_file_gives_the_seed_and_neither_folder_nor_label_nor_method(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(f"method: okddip\nlabel: foo\nseed: 7\nout: {tmp_path / 'run'}\n")
    asked = [*SHORT, "--config", file, "--methods", "dml", "--seeds", "1", "--dry-run"]
    for more, seed in ([], 7), (["--set", "seed=1"], 1):
        assert compare(*asked, *more) == 0
        runs = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("to run")]
        assert runs == [f"runs/compare-digits-resnet8_tiny/runs/{name}-seed{seed}" for name in ("alone", "dml")]


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        (["dml,peers=2", "dml"], "'dml, peers 2' and 'dml'"),
        (["dml", "ind", "dml,temperature=1"], "'dml' and 'dml, temperature 1'"),
        (["dml,target=pairwise", "dml"], "'dml, target pairwise' and 'dml'"),
        (
            ["okddip,peers=4", "okddip,peers=4,include_self=false"],
            "'okddip, peers 4' and 'okddip, peers 4, include_self false'",
        ),
        (
            ["okddip,peers=4,target_epsilon=0", "okddip,peers=4"],
            "'okddip, peers 4, target_epsilon 0' and 'okddip, peers 4'",
        ),
        (["dml,temperature=3", "dml,temperature=3.0"], "'dml, temperature 3' and 'dml, temperature 3.0'"),
        (
            ["ind,group=branches", "ind,group=branches,split=layer3"],
            "'ind, branches' and 'ind, branches, split layer3'",
        ),
        (
            ["dml,icl=true", "dml,icl=true,augment.policies=[standard,standard]"],
            "'dml, ICL' and 'dml, ICL, standard standard'",
        ),
        (["kdcl_naive", "kdcl_naive,peers=2", "--tune"], "'kdcl_naive' and 'kdcl_naive, peers 2'"),
    ],
)
def test_one_variant_under_two_names_is_refused_by_its_settings(tmp_path, capsys, methods, names):
    assert compare(*SHORT, "--dry-run", "--out", tmp_path / "out", "--methods", *methods) == 2
    assert capsys.readouterr().err == (
        f"codistill: error: methods {names} have the same settings, so one variant is named twice: name each variant "
        "once.\n"
    )


@pytest.mark.parametrize("methods", [["okddip", "okddip,include_self=true"], ["okddip,include_self=false", "okddip"]])
def test_one_auxiliary_peer_has_only_itself_whatever_include_self_says(tmp_path, capsys, methods):
    assert compare(*SHORT, "--dry-run", "--out", tmp_path / "out", "--methods", *methods) == 2
    assert "have the same settings, so one variant is named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    "methods",
    [
        ["dml", "dml,temperature=2"],
        ["dml", "dml,target=mean"],
        ["ind,group=branches", "ind,group=branches,split=layer2"],
        # Tuning leaves the first one's temperature open.
        ["dml", "dml,temperature=1", "--tune"],
        ["dml", "--equal-compute"],
    ],
)
def test_variants_that_differ_in_a_setting_or_in_what_tuning_leaves_open_are_two(tmp_path, methods):
    assert compare(*SHORT, "--dry-run", "--out", tmp_path / "out", "--methods", *methods) == 0


def test_what_a_method_refuses_of_the_grid_of_tuning_is_refused_before_anything_is_trained(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from codistill import UserError\nfrom codistill.methods.independent import Independent\n\n\n"
        "class Mine(Independent):\n"
        "    def __init__(self, shape, *, weight: float = 0.5):\n"
        "        super().__init__(shape)\n"
        "        if weight > 1:\n"
        "            raise UserError(f'weight {weight}: it must be at most 1.')\n"
    )
    assert compare(*SHORT, "--methods", f"{file}:Mine", "--tune", "--dry-run", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("codistill: error: Mine: tune tries weight 2: "), error
    assert error.endswith("weight 2.0: it must be at most 1.\n"), error


def test_a_failed_run_stops_no_other_and_is_named(tmp_path, monkeypatch, capsys):
    train = one_run.train

    def failing(config, **keywords):
        if config.method == "dml":
            raise RuntimeError("no luck")
        return train(config, **keywords)

    monkeypatch.setattr(one_run, "train", failing)
    assert compare(*SHORT, "--methods", "dml", "--seeds", "1", "--out", tmp_path) == 1
    screen = capsys.readouterr().out
    assert f"failed: {tmp_path / 'runs' / 'dml-seed0' / 'log.txt'}: RuntimeError: no luck" in screen
    assert "dml: no seed is finished yet." in screen


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "one"], "methods 'one' needs students that share a trunk: name it 'one,group=branches'."),
        (["--methods", "dml,teachers=[x]"], "methods 'dml,teachers=[x]': teachers must be the same for all"),
        (["--methods", "dml", "--teacher", "nowhere"], "kd: teacher 'nowhere' is no finished run"),
        (["--methods", "dml", "--train-subset", "10"], "alone: "),
        (
            ["--methods", "dml", "--train-subset", "12", "--batch-size", "4"],
            "alone: class '0' has 1 training images: a",
        ),
        (["--methods", "dml", "--seeds", "0"], "seeds 0: give at least 2, or 3 for a conclusion."),
        (["--methods", "dml", "--jobs", "0"], "jobs 0: it must be at least 1"),
        (["--methods", "dml", "--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--methods", "ind", "--tune"], "tune: none of the methods has a temperature or weight that is left open"),
        (["--methods", "dml", "--set", "optim.lrr=1"], "unknown setting 'optim.lrr'"),
        (
            ["--methods", "dml", "--set", "label=foo"],
            "--set label=foo: each variant of a comparison is named after its",
        ),
        (
            ["--methods", "dml", "--epochs", "600000", "--equal-compute", "--dry-run"],
            "equal_compute: the arithmetic of dml is worth 1,200,000 epochs of the network alone, and a run has at "
            "most 1,000,000; give fewer --epochs, or leave --equal-compute out.",
        ),
    ],
)
def test_a_users_mistake_is_one_sentence_before_anything_runs(tmp_path, capsys, arguments, sentence):
    assert compare(*SHORT, "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"codistill: error: {sentence}"), error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
