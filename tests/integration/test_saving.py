"""Checkpoints: in time, whole, checked, and never of a bad state; a run goes on from each of them to the bit."""

import dataclasses
import json
import os
import shutil
import signal
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from codistill import UserError, trust
from codistill.errors import RunFailedError
from codistill.export import export_student
from codistill.rundir import sealed
from codistill.students.opening import FILES
from codistill.training import Config, resume, train
from codistill.training import saver as saving
from codistill.training.checkpoint import checkpoints, latest, read_checkpoint
from codistill.training.evaluate import evaluate_run
from codistill.training.out_folder import EXPORTED
from codistill.training.signals import Interrupted
from codistill.training.student import load_student


@pytest.fixture
def config(quick, tmp_path):
    return dataclasses.replace(
        quick, method="dml", peers=2, epochs=2, batch_size=20, executor="loop", out=tmp_path / "run"
    )


@pytest.fixture(autouse=True)
def signals_are_heard():
    """As in a terminal; a process in the background may have been told to ignore them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class At:
    """Does something once, after a step of an epoch."""

    def __init__(self, epoch, step, action):
        self.epoch, self.step, self.action, self.done = epoch, step, action, False

    def on_start(self, session): ...

    def on_step(self, session, step, steps):
        if (session.epoch, step) == (self.epoch, self.step) and not self.done:
            self.done = True
            self.action()

    def on_epoch(self, session, record): ...

    def on_end(self, session, summary): ...


def killer(number, epoch=1, step=3):
    return At(epoch, step, lambda: os.kill(os.getpid(), number))


def numbers(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds"), line.pop("images_per_second")
    summary = json.loads((run_dir / "summary.json").read_text())
    return lines, summary["last"], summary["selected"]


def equal_runs(a, b):
    assert numbers(a) == numbers(b)
    for name in (latest(a).name, "selected"):
        one, other = (load_file(run / "checkpoints" / name / "weights.safetensors") for run in (a, b))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


CASES = {
    "mixed images, balanced": {"sampler": "balanced", "augment": "cutmix"},
    "gradients of two batches": {"accumulate": 2},
    "kdcl_general": {"method": "kdcl_general", "peers": 2},
    "okddip, averages": {"method": "okddip", "peers": 3, "average": 0.9},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 6), (1, None)])
def test_a_run_that_a_signal_ended_within_an_epoch_goes_on_to_the_bit(config, digits, tmp_path, case, epoch, step):
    changes = dict(case)
    if changes.pop("augment", None):
        changes["augment"] = dataclasses.replace(config.augment, policies=("cutmix",))
    config = dataclasses.replace(config, **changes)
    whole = train(dataclasses.replace(config, out=tmp_path / "whole"), dataset=digits)
    steps = json.loads((tmp_path / "whole/summary.json").read_text())["images"]["train"] // 20
    with pytest.raises(Interrupted) as stopped:
        train(config, dataset=digits, observers=[killer(signal.SIGTERM, epoch, step or steps)])
    assert stopped.value.code == 143
    expected = (step or steps) + (step or steps) % config.accumulate
    assert latest(config.out).name == f"epoch_{epoch:04d}_step_{min(expected, steps):06d}"
    result = resume(config.out, dataset=digits)
    assert result.summary["last"] == whole.summary["last"]
    equal_runs(tmp_path / "whole", config.out)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_are_decoded_in_every_step_go_on_to_the_bit(config, tmp_path, workers):
    for label, colour in (("cat", 90), ("dog", 160)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (20 + i, 24), (colour, 3 * i, 7 * i)).save(tmp_path / "data" / label / f"{i}.png")
    own = {"data": "image_folder", "data_dir": tmp_path / "data", "image_size": 16, "data_memory": 0.0}
    policy = dataclasses.replace(config.augment, policies=("trivialaugment",))
    config = dataclasses.replace(config, **own, workers=workers, batch_size=8, augment=policy)
    train(dataclasses.replace(config, out=tmp_path / "whole"))
    with pytest.raises(Interrupted) as stopped:
        train(config, observers=[killer(signal.SIGINT, 1, 1)])
    assert stopped.value.code == 130
    resume(config.out)
    equal_runs(tmp_path / "whole", config.out)


def test_a_second_ctrl_c_stops_at_once(config, digits):
    def twice():
        noted = signal.getsignal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        # Another thread may get the signal, so that it is noted a moment later.
        while signal.getsignal(signal.SIGINT) is noted:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(config, dataset=digits, observers=[At(1, 3, twice)])
    assert not isinstance(stopped.value, Interrupted)


def test_a_signal_that_the_process_ignores_is_ignored(config, digits):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert train(config, dataset=digits, observers=[killer(signal.SIGINT)]).summary["last"]["epoch"] == 2


def test_signals_are_the_callers_again_after_a_run(config, digits):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(dataclasses.replace(config, epochs=1), dataset=digits)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_short_epochs_are_not_all_saved_and_the_last_one_is(config, digits, monkeypatch):
    monkeypatch.setattr(saving, "SECONDS", 10.0)
    seen = []

    class Watch(At):
        def on_epoch(self, session, record):
            seen.append([folder.name for folder in checkpoints(session.out)])

    train(dataclasses.replace(config, epochs=4), dataset=digits, observers=[Watch(9, 9, None)])
    assert seen == [["epoch_0000"]] * 4
    assert [folder.name for folder in checkpoints(config.out)] == ["epoch_0004", "epoch_0000"]


def test_steps_and_minutes_ask_for_checkpoints_within_an_epoch(config, digits, monkeypatch):
    # One that falls due while another is being written is left out; here it waits, so that the count is certain.
    monkeypatch.setattr(saving.Saver, "busy", property(lambda saver: saver._finish()))
    seen = set()

    class Watch(At):
        def on_step(self, session, step, steps):
            seen.update(folder.name for folder in checkpoints(session.out))

    train(dataclasses.replace(config, save_steps=5, keep=3), dataset=digits, observers=[Watch(9, 9, None)])
    within = {int(name.rpartition("_")[2]) for name in seen if "_step_" in name}
    assert within == {5, 10, 15}
    assert len(checkpoints(config.out)) == 3
    shutil.rmtree(config.out)
    seen.clear()
    train(dataclasses.replace(config, save_minutes=1e-9), dataset=digits, observers=[Watch(9, 9, None)])
    assert len({name for name in seen if "_step_" in name}) > 3


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "manifest.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_the_summary_says_so(config, digits, tmp_path, name, how):
    train(dataclasses.replace(config, out=tmp_path / "whole"), dataset=digits)
    with pytest.raises(Interrupted):
        train(config, dataset=digits, observers=[killer(signal.SIGTERM)])
    newest = latest(config.out)
    path, content = newest / name, bytearray((newest / name).read_bytes())
    content[-40] ^= 1
    if how == "remove":
        path.unlink()
    else:
        path.write_bytes(bytes(content) if how == "flip" else bytes(content[: len(content) // 2]))
    if how == "remove" and name != "weights.safetensors":
        # Without a state a folder is no checkpoint; without a manifest it is one of an older version.
        result = resume(config.out, dataset=digits)
    else:
        with pytest.warns(UserWarning, match=f"{name}.*epoch_0001 is used in its place"):
            result = resume(config.out, dataset=digits)
        assert any("epoch_0001 was used in its place" in c["text"] for c in result.summary["concerns"])
    equal_runs(tmp_path / "whole", config.out)


@pytest.mark.parametrize("use", [evaluate_run, load_student, resume])
def test_where_no_checkpoint_is_whole_one_sentence_says_why(config, digits, finished_run, tmp_path, use):
    shutil.copytree(finished_run, tmp_path / "copy")
    for folder in checkpoints(tmp_path / "copy"):
        content = bytearray((folder / "weights.safetensors").read_bytes())
        content[-1] ^= 128
        (folder / "weights.safetensors").write_bytes(content)
    keywords = {} if use is load_student else {"dataset": digits}
    with pytest.raises(UserError, match=r"no whole last checkpoint .*SHA-256 differs.*: restore it"):
        use(tmp_path / "copy", **keywords)


def test_a_finished_run_is_never_scored_with_other_weights_than_its_own(finished_run, digits, tmp_path):
    shutil.copytree(finished_run, tmp_path / "gone")
    shutil.rmtree(latest(tmp_path / "gone"))
    with pytest.raises(UserError, match="is finished, but the last checkpoint, to which its results belong, is gone"):
        evaluate_run(tmp_path / "gone", dataset=digits)
    shutil.copytree(finished_run, tmp_path / "mixed")
    path = tmp_path / "mixed/summary.json"
    summary = json.loads(path.read_text())
    summary["selected"]["epoch"] += 1
    path.write_text(json.dumps(sealed(summary)))
    with pytest.raises(UserError, match=r"selected is of epoch \d, and the results of .* are of epoch \d"):
        load_student(tmp_path / "mixed", checkpoint="selected")


def test_a_state_that_is_not_finite_is_never_saved(config, digits):
    class Poison(At):
        def on_step(self, session, step, steps):
            if session.epoch == 1 and step == steps:
                parameter = list(session.executor.group.peer_parameters(1).values())[2]
                session.optimizer.state[parameter]["momentum_buffer"][0] = float("inf")

    expected = r"the optimizer's state of 1\.weight of student 1 is not finite after step .* Lower optim\.lr"
    with pytest.raises(RunFailedError, match=expected):
        train(config, dataset=digits, observers=[Poison(9, 9, None)])
    assert latest(config.out).name == "epoch_0001"
    assert all(torch.isfinite(x).all() for x in read_checkpoint(config.out).weights.values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("group.networks.1.0.weight", r"0\.weight of student 1 is not finite after step 25 \(epoch 1\."),
        ("averages.networks.0.0.bias", r"the average of 0\.bias of student 0 is not finite"),
        ("method.projections", r"method\.projections is not finite"),
    ],
)
def test_the_error_names_the_student(config, digits, name, words):
    from codistill.training.build import build_session
    from codistill.training.finite import Watch
    from codistill.training.snapshot import Snapshot

    with build_session(dataclasses.replace(config, average=0.9), digits) as session:
        watch = Watch(session)
        good = torch.zeros(3)
        watch.check(Snapshot(1, 7, {name: good, "group.mask": torch.tensor([1])}, {"optimizer": {"state": {}}}))
        with pytest.raises(RunFailedError, match=words):
            watch.check(Snapshot(1, 7, {name: good.log()}))


def test_a_full_disk_ends_the_run_in_one_sentence_and_it_goes_on_later(config, digits, tmp_path, monkeypatch):
    from codistill.training import snapshot as checkpoint

    train(dataclasses.replace(config, out=tmp_path / "whole"), dataset=digits)
    whole = checkpoint.write_into

    def full(partial, name, content):
        if "epoch_0001" in str(partial):
            raise OSError(28, "No space left on device", str(partial / name))
        whole(partial, name, content)

    monkeypatch.setattr(checkpoint, "write_into", full)
    with pytest.raises(RunFailedError, match=r"epoch_0001.*No space left on device\): make room.*codistill resume"):
        train(config, dataset=digits)
    assert [folder.name for folder in checkpoints(config.out)] == ["epoch_0000"]
    monkeypatch.setattr(checkpoint, "write_into", whole)
    resume(config.out, dataset=digits)
    equal_runs(tmp_path / "whole", config.out)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(config, digits, tmp_path):
    out = tmp_path / "mine"
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints/best.pt").write_text("precious")
    (out / "config.yaml").write_text("learning_rate: 3\n")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"mine is not empty and holds no run \(there is checkpoints, config.yaml"):
            train(dataclasses.replace(config, out=out), dataset=digits, overwrite=overwrite)
    assert (out / "checkpoints/best.pt").read_text() == "precious"


def test_what_a_killed_process_was_writing_is_no_other_content_and_goes(config, digits):
    config.out.mkdir(parents=True)
    (config.out / ".config.yaml.4711.partial").write_text("method")
    train(dataclasses.replace(config, epochs=1), dataset=digits)
    assert not list(config.out.glob("*.partial"))


def test_a_part_of_a_checkpoint_that_cannot_be_removed_is_named(config, digits, monkeypatch):
    from codistill.rundir import durable

    def refused(path):
        raise OSError(5, "Input/output error", "manifest.json")

    monkeypatch.setattr(durable.shutil, "rmtree", refused)
    with pytest.raises(RunFailedError, match=r"run/checkpoints/\w+ cannot be written .Input/output error"):
        train(config, dataset=digits)


def test_a_run_that_is_replaced_comes_back_if_the_new_one_never_begins(config, digits, monkeypatch):
    from codistill.training import run

    first = train(config, dataset=digits)
    exported = contents(export_student(config.out, dataset=digits))
    (config.out / "export" / "notes.txt").write_text("mine")

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Saver, "save", fails)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, seed=1), dataset=digits, overwrite=True)
    monkeypatch.undo()
    assert contents(config.out / "export") == {"notes.txt": b"mine"}
    with pytest.warns(UserWarning, match="the run that was to be replaced is back"):
        again = resume(config.out, dataset=digits)
    assert again.summary == first.summary
    assert contents(config.out / "export") == {**exported, "notes.txt": b"mine"}
    assert not (config.out / ".replaced").exists()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_exported_from_a_run_goes_with_it_and_what_others_wrote_there_stays(config, digits):
    config = dataclasses.replace(config, epochs=1)
    train(config, dataset=digits)
    for format in ("safetensors", "torch-export", "hub"):
        folder = export_student(config.out, format=format, dataset=digits)
    assert folder == config.out / "export"
    assert {f"export/{name}" for name in FILES} < set(EXPORTED)
    train(config, dataset=digits, overwrite=True)
    assert not folder.exists()

    mine = {"student.json": b'{"name": "Ada"}', "README.md": b"# Ada", "config.json": b"{}"}
    folder.mkdir()
    for name, content in mine.items():
        (folder / name).write_bytes(content)
    train(config, dataset=digits, overwrite=True)
    assert contents(folder) == mine


def test_one_process_at_a_time_trains_into_a_folder(config, digits):
    refused = []

    class Second(At):
        def on_step(self, session, step, steps):
            if step == 1:
                for attempt in (
                    lambda: train(config, dataset=digits, overwrite=True),
                    lambda: resume(config.out, dataset=digits),
                ):
                    with pytest.raises(UserError, match="another process trains into it") as error:
                        attempt()
                    refused.append(error.value)

    train(dataclasses.replace(config, epochs=1), dataset=digits, observers=[Second(9, 9, None)])
    assert len(refused) == 2


def test_a_run_in_progress_is_scored_while_it_trains(config, digits):
    records = []

    class Reader(At):
        def on_step(self, session, step, steps):
            if session.epoch == 1:
                records.append(evaluate_run(session.out, dataset=digits)["images"])

    train(config, dataset=digits, observers=[Reader(9, 9, None)])
    assert len(records) > 5
    assert set(records) == {100}


def test_threads_belong_to_what_a_run_needs_to_repeat(config, digits):
    with pytest.raises(Interrupted):
        train(config, dataset=digits, observers=[killer(signal.SIGTERM)])
    assert read_checkpoint(config.out).state["threads"] == torch.get_num_threads()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with pytest.warns(UserWarning, match=rf"has had {before} threads, and goes on with {before}"):
            result = resume(config.out, dataset=digits)
    finally:
        torch.set_num_threads(before)
    assert result.summary["machine"]["threads"] == before


def test_code_that_has_changed_since_is_mentioned(config, digits, tmp_path, dropout_network):
    net = tmp_path / "net.py"
    shutil.copy(dropout_network.rpartition(":")[0], net)
    config = dataclasses.replace(config, model=(f"{net}:net",))
    with pytest.raises(Interrupted):
        train(config, dataset=digits, observers=[killer(signal.SIGTERM)])
    net.write_text(net.read_text() + "\n# a remark\n")
    changed = pytest.warns(UserWarning, match="has changed since this run was last saved")
    with changed, pytest.raises(UserError, match="it has changed since you named it"):
        resume(config.out, dataset=digits)
    trust(net)
    with pytest.warns(UserWarning, match=r"net\.py has changed since this run was last saved"):
        resume(config.out, dataset=digits)


@pytest.mark.parametrize("change", [{"keep": 1}, {"save_steps": 0}, {"save_minutes": 0.0}])
def test_settings_of_saving_are_checked(change):
    from codistill.training.check import check_config

    (name,) = change
    with pytest.raises(UserError, match=f"{name} .*: it must be"):
        check_config(Config(**change))
