"""What a run promises: the same numbers again, an honest protocol, nothing lost."""

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from codistill import reports
from codistill.config import NOTHING, identity
from codistill.data import normalise
from codistill.errors import UserError
from codistill.export import export_student
from codistill.rundir import SUMMARY, Epoch, Summary, read_epochs, read_record
from codistill.training import OptimConfig, load_group, load_student, read_config, resume, train
from codistill.training.checkpoint import latest
from codistill.training.dry_run import dry_run
from codistill.training.evaluate import evaluate_run
from codistill.training.reopen import _refuse_edited


def metrics_of(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    timeless = ("seconds", "images_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in timeless} for line in lines]


def weights_of(run_dir):
    return load_file(latest(run_dir) / "weights.safetensors")


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class StopAfter:
    def __init__(self, epochs):
        self.epochs = epochs

    def on_step(self, session, step, steps):
        if session.epoch == self.epochs and step == steps // 2:
            raise KeyboardInterrupt


def test_a_run_directory_holds_what_the_documentation_says(finished_run):
    assert {p.name for p in finished_run.iterdir()} >= {
        "config.yaml",
        "input.json",
        "metrics.jsonl",
        "summary.json",
        "checkpoints",
    }
    names = sorted(p.name for p in (finished_run / "checkpoints").iterdir())
    # The one before the last one is of the epoch before, or older where that was still being written.
    assert names[1:] == ["epoch_0003", "selected"]
    assert names[0].startswith("epoch_000")
    summary = json.loads((finished_run / "summary.json").read_text())
    assert [m["epoch"] for m in metrics_of(finished_run)] == [1, 2, 3]
    assert summary["last"]["epoch"] == 3
    assert summary["headline"] == "leader"
    assert summary["leader"] == {"peer": 2, "rule": "group leader"}
    assert summary["images"] == {"train": 360, "validation": 40, "held_out": 0, "test": 100}
    assert summary["parameters"]["deployed"] == 6 * 9 + 6 + 12 + 24 * 10 + 10
    attention = torch.tensor(metrics_of(finished_run)[0]["diagnostics"]["attention"])
    assert attention.shape == (2, 2)
    assert torch.allclose(attention.sum(1), torch.ones(2))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(quick, digits, finished_run, tmp_path):
    train(dataclasses.replace(quick, out=tmp_path / "again"), dataset=digits)
    assert metrics_of(tmp_path / "again") == metrics_of(finished_run)
    assert same_weights(weights_of(tmp_path / "again"), weights_of(finished_run))
    train(dataclasses.replace(quick, out=tmp_path / "other", seed=1), dataset=digits)
    assert metrics_of(tmp_path / "other")[0] != metrics_of(finished_run)[0]


def test_the_written_configuration_repeats_the_run(digits, finished_run, tmp_path):
    config = read_config(finished_run / "config.yaml")
    train(dataclasses.replace(config, out=tmp_path / "again"), dataset=digits)
    assert metrics_of(tmp_path / "again") == metrics_of(finished_run)


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_an_interrupted_run_resumes_to_the_same_numbers_to_the_bit(quick, digits, finished_run, tmp_path, stop):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(quick, out=out), dataset=digits, observers=[StopAfter(stop)])
    assert len(metrics_of(out) if stop else []) == stop
    assert not (out / "summary.json").exists()
    torch.rand(17)
    result = resume(out, dataset=digits)
    assert metrics_of(out) == metrics_of(finished_run)
    assert same_weights(weights_of(out), weights_of(finished_run))
    assert result.summary["last"] == json.loads((finished_run / "summary.json").read_text())["last"]


def test_a_kill_between_log_and_checkpoint_leaves_no_double_line(quick, digits, finished_run, tmp_path, monkeypatch):
    def stopped_in_the_second_epoch(self):
        if self._session.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("codistill.training.saver.Saver.after_epoch", stopped_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(quick, out=tmp_path / "run"), dataset=digits)
    monkeypatch.undo()
    assert len(metrics_of(tmp_path / "run")) == 2
    resume(tmp_path / "run", dataset=digits)
    assert metrics_of(tmp_path / "run") == metrics_of(finished_run)


def test_resuming_a_finished_run_gives_its_results_back(digits, finished_run):
    before = metrics_of(finished_run)
    assert resume(finished_run, dataset=digits).summary["kind"] == "codistill-run"
    assert metrics_of(finished_run) == before


def test_a_run_from_before_a_setting_existed_goes_on(finished_run):
    config = read_config(finished_run / "config.yaml")
    began_with = json.loads(identity(config))
    del began_with["classifier"], began_with["augment"]["flip"], began_with["optim"]["gamma"]
    changed = dict(began_with, augment=dict(began_with["augment"], crop_padding=3))
    unflipped = dataclasses.replace(config, augment=dataclasses.replace(config.augment, flip=None))
    _refuse_edited(unflipped, {"config": json.dumps(began_with), "epoch": 3}, finished_run)
    with pytest.raises(UserError, match="augment"):
        _refuse_edited(unflipped, {"config": json.dumps(changed), "epoch": 3}, finished_run)


def test_an_edited_configuration_is_not_resumed(quick, digits, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(quick, out=out), dataset=digits, observers=[StopAfter(1)])
    text = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(text.replace("batch_size: 64", "batch_size: 32"))
    with pytest.raises(UserError, match=r"was edited after the run began \(changed: batch_size") as caught:
        resume(out, dataset=digits)
    assert "64" in str(caught.value)
    (out / "config.yaml").write_text(text.replace("lr: 0.05", "lr: 0.06"))
    with pytest.raises(UserError, match=r"\(changed: optim; it began with .*'lr': 0.05"):
        resume(out, dataset=digits)


def test_settings_that_change_no_number_may_be_edited_before_a_resume(quick, digits, finished_run, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(quick, out=out), dataset=digits, observers=[StopAfter(1)])
    config = yaml.safe_load((out / "config.yaml").read_text())
    edited = {"download": False, "data_dir": "/moved", "workers": 1, "label": "mine", "out": "elsewhere"}
    edited |= {"keep": 5, "save_steps": 3, "save_minutes": None, "worker_timeout": 60.0, "rank_timeout": 60.0}
    # A folder of these data, links in it, a recipe's name, and packages that may be missing.
    assert edited.keys() | {"validation_dir", "follow_links", "recipe", "logger"} == NOTHING
    (out / "config.yaml").write_text(yaml.safe_dump({**config, **edited}))
    assert resume(str(out), dataset=digits).run_dir == out
    assert metrics_of(out) == metrics_of(finished_run)


def test_run_directories_are_given_as_text_or_paths(finished_run, digits, tmp_path):
    text = str(finished_run)
    assert resume(text, dataset=digits).run_dir == finished_run
    assert evaluate_run(text, dataset=digits)["images"] == 100
    assert load_group(text)[1].shape == load_group(finished_run)[1].shape
    a, b = load_student(text).state_dict(), load_student(finished_run).state_dict()
    assert same_weights(a, b)
    assert export_student(text, str(tmp_path / "export")) == tmp_path / "export"
    assert read_config(f"{text}/config.yaml") == read_config(finished_run / "config.yaml")


def test_observers_get_the_records_that_are_written(quick, digits, tmp_path):
    epochs, ends = [], []

    class Note:
        def on_epoch(self, session, record):
            epochs.append(record)

        def on_end(self, session, summary):
            ends.append(summary)

    result = train(dataclasses.replace(quick, out=tmp_path / "run"), dataset=digits, observers=[Note()])
    assert tuple(epochs) == read_epochs(tmp_path / "run", complete=True)
    assert ends == [read_record(tmp_path / "run" / SUMMARY, Summary)]
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written == {**result.summary, "sha256": written["sha256"]}


def test_files_have_their_entries_in_the_order_of_the_documentation(finished_run):
    line = json.loads((finished_run / "metrics.jsonl").read_text().splitlines()[0])
    assert list(line) == [f.name for f in dataclasses.fields(Epoch)]
    text = (Path(__file__).parents[2] / "docs" / "run-directory.md").read_text()
    for name, heading in (("summary.json", "## summary.json"), ("input.json", "| `input.json` |")):
        documented = text.partition(heading)[2]
        names = list(json.loads((finished_run / name).read_text()))[2 if name == "summary.json" else 1 :]
        places = [documented.find(f'"{key}"' if name == "summary.json" else f"`{key}`") for key in names]
        assert places == sorted(places), name
        assert min(places) >= 0, name


def test_a_damaged_checkpoint_is_refused_by_name(quick, digits, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(quick, out=out), dataset=digits, observers=[StopAfter(0)])
    weights = latest(out) / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"weights\.safetensors is damaged"):
        resume(out, dataset=digits)
    weights.write_bytes(whole)
    (latest(out) / "state.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        resume(out, dataset=digits)


def test_a_used_folder_is_refused_and_overwritten_only_when_asked(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path / "run", epochs=1)
    train(config, dataset=digits)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds a run"):
        train(config, dataset=digits)
    train(dataclasses.replace(config, seed=5), dataset=digits, overwrite=True)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["seed"] == 5
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\): give another --out"):
        train(dataclasses.replace(config, out=tmp_path / ("x" * 300)), dataset=digits)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        train(dataclasses.replace(config, out=tmp_path / "file"), dataset=digits)


