"""benchmarks/gpu.py on a CPU: every part gives results, what fails loses nothing else, and the checks hold."""

import json
import time

import pytest
import torch

import gpu
from on_gpu import parts
from on_gpu.checks import CHECKS, ON_A_CPU
from on_gpu.evidence import evidence
from on_gpu.ledger import UNFINISHED, Ledger
from on_gpu.parts import LEFT_OUT, PARTS, Share, run_part
from on_gpu.setting import Measurement, Setting
from on_gpu.tables import write_tables
from on_gpu.whole_runs import epochs_that_fit

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ON_A_CPU)
def test_the_check_holds_on_a_cpu(name):
    CHECKS[name](CPU)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_gives_results_and_no_errors(name, tmp_path):
    ledger = Ledger(tmp_path)
    ledger.open_call(evidence("test", CPU, 0.2), [name])
    assert run_part(name, Setting(CPU, tmp_path, time.time() + 4), ledger)
    entries = [entry for entry in ledger.entries(name) if entry["what"] != LEFT_OUT]
    assert entries
    assert [entry for entry in entries if "error" in entry] == []
    page = write_tables(ledger).read_text()
    assert page.startswith("# REHEARSAL")
    assert "- **failed**" not in page


def test_the_program_runs_a_part_in_a_process_and_keeps_what_is_there(tmp_path):
    arguments = ["--minutes", "0.01", "--device", "cpu", "--out", str(tmp_path)]
    assert gpu.main([*arguments, "--only", "solver"]) == 0
    assert gpu.main([*arguments, "--only", "solver"]) == 0
    record = json.loads((tmp_path / "results.json").read_text())
    assert len(record["evidence"]) == 2
    assert record["evidence"][1]["seconds"]["solver"] > 0
    # The first measurement is taken whatever the time; the rest is named.
    measured, left_out = record["entries"]
    assert measured["numbers"]["ms"] > 0
    assert left_out["note"].startswith("no time for 3: 2 × 8 × 5, logits of deviation 3; ")
    assert "| 2 × 8 × 5 | 1 |" in (tmp_path / "results.md").read_text()


def entries_of(tmp_path, monkeypatch, measurements, seconds=100.0):
    monkeypatch.setitem(PARTS, "solver", Share(lambda setting: iter(measurements), 1))
    ledger = Ledger(tmp_path)
    ledger.open_call(evidence("test", CPU, 1), ["solver"])
    run_part("solver", Setting(CPU, tmp_path, time.time() + seconds), ledger)
    return ledger, ledger.entries("solver")


def test_a_failed_measurement_is_one_line_and_the_next_one_is_taken(tmp_path, monkeypatch):
    def fails():
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    _, entries = entries_of(tmp_path, monkeypatch, [Measurement("a", fails), Measurement("b", lambda: {"x": 1})])
    assert entries[0]["error"] == "OutOfMemoryError: CUDA out of memory."
    assert entries[1]["numbers"] == {"x": 1}
    traceback = (tmp_path / "errors.txt").read_text()
    assert traceback.startswith("=== solver: a\nTraceback")
    assert "Tried to allocate 20 GiB" in traceback


def test_a_part_that_fails_between_measurements_keeps_what_it_has(tmp_path, monkeypatch):
    def two():
        yield Measurement("a", lambda: {"x": 1})
        raise ValueError("no second one")

    _, entries = entries_of(tmp_path, monkeypatch, two())
    assert [entry["what"] for entry in entries] == ["a", "the part itself"]
    assert entries[1]["error"] == "ValueError: no second one"


def test_a_new_process_goes_on_after_the_measurement_in_which_the_last_one_died(tmp_path, monkeypatch):
    taken = []
    measurements = [Measurement(name, lambda name=name: taken.append(name) or {}) for name in "abc"]
    ledger = Ledger(tmp_path)
    ledger.open_call(evidence("test", CPU, 1), ["solver"])
    ledger.begin("solver", "a")
    monkeypatch.setitem(PARTS, "solver", Share(lambda setting: iter(measurements), 1))
    run_part("solver", Setting(CPU, tmp_path, time.time() + 100), ledger)
    assert taken == ["b", "c"]
    assert ledger.entries("solver")[0]["error"] == UNFINISHED


def test_a_device_that_no_longer_answers_ends_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_answers", lambda device: False)
    _, entries = entries_of(tmp_path, monkeypatch, [Measurement(name, dict) for name in "ab"])
    assert [entry["what"] for entry in entries] == ["a"]


def test_a_part_that_hangs_is_stopped_and_the_others_run(tmp_path, monkeypatch):
    script = tmp_path / "hangs.py"
    script.write_text("import time\ntime.sleep(600)\n")
    start = time.time()
    assert gpu._run_process(["python3", str(script)], start + 1) is None
    assert time.time() - start < 30


def test_later_parts_share_what_earlier_ones_leave(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(gpu, "PARTS", {"a": Share(iter, 30), "b": Share(iter, 10)})
    monkeypatch.setattr(gpu, "write_tables", lambda ledger: None)
    monkeypatch.setattr(
        gpu, "_run_in_processes", lambda name, device, deadline, ledger: given.update({name: deadline - time.time()})
    )
    ledger = Ledger(tmp_path)
    ledger.open_call(evidence("test", CPU, 1), ["a", "b"])
    gpu._run_all(["a", "b"], CPU, 100.0, ledger)
    assert given["a"] == pytest.approx(75, abs=1)
    assert given["b"] == pytest.approx(100, abs=1)


@pytest.mark.parametrize(("seconds", "epoch", "epochs"), [(1000, 0.5, 30), (180, 1.0, 11), (10, 1.0, 1)])
def test_runs_have_as_many_epochs_as_there_is_time_for(seconds, epoch, epochs):
    assert epochs_that_fit(seconds, epoch) == epochs
