"""Runs as jobs of Slurm, without Slurm: programs of its names answer as those of Slurm 22.05 did."""

import dataclasses
import io
import json
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from codistill.cli import main
from codistill.errors import UserError, notes_of
from codistill.rundir import is_complete, lock_run, read_json
from codistill.studies.run_list import PlannedRun
from codistill.studies.slurm import Slurm, SlurmArrays, launcher, slurm_of, task
from codistill.studies.slurm.arrays import TaskPlan, read_plan, write_array
from codistill.studies.slurm.commands import SlurmSilentError, TaskState, ended_states, queue_states
from codistill.training import Config, OptimConfig

BASE = Config(
    method="baseline", model="resnet8_tiny", peers=1, data="digits", train_subset=60, epochs=1, batch_size=30,
    device="cpu", threads=1, executor="loop", optim=OptimConfig(lr=0.05),
)  # fmt: skip

SBATCH = """#!/bin/sh
n=$(ls {folder} | grep -c '^script')
cat > {folder}/script$n
printf '%s\\n' "$@" > {folder}/options$n
echo $((n + 12))
"""

REFUSING = """#!/bin/sh
echo 'sbatch: error: invalid partition specified: nope' >&2
echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2
exit 1
"""

SQUEUE = """#!/bin/sh
echo "$@" >> {folder}/asked
test -s {folder}/queue && exec cat {folder}/queue
echo 'slurm_load_jobs error: Invalid job id specified' >&2
exit 1
"""

SILENT = """#!/bin/sh
echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2
exit 1
"""

SACCT = """#!/bin/sh
test -s {folder}/accounts && exec cat {folder}/accounts
echo 'Slurm accounting storage is disabled' >&2
exit 1
"""

NETWORK = """
import signal
from pathlib import Path

from torch import nn


class Net(nn.Sequential):
    def forward(self, x):
        here = Path(__file__).parent
        if (here / "limit").is_file() and (here / "runs" / "a" / "metrics.jsonl").is_file() and self.training:
            (here / "limit").unlink()
            signal.raise_signal(signal.SIGUSR1)
        return super().forward(x)


def net(num_classes, in_channels=3):
    if Path("early").is_file():
        Path("early").unlink()
        signal.raise_signal(signal.SIGUSR1)
    return Net(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, num_classes))
"""