def test_a_refused_run_writes_nothing(quick, digits, tmp_path):
    with pytest.raises(UserError, match="batch_size 361 with 360 training images"):
        train(dataclasses.replace(quick, out=tmp_path / "run", batch_size=361), dataset=digits)
    with pytest.raises(UserError, match="unknown option of okddip 'temprature': did you mean 'temperature'"):
        train(dataclasses.replace(quick, out=tmp_path / "run", method_options={"temprature": 2}), dataset=digits)
    assert not (tmp_path / "run").exists()


def test_the_test_set_has_no_say_in_training_or_selection(quick, digits, finished_run, tmp_path):
    shuffled = dataclasses.replace(digits.test, labels_N=digits.test.labels_N.flip(0))
    train(dataclasses.replace(quick, out=tmp_path / "run"), dataset=dataclasses.replace(digits, test=shuffled))
    assert metrics_of(tmp_path / "run") == metrics_of(finished_run)
    ours, theirs = (json.loads((d / "summary.json").read_text()) for d in (tmp_path / "run", finished_run))
    assert ours["selected"]["epoch"] == theirs["selected"]["epoch"]
    assert ours["leader"] == theirs["leader"]
    assert ours["last"]["test"]["leader"]["top1_error"] > theirs["last"]["test"]["leader"]["top1_error"]


