"""Short forms of the programs under tests/soak, which anyone can run for longer."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "soak"


def soak(program, *arguments):
    """Run a program of tests/soak as a user would, and return what it printed; it must find nothing."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    command = [sys.executable, str(SOAK / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
def test_operations_on_files_that_fail_lose_nothing():
    text = soak("each_operation.py", "--every", "181")
    faults, operations = map(int, re.search(r"(\d+) faults at (\d+) operations", text).groups())
    assert faults >= 4
    assert operations > 100
    # Some of the disturbed processes were killed, and some ended in a sentence: the faults are real.
    assert "-9: " in text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_damaged_files_are_noticed():
    text = soak("damage.py", "--files", "3", "--seed", "1")
    assert re.search(r"3 damaged files for each of 4 commands: 0 traceback, 0 silent difference", text)
    assert re.search(r"said: [1-9]", text)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_go_on():
    assert "0 lost, 0 differing, 0 tracebacks" in soak("kills.py", "--kills", "2")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_files_of_others_execute_nothing():
    text = soak("foreign_code.py", "--attempts", "8")
    found = re.search(
        r"(\d+) attempts: 0 executed, (\d+) refused in a sentence, \d+ opened without the code, 0 fell", text
    )
    assert found is not None, text
    assert int(found[1]) == 8
    assert int(found[2]) > 0
    # The same files do execute code where they may: the attempts are real.
    assert re.search(r"([1-9]\d*) controls: \1 executed, as they must, 0 did not", text)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_run_keeps_its_memory_and_files():
    text = soak("long_run.py", "--minutes", "0.06", "--every", "0.15", "--tolerance", "10")
    looks, epochs = map(int, re.search(r"(\d+) looks in 0.06 minutes, (\d+) epochs, exit code 143", text).groups())
    assert looks >= 10
    assert epochs >= 2
    assert "temporary folder" in text
