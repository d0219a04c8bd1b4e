"""Damaged files of a run, and what four commands make of each: one sentence, or the same result; never another one.

    python tests/soak/damage.py [--files 250] [--seed 0]

A bit flipped, the end cut off, zeros, other bytes, nothing, or the file gone, in a run that was interrupted (resume)
and in a finished one (evaluate, export, report).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from child import DIGITS, begin, forked, interrupted, numbers

DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "bit": lambda content, draw: _flipped(content, draw),
    "cut": lambda content, draw: content[: draw.randrange(len(content))],
    "zeros": lambda content, draw: _replaced(content, draw, bytes(64)),
    "noise": lambda content, draw: _replaced(content, draw, draw.randbytes(64)),
    "empty": lambda content, draw: b"",
    "gone": lambda content, draw: None,
}


def _flipped(content: bytes, draw: random.Random) -> bytes:
    changed, place = bytearray(content), draw.randrange(len(content))
    changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _replaced(content: bytes, draw: random.Random, new: bytes) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + new + content[place + len(new) :]


def _resume(run: Path) -> None:
    from codistill.training import resume

    resume(run, dataset=DIGITS)
    print("RESULT", hash(repr(numbers(run))))


def _evaluate(run: Path) -> None:
    from codistill.training.evaluate import evaluate_run

    print("RESULT", json.dumps(evaluate_run(run, dataset=DIGITS)))


def _export(run: Path) -> None:
    from codistill.export import export_student

    folder = export_student(run, run.parent / "export", dataset=DIGITS)
    print("RESULT", hash((Path(str(folder)) / "student.safetensors").read_bytes()))


def _report(run: Path) -> None:
    from codistill import reports

    page = reports.write_report(reports.find_runs([run]), run.parent / "page.html")
    print("RESULT", hash(Path(page).read_bytes()))


COMMANDS = {"resume": _resume, "evaluate": _evaluate, "export": _export, "report": _report}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, place = random.Random(given.seed), Path(tempfile.mkdtemp(prefix="soak-"))
    whole, cut = place / "whole", place / "cut"
    assert forked(lambda: begin(whole)).code == 0
    assert forked(lambda: interrupted(cut)).code == 143
    expected = {}
    for name, command in COMMANDS.items():
        copy = _copy(cut if name == "resume" else whole, place / "copy")
        expected[name] = _result(forked(lambda command=command, copy=copy: command(copy)).text)
        assert expected[name], name
    found, outcomes = Counter({"traceback": 0, "silent difference": 0}), Counter()
    for number in range(given.files * len(COMMANDS)):
        kind, name = list(DAMAGES)[number // len(COMMANDS) % len(DAMAGES)], list(COMMANDS)[number % len(COMMANDS)]
        run = _copy(cut if name == "resume" else whole, place / "copy")
        files = sorted(f for f in run.rglob("*") if f.is_file() and f.name != ".lock" and f.stat().st_size)
        path = draw.choice(files)
        content = DAMAGES[kind](path.read_bytes(), draw)
        path.unlink() if content is None else path.write_bytes(content)
        ended = forked(lambda name=name, run=run: COMMANDS[name](run))
        told, case = "arning" in ended.text, f"{name}, {kind} in {path.relative_to(run)}"
        same = ended.code == 0 and _result(ended.text) == expected[name]
        outcomes["same" if same else "said" if ended.code or told else "other"] += 1
        if ended.traceback:
            found["traceback"] += 1
            print(f"traceback: {case}: {ended.text[-400:]}")
        elif not same and not ended.code and not told:
            found["silent difference"] += 1
            print(f"silent difference: {case}")
    shutil.rmtree(place)
    faults = ", ".join(f"{n} {what}" for what, n in found.items())
    print(f"{given.files} damaged files for each of {len(COMMANDS)} commands: {faults}")
    print(", ".join(f"{what}: {n}" for what, n in outcomes.items()))
    return int(any(found.values()))


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


def _result(text: str) -> str:
    return text.rpartition("RESULT ")[2].strip() if "RESULT " in text else ""


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