def test_the_test_images_are_first_read_after_the_last_epoch(quick, digits, tmp_path):
    order = []

    class Watched(type(digits.test)):
        def __getattribute__(self, name):
            if name == "images_NCHW":
                order.append("test")
            return super().__getattribute__(name)

    class Note:
        def on_epoch(self, session, record):
            order.append(session.epoch)

    test = Watched(digits.test.images_NCHW, digits.test.labels_N)
    dataset = dataclasses.replace(digits, test=test)
    order.clear()
    train(dataclasses.replace(quick, out=tmp_path / "run"), dataset=dataset, observers=[Note()])
    assert order[:3] == [1, 2, 3]
    assert "test" in order[3:]


def test_the_selected_epoch_is_the_one_with_the_lowest_validation_error(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    leaders = [m["validation"]["leader"] for m in metrics_of(finished_run)]
    scores = [(score["top1_error"], score["nll"]) for score in leaders]
    assert summary["selected"]["epoch"] == 1 + scores.index(min(scores))
    assert summary["selected"]["validation"]["leader"]["top1_error"] == min(scores)[0]


def test_training_goes_on_in_training_mode_after_validation(quick, digits, tmp_path):
    modes = []

    class Modes:
        def on_step(self, session, step, steps):
            modes.append(session.executor.group.training and session.executor.method.training)

    train(dataclasses.replace(quick, out=tmp_path / "run"), dataset=digits, observers=[Modes()])
    assert len(modes) == 3 * (360 // 64)
    assert all(modes)


def test_the_callers_random_state_and_threads_are_left_alone(quick, digits, tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(dataclasses.replace(quick, out=tmp_path / "run", epochs=1, threads=1), dataset=digits)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_peers_start_apart_and_stay_apart(quick, digits, tmp_path):
    starts = []

    class Start:
        def on_start(self, session):
            starts.extend(session.executor.group.student(p).state_dict()["0.weight"].clone() for p in range(3))

    config = dataclasses.replace(quick, out=tmp_path / "run", epochs=1)
    train(config, dataset=digits, observers=[Start()])
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])
    assert metrics_of(tmp_path / "run")[0]["validation"]["diversity"]["distance"] > 0


def test_students_of_one_run_get_different_views_under_icl_and_the_same_without(quick, digits, tmp_path):
    from codistill.training.batches import training_batches
    from codistill.training.build import build_session

    session = build_session(dataclasses.replace(quick, out=tmp_path / "run", icl=True), digits)
    views = next(training_batches(session)).views
    assert len(views) == 3
    assert not torch.equal(views[0], views[1])
    session = build_session(dataclasses.replace(quick, out=tmp_path / "run", icl=False), digits)
    assert isinstance(next(training_batches(session)).views, torch.Tensor)


def test_diverged_training_stops_in_one_sentence_and_keeps_the_last_good_epoch(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path / "run", method="ind", optim=OptimConfig(lr=1e30))
    with pytest.raises(UserError, match="diverged"):
        train(config, dataset=digits)
    assert latest(tmp_path / "run").name == "epoch_0000"


@pytest.mark.parametrize("method", ["ind", "kdcl_general"])
def test_a_divergence_in_the_last_step_of_an_epoch_is_reported_as_one(method, quick, digits, tmp_path):
    class Diverge:
        def on_step(self, session, step, steps):
            if session.epoch == 1 and step == steps:
                with torch.no_grad():
                    next(session.executor.group.parameters()).fill_(float("nan"))

    config = dataclasses.replace(quick, out=tmp_path / "run", method=method)
    with pytest.raises(UserError, match="the loss of epoch 2 on images kept aside is nan: training has diverged"):
        train(config, dataset=digits, observers=[Diverge()])
    assert latest(tmp_path / "run").name == "epoch_0001"


def test_a_run_is_not_trained_over_its_own_teacher(quick, digits, tmp_path):
    train(dataclasses.replace(quick, out=tmp_path / "run", method="ind", epochs=1), dataset=digits)
    config = dataclasses.replace(quick, out=tmp_path / "run", method="kd", teachers=(f"{tmp_path}/x/../run",))
    with pytest.raises(UserError, match="is the teacher of this run"):
        train(config, dataset=digits, overwrite=True)
    assert load_student(tmp_path / "run") is not None


def test_mixed_precision_trains_the_networks_in_bfloat16_and_the_method_in_fp32(quick, digits, tmp_path):
    kinds = set()

    class Kinds:
        def on_start(self, session):
            plain = session.executor._run

            def watched(*args):
                outputs = plain(*args)
                kinds.add(outputs.logits_PBC.dtype)
                return outputs

            session.executor._run = watched

    config = dataclasses.replace(quick, out=tmp_path / "run", amp="bf16")
    result = train(config, dataset=digits, observers=[Kinds()])
    assert kinds == {torch.bfloat16}
    assert result.test_error < 80


def test_a_subset_trains_on_that_many_images(quick, digits, tmp_path):
    result = train(dataclasses.replace(quick, out=tmp_path / "run", epochs=1, train_subset=128), dataset=digits)
    assert result.summary["images"]["train"] == 128
    assert result.summary["images"]["validation"] == 40


def test_without_a_group_leader_the_headline_is_the_mean_and_validation_names_the_student(quick, digits, tmp_path):
    result = train(dataclasses.replace(quick, out=tmp_path / "run", method="dml", epochs=2), dataset=digits)
    summary = result.summary
    assert summary["headline"] == "mean"
    assert summary["leader"]["rule"] == "lowest validation error"
    errors = [(p["top1_error"], p["nll"]) for p in summary["last"]["validation"]["peers"]]
    assert summary["leader"]["peer"] == errors.index(min(errors))
    assert result.test_error == summary["last"]["test"]["mean"]["top1_error"]


def test_the_student_to_deploy_is_chosen_on_validation_even_where_another_is_better_on_test(quick, digits, tmp_path):
    config = dataclasses.replace(quick, method="dml", epochs=2)
    leader = train(dataclasses.replace(config, out=tmp_path / "a"), dataset=digits).summary["leader"]["peer"]
    other = (leader + 1) % 3
    images = normalise(digits.test.images_NCHW, digits.mean, digits.std, "cpu")
    with torch.no_grad():
        predicted = load_student(tmp_path / "a", peer=other)(images).argmax(1)
    flattering = dataclasses.replace(digits, test=dataclasses.replace(digits.test, labels_N=predicted))
    summary = train(dataclasses.replace(config, out=tmp_path / "b"), dataset=flattering).summary
    assert summary["last"]["test"]["peers"][other]["top1_error"] == 0
    assert summary["last"]["test"]["peers"][leader]["top1_error"] > 0
    assert summary["leader"]["peer"] == summary["last"]["test"]["leader_peer"] == leader


@pytest.mark.parametrize("checkpoint", ["last", "selected"])
def test_a_run_scores_again_as_its_summary_says(finished_run, digits, checkpoint):
    summary = json.loads((finished_run / "summary.json").read_text())
    assert evaluate_run(finished_run, checkpoint=checkpoint, dataset=digits) == summary[checkpoint]["test"]
    again = evaluate_run(finished_run, checkpoint=checkpoint, split="validation", dataset=digits)
    assert again == summary[checkpoint]["validation"]


def test_a_loaded_student_is_the_plain_network_and_predicts_as_in_the_group(finished_run, digits):
    _, group, _, facts = load_group(finished_run)
    images = torch.randn(9, facts.channels, facts.height, facts.width)
    with torch.no_grad():
        logits = group(images).logits_PBC
        assert torch.equal(load_student(finished_run)(images), logits[2])
        assert torch.equal(load_student(finished_run, peer=0)(images), logits[0])
    assert type(load_student(finished_run)) is torch.nn.Sequential
    with pytest.raises(UserError, match="students 0 to 2"):
        load_student(finished_run, peer=3)
    with pytest.raises(UserError, match="give 'leader' or an index"):
        load_student(finished_run, peer="boss")
    with pytest.raises(UserError, match="checkpoint 'best'"):
        load_student(finished_run, checkpoint="best")
    with pytest.raises(UserError, match="peer None: give 'leader' or an index from 0 to 2"):
        load_student(finished_run, peer=None)
    for wrong in (5, None, b"run"):
        with pytest.raises(UserError, match=f"run_dir is a {type(wrong).__name__}: give the path of a run directory"):
            load_student(wrong)


def test_options_of_a_finished_run_are_said_to_change_nothing(finished_run):
    with pytest.warns(UserWarning, match=r"is finished: device, logger changed nothing"):
        resume(finished_run, device="cpu", logger=())


def test_advice_on_the_number_of_peers_is_given_before_training_and_not_for_a_trained_student(
    quick, digits, finished_run, tmp_path
):
    with pytest.warns(UserWarning, match="okddip with 3 peers: .* give one peer more"):
        train(dataclasses.replace(quick, out=tmp_path / "run", epochs=1), dataset=digits)
    with pytest.warns(UserWarning, match="okddip with 3 peers: .* give one peer more"):
        dry_run(quick)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_student(finished_run)
        evaluate_run(finished_run, dataset=digits)
        export_student(finished_run, tmp_path / "export", dataset=digits)


def test_a_run_learns_the_same_where_gradients_are_switched_off(quick, digits, tmp_path):
    config = dataclasses.replace(quick, epochs=2)
    train(dataclasses.replace(config, out=tmp_path / "a"), dataset=digits)
    with torch.no_grad():
        with pytest.raises(KeyboardInterrupt):
            train(dataclasses.replace(config, out=tmp_path / "b"), dataset=digits, observers=[StopAfter(1)])
        resume(tmp_path / "b", dataset=digits)
        assert not torch.is_grad_enabled()
    assert same_weights(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    with torch.inference_mode():
        with pytest.raises(UserError, match=r"train inside torch\.inference_mode\(\): .* call train outside of it"):
            train(dataclasses.replace(config, out=tmp_path / "c"), dataset=digits)
        assert resume(tmp_path / "b", dataset=digits).summary["epochs"] == 2
    assert not (tmp_path / "c").exists()


def test_another_default_device_of_torch_is_refused(quick, digits, tmp_path):
    text = r"^train with meta as torch's default device: .*; call torch\.set_default_device\('cpu'\) before\.$"
    with torch.device("meta"), pytest.raises(UserError, match=text):
        train(dataclasses.replace(quick, out=tmp_path / "run"), dataset=digits)
    assert not (tmp_path / "run").exists()


def test_branches_share_a_trunk_and_give_plain_students(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path / "run", group="branches", split="4", epochs=1)
    result = train(config, dataset=digits)
    assert result.summary["parameters"]["deployed"] == 6 * 9 + 6 + 12 + 24 * 10 + 10
    first, second = (load_student(tmp_path / "run", peer=p).state_dict() for p in (0, 1))
    assert torch.equal(first["0.weight"], second["0.weight"])
    assert not torch.equal(first["6.weight"], second["6.weight"])


def test_alternating_updates_train_every_student_alone(quick, digits, tmp_path):
    options = {"updates": "alternating"}
    config = dataclasses.replace(quick, out=tmp_path / "run", method="dml", epochs=2, method_options=options)
    result = train(config, dataset=digits)
    assert result.summary["last"]["validation"]["mean"]["top1_error"] < 85


def test_kdcl_general_renews_its_weights_from_held_out_training_images(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path / "run", method="kdcl_general", epochs=2)
    result = train(config, dataset=digits)
    assert result.summary["images"]["held_out"] == 36
    assert result.summary["images"]["train"] == 324
    first, second = (m["diagnostics"]["weights"] for m in metrics_of(tmp_path / "run"))
    assert first == pytest.approx([1 / 3] * 3)
    assert second != pytest.approx([1 / 3] * 3)
    assert sum(second) == pytest.approx(1)


def test_images_held_out_are_taken_from_the_subset_that_every_method_learns_from(quick, digits, tmp_path):
    config = dataclasses.replace(quick, out=tmp_path / "run", method="kdcl_general", epochs=1, train_subset=200)
    images = train(config, dataset=digits).summary["images"]
    assert (images["train"], images["held_out"]) == (180, 20)


def test_kd_learns_from_a_finished_run_and_from_an_exported_student_alike(quick, digits, finished_run, tmp_path):
    exported = export_student(finished_run, tmp_path / "export")
    ends = []
    for name, teacher in (("a", finished_run), ("b", exported)):
        out = tmp_path / name
        teachers = (str(teacher),)
        train(dataclasses.replace(quick, out=out, method="kd", peers=1, teachers=teachers, epochs=2), dataset=digits)
        ends.append(metrics_of(out))
        assert ends[-1][0]["train"]["parts"]["kd"] > 0
        assert not any("teacher" in name for name in weights_of(out))
    assert ends[0] == ends[1]
    assert type(load_student(tmp_path / "a")) is torch.nn.Sequential
    with pytest.raises(UserError, match="no finished run and no exported student"):
        train(dataclasses.replace(quick, out=tmp_path / "c", method="kd", peers=1, teachers=("nowhere",)))


def test_a_resumed_kd_run_ends_like_an_uninterrupted_one(quick, digits, finished_run, tmp_path):
    config = dataclasses.replace(quick, method="kd", peers=1, teachers=(str(finished_run),), epochs=2)
    train(dataclasses.replace(config, out=tmp_path / "whole"), dataset=digits)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, out=tmp_path / "cut"), dataset=digits, observers=[StopAfter(1)])
    resume(tmp_path / "cut", dataset=digits)
    assert same_weights(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


def test_heads_on_a_tree_train_and_share_what_lies_before_their_fork(quick, digits, tmp_path):
    config = dataclasses.replace(
        quick, out=tmp_path / "run", method="clnn", model="resnet8_tiny", group="tree", split="layer2:2,layer3:2",
        peers=None, epochs=1,
    )  # fmt: skip
    result = train(config, dataset=digits)
    assert result.summary["label"] == "clnn, tree"
    heads = [load_student(tmp_path / "run", peer=p).state_dict() for p in range(4)]
    assert torch.equal(heads[0]["layer1.0.conv1.weight"], heads[3]["layer1.0.conv1.weight"])
    assert torch.equal(heads[0]["layer2.0.conv1.weight"], heads[1]["layer2.0.conv1.weight"])
    assert not torch.equal(heads[1]["layer2.0.conv1.weight"], heads[2]["layer2.0.conv1.weight"])
    assert not torch.equal(heads[0]["fc.weight"], heads[1]["fc.weight"])


def test_a_kept_last_batch_is_trained_on_and_resumes_to_the_bit(quick, digits, tmp_path):
    # 360 training images: five batches of 64 and one of 40.
    steps = []

    class Count:
        def on_step(self, session, step, steps_of_epoch):
            assert steps_of_epoch == 6
            steps.append(step)

    keep = dataclasses.replace(quick, last_batch="keep", validation=0.1, out=tmp_path / "whole")
    result = train(keep, dataset=digits, observers=[Count()])
    assert steps == [1, 2, 3, 4, 5, 6] * 3
    assert result.summary["images"]["train"] == 360
    cut = dataclasses.replace(keep, out=tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        train(cut, dataset=digits, observers=[StopAfter(1)])
    resume(cut.out, dataset=digits)
    assert metrics_of(keep.out) == metrics_of(cut.out)
    assert same_weights(weights_of(keep.out), weights_of(cut.out))


def test_the_features_that_a_run_names_are_read_and_kept_in_its_configuration(quick, digits, tmp_path):
    own = dataclasses.replace(quick, model=("vgg8_tiny",), peers=4, epochs=1, out=tmp_path / "own")
    last = dataclasses.replace(own, features="fc", out=tmp_path / "fc")
    losses = []
    for config in (own, last):
        train(config, dataset=digits)
        losses.append(metrics_of(config.out)[0]["train"]["parts"]["dis1"])
    assert losses[0] != losses[1]
    assert read_config(last.out / "config.yaml").features == "fc"


def test_concerns_are_written_shown_and_said_once_over_a_resume(quick, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("codistill.methods.okddip.SATURATED", 0.0)
    config = dataclasses.replace(quick, method_options={"include_self": True}, out=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset=digits, observers=[StopAfter(1)])
    result = resume(config.out, dataset=digits)
    # Short as it is, the run may have other concerns.
    said = [[text for text in line["concerns"] if "attention" in text] for line in metrics_of(config.out)]
    assert [len(texts) for texts in said] == [1, 0, 0]
    assert [c for c in result.summary["concerns"] if "attention" in c["text"]] == [{"epoch": 1, "text": said[0][0]}]
    page = reports.write_report([reports.read_run(config.out)], tmp_path / "report.html").read_text()
    assert "Look at this; training went on" in page
    assert f"Epoch 1: {said[0][0]}.".replace("'", "&#39;") in page