class Programs:
    """sbatch, squeue, sacct and scontrol, and what they were asked and answer."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("sacct", SACCT)):
            self.program(name, text)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")

    def program(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(text.replace("{folder}", str(self.folder)))
        path.chmod(0o755)

    def options(self, job):
        return (self.folder / f"options{job - 12}").read_text().splitlines()

    def script(self, job):
        return (self.folder / f"script{job - 12}").read_text()

    def queue(self, *lines):
        (self.folder / "queue").write_text("".join(f"{line}\n" for line in lines))

    def accounts(self, *lines):
        (self.folder / "accounts").write_text("".join(f"{line}\n" for line in lines))

    @property
    def submitted(self):
        return len(list(self.folder.glob("script*")))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    for name, seconds in (("POLL", 0.0), ("ASK", 0.0), ("LATE", 0.0)):
        monkeypatch.setattr(launcher, name, seconds)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return Programs(tmp_path / "programs", monkeypatch)


@pytest.fixture
def on_node(monkeypatch):
    """Lets a task run in this process, whose output stays where it is."""
    monkeypatch.setattr(task, "_write_to", lambda log: log.touch())
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def launched(runs, jobs=None, options=()):
    screen = io.StringIO()
    planned = [run if isinstance(run, PlannedRun) else PlannedRun(run) for run in runs]
    return SlurmArrays(planned, jobs, Slurm(Path("slurm").absolute(), options), Console(file=screen, width=200)), screen


def run_named(name, **changes):
    return dataclasses.replace(BASE, out=Path("runs") / name, **changes)


def records():
    return sorted(Path("slurm").absolute().glob("*/job.json"), key=lambda path: int(read_json(path)["job"]))


def name_of(record):
    return read_json(record)["name"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("partition=gpu,gres=gpu:1,time=08:00:00", ("--partition=gpu", "--gres=gpu:1", "--time=08:00:00")),
        ("gres=gpu:1,shard:2,mail-type=BEGIN,END", ("--gres=gpu:1,shard:2", "--mail-type=BEGIN,END")),
        ("nodelist=node[1,3],account=a=b", ("--nodelist=node[1,3]", "--account=a=b")),
        ("exclusive", ("--exclusive",)),
    ],
)
def test_options_of_sbatch_may_hold_commas(slurm, text, options):
    assert slurm_of("slurm", (text,), (), Path("out")) == Slurm(Path.cwd() / "out" / "slurm", options)


@pytest.mark.parametrize(
    ("launcher", "texts", "devices", "sentence"),
    [
        ("local", ("time=1",), (), "slurm time=1 without --launcher slurm: add it, or leave --slurm out."),
        ("slurm", ("array=0-3",), (), "slurm 'array=0-3': codistill needs --array of sbatch for itself; leave it out."),
        ("slurm", ("time=",), (), "slurm 'time=': give options of sbatch as NAME=VALUE, such as partition=gpu,"),
        ("slurm", ("-p gpu",), (), "slurm '-p gpu': give options of sbatch as NAME=VALUE"),
        ("slurm", (), ("cuda:0",), "devices cuda:0 with --launcher slurm: Slurm gives every run its device; leave"),
    ],
)
def test_what_cannot_be_asked_of_slurm_is_refused(slurm, launcher, texts, devices, sentence):
    with pytest.raises(UserError) as refusal:
        slurm_of(launcher, texts, devices, Path("out"))
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize(
    "command",
    [
        ["study", "kdcl/table7", "--profile", "smoke"],
        ["compare", "--data", "digits", "--model", "resnet8_tiny", "--methods", "dml"],
    ],
)
def test_without_slurm_nothing_is_written(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main([*command, "--out", str(tmp_path / "out"), "--launcher", "slurm"])
    assert stop.value.code == 2
    assert "launcher slurm: there is no sbatch on the PATH; start the command on a node" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_states_are_read_as_slurm_writes_them(slurm):
    slurm.queue("12_2|PENDING|JobArrayTaskLimit|a|b", "12_0|FAILED|NonZeroExitCode|a|b", "12_1|RUNNING|None|a|b")
    slurm.accounts("12_0|CANCELLED by 1000|0:0|a|b", "12_[1-2%2]|PENDING|0:0|a|b")
    states = queue_states(["12", "13", "12"])
    assert states["12_2"] == TaskState("PENDING", "JobArrayTaskLimit", "a|b")
    assert states["12_0"] == TaskState("FAILED", "NonZeroExitCode", "a|b")
    assert states["12_1"] == TaskState("RUNNING", "", "a|b")
    assert "--jobs=12,13 --array --states=all" in (slurm.folder / "asked").read_text()
    assert ended_states(["12_0"])["12_0"] == TaskState("CANCELLED", "0:0", "a|b")
    slurm.queue()
    slurm.accounts()
    # Neither a job that it has forgotten nor a cluster without accounting is a fault.
    assert (queue_states(["12"]), ended_states(["12_0"])) == ({}, {})
    slurm.program("squeue", SILENT)
    with pytest.raises(SlurmSilentError, match="Unable to contact slurm controller"):
        queue_states(["12"])


def test_runs_become_arrays_and_pupils_wait_for_their_own_teachers(slurm):
    teacher, other, alone = run_named("teacher"), run_named("other", seed=1), run_named("alone", seed=2)
    pupil = run_named("pupil", method="kd", teachers=(str(teacher.out),))
    arrays, screen = launched([PlannedRun(pupil, (2,)), other, teacher, alone], 2, ("--partition=gpu",))
    assert arrays.poll() == {}
    assert slurm.submitted == 2
    first, second = slurm.options(12), slurm.options(13)
    assert {"--parsable", "--array=0-2%2", "--requeue", "--signal=B:USR1@120", "--partition=gpu"} <= set(first)
    assert f"--chdir={Path.cwd()}" in first
    assert not any(option.startswith("--dependency") for option in first)
    assert {"--array=0-0%2", "--dependency=afterany:12_1"} <= set(second)
    folders = [record.parent for record in records()]
    assert f"exec {sys.executable} -m codistill.studies.slurm.task {folders[0]} " in slurm.script(12)
    plan = read_plan(folders[1], 0)
    assert plan.teachers == (Path.cwd() / "runs" / "teacher",)
    assert plan.config == dataclasses.replace(
        pupil, out=Path.cwd() / "runs" / "pupil", teachers=(str(Path.cwd() / "runs" / "teacher"),)
    )
    assert "submitted 3 runs as job 12; to see it: squeue --jobs=12" in screen.getvalue()
    assert "submitted 1 run as job 13, after 12_1;" in screen.getvalue()


def test_what_is_in_the_queue_is_followed_and_not_submitted_again(slurm):
    asked = [run_named("a"), run_named("b"), run_named("c")]
    launched(asked)[0].poll()
    name = name_of(records()[0])
    slurm.queue(f"12_0|RUNNING|None|{name}", f"12_1|PENDING|Priority|{name}", f"12_2|CANCELLED|None|{name}")
    arrays, screen = launched([*asked, run_named("d")])
    arrays.poll()
    assert "in the queue already: 2 runs, as job 12" in screen.getvalue()
    assert "submitted 2 runs as job 13" in screen.getvalue()
    assert read_json(records()[1].parent / "plan.json")["runs"][0]["out"].endswith("runs/c")
    later = [f"13_{n}|PENDING|Priority|{name_of(records()[1])}" for n in (0, 1)]
    slurm.queue(f"12_0|RUNNING|None|{name}", f"12_1|PENDING|Priority|{name}", *later)
    assert arrays.poll() == {}
    assert arrays.note == "Slurm: 3 pending (Priority), 1 running"
    stop = KeyboardInterrupt()
    arrays.stop(stop)
    assert notes_of(stop) == ("Slurm's jobs go on: 'squeue --jobs=12,13' shows them, 'scancel 12 13' ends them",)
    arrays.stop(UserError("sbatch refuses the others"))
    assert "Slurm's jobs go on: 'squeue --jobs=12,13' shows them" in screen.getvalue()
    # The number may belong to another job, after Slurm was set up anew.
    slurm.queue("12_0|RUNNING|None|other", "12_1|RUNNING|None|other")
    launched(asked)[0].poll()
    assert len(read_json(records()[2].parent / "plan.json")["runs"]) == 3


def test_nothing_is_submitted_while_slurm_does_not_say_what_is_in_the_queue(slurm):
    launched([run_named("a")])[0].poll()
    slurm.program("squeue", SILENT)
    with pytest.raises(UserError, match=r"squeue does not answer \(.*\), and earlier jobs may still train: try again"):
        launched([run_named("a")])[0].poll()
    assert slurm.submitted == 1


def test_more_runs_than_an_array_holds_are_several_one_after_the_other(slurm, monkeypatch):
    monkeypatch.setattr(launcher, "MOST_TASKS", 2)
    launched([run_named("a"), run_named("b"), run_named("c")], 2)[0].poll()
    assert {"--array=0-1%2"} <= set(slurm.options(12))
    assert {"--array=0-0%2", "--dependency=afterany:12"} <= set(slurm.options(13))


def test_dead_jobs_are_reported_with_slurms_state(slurm):
    arrays, _ = launched([run_named("a"), run_named("b"), run_named("c"), run_named("d")])
    arrays.poll()
    name = name_of(records()[0])
    slurm.queue(f"12_0|CANCELLED|None|{name}", f"12_1|OUT_OF_MEMORY|OutOfMemory|{name}", f"12_3|RUNNING|None|{name}")
    slurm.accounts(f"12_2|TIMEOUT|0:0|{name}")
    ended = arrays.poll()
    assert sorted(ended) == [0, 1, 2]
    assert ended[0].error.startswith("job 12_0 ended as CANCELLED: the next call goes on with what was saved")
    assert ended[1].error.startswith("job 12_1 ended as OUT_OF_MEMORY (OutOfMemory): ")
    assert ended[2].error.startswith("job 12_2 ended as TIMEOUT (0:0): ")
    assert ended[0].run_dir == Path("runs/a")
    assert (Path("runs/a") / "log.txt").read_text() == f"{ended[0].error}\n"
    slurm.program("squeue", SILENT)
    assert arrays.poll() == {}
    assert "Unable to contact slurm controller" in arrays.note
    slurm.program("squeue", SQUEUE)
    slurm.queue()
    slurm.accounts()
    assert arrays.poll()[3].error.startswith("job 12_3 is no longer known to Slurm: ")


def test_a_task_that_has_ended_is_not_dead_while_its_word_may_be_on_its_way(slurm, monkeypatch):
    monkeypatch.setattr(launcher, "LATE", 1000.0)
    arrays, _ = launched([run_named("a")])
    arrays.poll()
    slurm.queue(f"12_0|COMPLETED|None|{name_of(records()[0])}")
    assert arrays.poll() == {}
    task.write_outcome(records()[0].parent, 0, task.EndedRun(Path("runs/a"), "boom"))
    assert arrays.poll()[0].error == "boom"


def test_a_refusal_of_sbatch_is_one_sentence_and_leaves_nothing(slurm):
    slurm.program("sbatch", REFUSING)
    with pytest.raises(UserError) as refusal:
        launched([run_named("a")])[0].poll()
    assert str(refusal.value) == (
        "sbatch refuses the jobs (invalid partition specified: nope; Batch job submission failed: Invalid partition "
        "name specified): correct --slurm."
    )
    assert not Path("slurm").exists()


def test_a_task_trains_its_run_and_a_finished_one_is_kept(slurm, on_node):
    arrays, _ = launched([run_named("a")])
    arrays.poll()
    folder = records()[0].parent
    assert task.main([str(folder), "0"]) == 0
    ended = arrays.poll()
    assert (ended[0].error, ended[0].kept, ended[0].run_dir) == (None, False, Path("runs/a"))
    assert is_complete(Path("runs/a"))
    again, _ = launched([run_named("a"), run_named("a", seed=1)])
    assert again.poll()[0].kept
    assert len(read_json(records()[1].parent / "plan.json")["runs"]) == 1


def test_before_the_time_limit_a_task_saves_and_goes_back_into_the_queue(slurm, on_node, capfd):
    Path("net.py").write_text(NETWORK)
    slurm.program("scontrol", "#!/bin/sh\necho $@ >> {folder}/controlled\n")
    config = run_named("a", model="net.py:net", epochs=2, executor="loop")
    arrays, _ = launched([config])
    arrays.poll()
    folder = records()[0].parent
    Path("early").touch()
    assert task.main([str(folder), "0"]) == 130
    assert not (slurm.folder / "controlled").exists()
    assert "the time limit is too short for a single step, so it is not started again" in capfd.readouterr().out
    Path("limit").touch()
    assert task.main([str(folder), "0"]) == 143
    assert (slurm.folder / "controlled").read_text() == "requeue 12_0\n"
    assert "the time limit is near; what was saved is kept" in capfd.readouterr().out
    assert list(Path("runs/a/checkpoints").glob("epoch_0001_step_*"))
    slurm.queue(f"12_0|PENDING|BeginTime|{name_of(records()[0])}")
    assert arrays.poll() == {}
    assert task.main([str(folder), "0"]) == 0
    assert arrays.poll()[0].error is None
    assert len((Path("runs/a") / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_task_leaves_a_run_in_use_alone_and_does_not_start_before_its_teacher(slurm, on_node, tmp_path):
    teacher, pupil = tmp_path / "teacher", dataclasses.replace(BASE, out=tmp_path / "pupil")
    folder = write_array(tmp_path / "slurm", [TaskPlan(pupil, (teacher,)), TaskPlan(pupil)])
    assert task.main([str(folder), "0"]) == 1
    assert read_json(folder / "0.json")["error"] == f"not started: its teacher {teacher} is not finished"
    (tmp_path / "pupil" / "log.txt").unlink()
    with lock_run(tmp_path / "pupil"):
        assert task.main([str(folder), "1"]) == 0
    record = json.loads((folder / "1.json").read_text())
    assert record["elsewhere"]
    assert record["error"].startswith(f"in progress elsewhere: {tmp_path / 'pupil'} is in use: another process trains")
    assert not (tmp_path / "pupil" / "log.txt").exists()
