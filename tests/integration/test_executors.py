"""Runs under every executor: resumed to the bit, and the choice of `auto` is part of the run."""

import dataclasses
import functools

import pytest
import torch
from interrupted_runs import cut_and_resumed, losses_of

from codistill.errors import UserError
from codistill.execution import auto
from codistill.training import load_student, read_config, train
from codistill.training.build import build_session
from codistill.training.evaluate import evaluate_run


@pytest.fixture(scope="module")
def short(quick):
    return dataclasses.replace(quick, epochs=2, deterministic=False)


@pytest.fixture(scope="module")
def by_loop(short, digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("loop") / "run"
    train(dataclasses.replace(short, model=("resnet8_tiny",), executor="loop", out=out), dataset=digits)
    return out


@pytest.fixture
def fused_wins(monkeypatch):
    monkeypatch.setattr(auto, "fastest", lambda steps, device: ({"loop": 2.0, "fused": 1.0}, {}))


@pytest.mark.parametrize("executor", ["fused", "recompute", "auto"])
def test_a_run_resumes_to_the_bit_under_every_executor(short, digits, tmp_path, fused_wins, executor):
    config = dataclasses.replace(short, executor=executor, memory_limit=1.0 if executor == "auto" else None)
    whole, result = cut_and_resumed(config, digits, tmp_path)
    assert result.summary["executor"] == whole.summary["executor"]


def test_batch_norms_of_several_processes_turned_off_in_one_are_told(short, digits):
    for off in (False, True):
        notes = build_session(dataclasses.replace(short, executor="loop", sync_batch_norm=not off), digits).notes
        assert [note.split(":")[0] for note in notes] == ["sync_batch_norm off changes nothing in one process"] * off


@pytest.mark.parametrize("executor", ["fused", "recompute"])
def test_a_run_gives_the_losses_of_the_loop_under_every_executor(short, digits, by_loop, tmp_path, executor):
    config = dataclasses.replace(short, model=("resnet8_tiny",), executor=executor, out=tmp_path / "run")
    result = train(config, dataset=digits)
    for found, expected in zip(losses_of(tmp_path / "run"), losses_of(by_loop), strict=True):
        assert found["loss_by_peer"] == pytest.approx(expected["loss_by_peer"], rel=1e-3)
    record = evaluate_run(tmp_path / "run", dataset=digits)
    assert record["leader"]["nll"] == pytest.approx(result.summary["last"]["test"]["leader"]["nll"], rel=1e-6)
    x = torch.randn(4, 1, 8, 8)
    expected = load_student(by_loop)(x)
    torch.testing.assert_close(load_student(tmp_path / "run")(x), expected, rtol=1e-2, atol=1e-2)


def test_the_choice_of_auto_is_stored_and_is_what_runs_again(short, digits, tmp_path, fused_wins):
    config = dataclasses.replace(short, executor="auto", out=tmp_path / "run", epochs=1)
    summary = train(config, dataset=digits).summary
    assert summary["executor"]["name"] == "fused"
    assert summary["executor"]["trial"]["seconds"] == {"loop": 2.0, "fused": 1.0}
    assert summary["executor"]["trial"]["held_bytes"] > 0
    assert read_config(tmp_path / "run" / "config.yaml").executor == "fused"
    again = dataclasses.replace(read_config(tmp_path / "run" / "config.yaml"), out=tmp_path / "again")
    assert train(again, dataset=digits).summary["executor"] == {"name": "fused", "trial": None, "mesh": None}
    assert losses_of(tmp_path / "again") == losses_of(tmp_path / "run")


def test_a_trial_changes_no_number_of_the_run(short, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "WORTH", 0.0)
    train(dataclasses.replace(short, executor="auto", out=tmp_path / "auto"), dataset=digits)
    train(dataclasses.replace(short, executor="loop", out=tmp_path / "loop"), dataset=digits)
    assert losses_of(tmp_path / "auto") == losses_of(tmp_path / "loop")


def test_auto_recomputes_where_memory_is_short_or_micro_batches_are_asked_for(short, digits, tmp_path):
    config = dataclasses.replace(short, executor="auto", epochs=1)
    tight = dataclasses.replace(config, memory_limit=1e-6, out=tmp_path / "tight")
    assert train(tight, dataset=digits).summary["executor"]["name"] == "recompute"
    micro = dataclasses.replace(config, micro_batch=16, out=tmp_path / "micro")
    assert train(micro, dataset=digits).summary["executor"]["name"] == "recompute"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"micro_batch": 16, "executor": "loop"}, "micro_batch 16 with the executor 'loop'"),
        ({"micro_batch": 24, "executor": "recompute"}, "micro_batch 24 of a batch of 64"),
        ({"micro_batch": 1, "executor": "recompute"}, "micro_batch 1 of a batch of 64"),
        ({"memory_limit": 0.0}, r"memory_limit 0\.0: it must be above 0 GiB"),
        ({"model": ("resnet8_tiny", "wrn10_1", "wrn10_1"), "executor": "fused"}, "cannot fuse peers 0 and 1"),
    ],
)
def test_a_wrong_choice_is_refused_in_one_sentence(short, digits, tmp_path, change, sentence):
    with pytest.raises(UserError, match=sentence):
        train(dataclasses.replace(short, out=tmp_path / "run", **change), dataset=digits)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of the tracer's own looking
@pytest.mark.parametrize("executor", ["loop", "fused"])
def test_a_compiled_run_gives_the_same_losses(short, digits, by_loop, tmp_path, monkeypatch, executor):
    found = []

    def traced_only(module, backend):
        found.append(type(module).__name__)
        torch.nn.Module.compile.__wrapped__(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", functools.wraps(torch.nn.Module.compile)(traced_only))
    config = dataclasses.replace(short, model=("resnet8_tiny",), executor=executor, compile=True, out=tmp_path / "run")
    train(config, dataset=digits)
    # An evaluation is over before it would be compiled.
    evaluate_run(tmp_path / "run", dataset=digits)
    assert found == ["NetworkGroup" if executor == "loop" else "FusedNetwork"]
    for losses, expected in zip(losses_of(tmp_path / "run"), losses_of(by_loop), strict=True):
        assert losses["loss_by_peer"] == pytest.approx(expected["loss_by_peer"], rel=1e-3)


def test_what_cannot_be_compiled_is_refused(short, digits, tmp_path):
    with pytest.raises(UserError, match="compile True with the executor 'recompute': only loop, fused, auto can"):
        train(dataclasses.replace(short, executor="recompute", compile=True, out=tmp_path / "run"), dataset=digits)


def test_a_run_of_the_executor_that_is_no_more_is_one_of_the_loop(tmp_path):
    (tmp_path / "config.yaml").write_text("executor: processes\n")
    assert read_config(tmp_path / "config.yaml").executor == "loop"
