"""Commands for several processes that are refused, in the process that would start them or by what it has started."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from codistill import Config, cli, launcher, train
from codistill.compare.request import CompareRequest
from codistill.rundir import CHECKPOINTS, SUMMARY
from codistill.training.batches import refuse_small_batches
from codistill.training.checkpoint import read_checkpoint
from codistill.training.launch import launch_of
from codistill.training.out_folder import has_only_begun
from codistill.training.reopen import threads_of
from codistill.training.signals import Interruption
from refusals import refusal

DIGITS = ["--data", "digits", "--model", "resnet8_tiny", "--peers", "2", "--method", "dml", "--device", "cpu"]
LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.fixture
def launched(monkeypatch):
    """Restarted by torchrun as one of two processes, in the start called "a"."""
    for name, value in {**LAUNCHED, "TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_RUN_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refused(capsys, *arguments):
    """What the command line says as it ends with code 2."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mesh", "peer=3"], "peer can be 1 to 2; use data for the rest"),
        (["--mesh", "peer=2", "--group", "branches"], "share a trunk"),
        (["--mesh", "peer=2", "--executor", "loop"], "with the executor 'loop', which is for one process"),
        (["--mesh", "two"], "give the sizes of both axes"),
        (["--set", "mesh=peer=3"], "peer can be 1 to 2"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_does_not_fit_a_mesh_is_refused_before_processes_are_started(capsys, monkeypatch, options, said, dry):
    monkeypatch.setattr(launcher, "launch", lambda *_: pytest.fail("started"))
    assert said in refused(capsys, "train", *DIGITS, *options, *(["--dry-run"] if dry else []))


def test_a_mesh_among_the_settings_starts_processes_too(monkeypatch):
    started = []
    monkeypatch.setattr(launcher, "launch", lambda arguments, processes: started.append((arguments, processes)) or 0)
    typed = ["train", *DIGITS, "--set", "mesh=peer=2"]
    cli.main(typed)
    assert started == [(typed, 2)]


def test_comparisons_offer_no_mesh(capsys):
    assert "mesh" in refused(capsys, "compare", "--mesh", "peer=2")
    assert CompareRequest(mesh=None).mesh is None


def test_other_commands_are_refused_by_what_torchrun_has_started(capsys, launched, tmp_path):
    assert "only train and resume share their work" in refused(capsys, "evaluate", str(tmp_path))


def test_a_process_that_has_lost_the_others_says_one_line(capsys, launched, monkeypatch):
    def lose(*_):
        raise RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")

    monkeypatch.setattr(cli, "_run", lose)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train"])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("codistill: process 0 has lost the others, which say why or were killed ([/pytorch/third")
    assert said.count("\n") == 1
    monkeypatch.setattr(cli, "_run", lambda _: (_ for _ in ()).throw(dist.DistBackendError("nccl")))
    with pytest.raises(SystemExit):
        cli.main(["train"])
    monkeypatch.setattr(cli, "_run", lambda _: (_ for _ in ()).throw(RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.main(["train"])


def tiny(out, **more):
    return Config(
        method="ind", model=("resnet8_tiny",), peers=2, data="digits", train_subset=40, epochs=1, batch_size=20,
        device="cpu", out=out, **more,
    )  # fmt: skip


def test_a_restart_goes_on_with_no_other_run_and_replaces_none(launched, tmp_path):
    for name in LAUNCHED:
        launched.delenv(name)
    out = tmp_path / "run"
    train(tiny(out))
    before = (out / SUMMARY).read_bytes()
    for name, value in LAUNCHED.items():
        launched.setenv(name, value)
    assert "already holds a run" in refusal(train, tiny(out, seed=5))
    # Without its checkpoints it is a run all the same.
    (out / CHECKPOINTS).rename(tmp_path / "kept")
    assert "already holds a run" in refusal(train, tiny(out, seed=5))
    assert (out / SUMMARY).read_bytes() == before
    assert not has_only_begun(out)
    (out / SUMMARY).unlink()
    assert not has_only_begun(out)
    (out / "metrics.jsonl").unlink()
    assert has_only_begun(out)


def test_starts_differ_in_name_or_settings_and_not_in_restarts(launched):
    first = launch_of(Config())
    launched.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    launched.setenv("RANK", "1")
    assert launch_of(Config()) == first
    assert launch_of(Config(seed=1)) != first
    launched.setenv("TORCHELASTIC_RUN_ID", "b")
    assert launch_of(Config()) != first
    launched.delenv("RANK")
    assert launch_of(Config()) == ""


@pytest.mark.parametrize(
    ("images", "batch", "last_batch", "replicas", "said"),
    [
        (62, 20, "keep", 3, "a batch of 2 images for 3 replicas: the last one of an epoch"),
        (62, 2, "drop", 3, "a batch of 2 images for 3 replicas: give larger"),
        (62, 20, "drop", 3, None),
        (61, 20, "keep", 3, None),
        (62, 20, "keep", 2, None),
    ],
)
def test_more_replicas_than_images_of_a_batch_are_refused(images, batch, last_batch, replicas, said):
    session = SimpleNamespace(
        config=Config(batch_size=batch, last_batch=last_batch), splits=SimpleNamespace(train_N=range(images)),
        world=SimpleNamespace(mesh=SimpleNamespace(data=replicas)),
    )  # fmt: skip
    if said is None:
        assert refuse_small_batches(session) is None
    else:
        assert said in refusal(refuse_small_batches, session)


def test_processes_whose_starter_is_gone_stop_as_by_sigterm(launched, monkeypatch):
    with Interruption() as interruption:
        assert interruption.asked is None
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert interruption.asked == signal.SIGTERM
        for name in LAUNCHED:
            launched.delenv(name)
        assert interruption.asked is None


def test_a_run_of_one_process_keeps_its_threads_and_others_share_the_cores(tmp_path):
    train(tiny(tmp_path / "run", threads=1))
    checkpoint = read_checkpoint(tmp_path / "run")
    assert threads_of(tiny(tmp_path), checkpoint) == 1
    assert threads_of(tiny(tmp_path, mesh="peer=2"), checkpoint) is None
