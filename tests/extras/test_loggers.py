"""TensorBoard and Weights & Biases get every epoch once, also over a resume, and a fault of theirs stops no run."""

import dataclasses
import errno
import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from codistill import cli
from codistill.training import Config, OptimConfig, TensorBoard, WandB, resume, train
from codistill.training.checkpoint import latest
from codistill.training.loggers.tensorboard import _Events

# TensorBoard's own reader leaves files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")


class StopAfter:
    def __init__(self, epochs):
        self.epochs = epochs

    def on_step(self, session, step, steps):
        if session.epoch == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def config(tmp_path):
    return Config(
        method="okddip", model=("resnet8_tiny",), peers=4, data="digits", train_subset=64, epochs=3, batch_size=32,
        device="cpu", executor="loop", threads=1, optim=OptimConfig(lr=0.05), out=tmp_path / "run",
    )  # fmt: skip


def metrics(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def events(run_dir):
    accumulator = EventAccumulator(str(run_dir / "extra/tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def records_of(path):
    """The records in a file of W&B: blocks of 32 KiB of pieces, each after its checksum, length and place."""
    data, at, pieces = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, place = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + length > len(data):
            return  # W&B's own process is still writing this one.
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if place in (1, 4):
            yield Record.FromString(pieces)
            pieces = b""


def rows(run_dir):
    """What W&B's own files hold: the history of all its files, the summary of the last one, and the runs' names."""
    history, summary, names = [], {}, set()
    for path in sorted((run_dir / "extra/wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime):
        for record in records_of(path):
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            if items:
                history.append({name: json.loads(value) for name, value in items.items()})
            for item in record.summary.update:
                summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
            if record.run.run_id:
                names.add(record.run.run_id)
    return history, summary, names


def assert_every_epoch_once(run_dir):
    expected = metrics(run_dir)
    assert [epoch["epoch"] for epoch in expected] == [1, 2, 3]
    for name, value in (
        ("learning_rate", lambda epoch: epoch["lr"]),
        ("loss/student_2", lambda epoch: epoch["train"]["loss_by_peer"][2]),
        ("train_error/student_0", lambda epoch: epoch["train"]["error_by_peer"][0]),
        ("validation_error/student_3", lambda epoch: epoch["validation"]["peers"][3]["top1_error"]),
        ("validation_nll/leader", lambda epoch: epoch["validation"]["leader"]["nll"]),
        ("validation_error/mean", lambda epoch: epoch["validation"]["mean"]["top1_error"]),
        ("validation_nll/ensemble", lambda epoch: epoch["validation"]["ensemble"]["nll"]),
        ("diversity/disagreement", lambda epoch: epoch["validation"]["diversity"]["disagreement"]),
    ):
        points = [(event.step, event.value) for event in events(run_dir).Scalars(name)]
        assert points == [(epoch["epoch"], pytest.approx(value(epoch), rel=1e-5)) for epoch in expected], name
        logged = {row["_step"]: row[name] for row in rows(run_dir)[0] if name in row}
        assert logged == {epoch["epoch"]: pytest.approx(value(epoch)) for epoch in expected}, name
    assert len([row for row in rows(run_dir)[0] if "learning_rate" in row]) == 3
    assert [event.step for event in events(run_dir).Images("attention")] == [1, 2, 3]


def test_both_get_curves_pictures_settings_and_scores(config):
    summary = train(dataclasses.replace(config, logger=("tensorboard", "wandb"))).summary
    assert_every_epoch_once(config.out)
    board, (_, ended, names) = events(config.out), rows(config.out)
    assert len(names) == 1
    error = summary["last"]["test"]["leader"]["top1_error"]
    assert board.Scalars("test_error/leader")[0].value == pytest.approx(error)
    assert ended["test_error/leader"] == pytest.approx(error)
    tables = {name: board.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode() for name in (
        "settings", "test", "confusion",
    )}  # fmt: skip
    assert "| optim.lr | 0.05 |" in tables["settings"]
    assert f"| test_error/leader | {error:.4f} |" in tables["test"]
    first = summary["last"]["test"]["confusion"][0]
    assert f"| 0 | {' | '.join(map(str, first))} |" in tables["confusion"]
    assert len(board.Images("confusion")) == 1
    assert "_hparams_/session_start_info" in board.summary_metadata
    assert (ended["confusion._type"] if "confusion._type" in ended else ended["confusion"]["_type"]) == "image-file"


@pytest.mark.parametrize("killed", [False, True])
def test_curves_go_on_after_a_resume_without_a_doubled_or_missing_epoch(config, killed, monkeypatch):
    logged = dataclasses.replace(config, logger=("tensorboard", "wandb"))
    if killed:
        # Between the checkpoint of the second epoch and its observers.
        def stop(self, session, record):
            if session.epoch == 2:
                raise KeyboardInterrupt
            on_epoch(self, session, record)

        on_epoch = TensorBoard.on_epoch
        monkeypatch.setattr(TensorBoard, "on_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        train(logged, observers=[StopAfter(2)])
    monkeypatch.undo()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert latest(config.out).name == "epoch_0002"
    resume(config.out)
    assert_every_epoch_once(config.out)
    assert len(rows(config.out)[2]) == 1


def test_epochs_that_are_trained_again_replace_those_of_before(config):
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(config, logger=("tensorboard",)), observers=[StopAfter(1)])
    writer = _Events(config.out / "extra/tensorboard")
    writer.begin(2)
    writer.scalar("learning_rate", 77.0, 2)
    writer.close()
    resume(config.out)
    steps = [(event.step, event.value < 1) for event in events(config.out).Scalars("learning_rate")]
    assert steps == [(1, True), (2, True), (3, True)]


def test_a_logger_that_joins_at_a_resume_gets_the_earlier_epochs_too(config):
    with pytest.raises(KeyboardInterrupt):
        train(config, observers=[StopAfter(2)])
    cli.main(["resume", str(config.out), "--logger", "tensorboard", "wandb"])
    assert_every_epoch_once(config.out)


def test_loggers_change_no_number(config, tmp_path):
    train(config)
    logged = dataclasses.replace(config, out=tmp_path / "logged")
    train(logged, observers=[TensorBoard(), WandB(project="birds", tags=["mine"])])
    assert [epoch["train"] for epoch in metrics(logged.out)] == [epoch["train"] for epoch in metrics(config.out)]
    a, b = (torch.load(latest(one.out) / "state.pt", weights_only=True)["config"] for one in (config, logged))
    assert a == b


def test_the_weights_of_targets_are_curves_where_a_method_has_them(config):
    general = dataclasses.replace(config, method="kdcl_general", peers=2, epochs=1, logger=("tensorboard",))
    train(general)
    weights = metrics(config.out)[0]["diagnostics"]["weights"]
    for peer, weight in enumerate(weights):
        (event,) = events(config.out).Scalars(f"target_weight/student_{peer}")
        assert event.value == pytest.approx(weight, rel=1e-5)


@pytest.mark.parametrize("when", ["on opening", "in the second epoch", "at the end"])
def test_a_faulty_logger_is_one_warning_and_stops_no_run(config, monkeypatch, when):
    def full(self, *arguments, **keywords):
        if when != "in the second epoch" or arguments[1].epoch == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *arguments)

    write = TensorBoard.write
    name = {"on opening": "open", "in the second epoch": "write", "at the end": "finish"}[when]
    monkeypatch.setattr(TensorBoard, name, full)
    with pytest.warns(UserWarning, match="the logger tensorboard failed .OSError: .* No space left") as caught:
        summary = train(dataclasses.replace(config, logger=("tensorboard", "wandb"))).summary
    assert len([warning for warning in caught if warning.category is UserWarning]) == 1
    assert summary["last"]["epoch"] == 3
    assert len([row for row in rows(config.out)[0] if "learning_rate" in row]) == 3


def test_a_full_disk_under_tensorboard_is_noticed_at_once_and_without_a_traceback(config, monkeypatch, capfd):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with pytest.warns(UserWarning, match="the logger tensorboard failed") as caught:
        train(dataclasses.replace(config, epochs=1, logger=("tensorboard",)))
    assert len([warning for warning in caught if warning.category is UserWarning]) == 1
    assert capfd.readouterr().err == ""


def test_weights_and_biases_that_cannot_begin_is_one_warning(config):
    with pytest.warns(UserWarning, match="the logger wandb failed") as caught:
        train(dataclasses.replace(config, epochs=1), observers=[WandB(mode="unheard of")])
    assert len([warning for warning in caught if warning.category is UserWarning]) == 1


def test_a_run_can_be_repeated_with_the_same_logger(config, tmp_path):
    board = TensorBoard()
    for name in ("a", "b"):
        train(dataclasses.replace(config, epochs=1, out=tmp_path / name), observers=[board])
        assert len(events(tmp_path / name).Scalars("learning_rate")) == 1
