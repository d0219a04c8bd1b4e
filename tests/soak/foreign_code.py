"""Attempts to have files of others execute Python: none may, unless this user has named the code, or says so.

    python tests/soak/foreign_code.py [--attempts 50]

Each attempt writes runs, configurations, exports, weights or data in which others have left code, and opens them with a
command. Code that is executed leaves a trace. Attempts whose code a file names are made a second time with
--trust-code, and pickles are read a second time by pickle itself: they must leave the trace then, since otherwise the
attempt would show nothing. Fewer attempts than there are (--attempts) are taken evenly from all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from child import Ended, forked
from foreign_attempts import ATTEMPTS, Attempt
from foreign_places import HONEST, Base, Place, command

SCRIPT = "import sys\nfrom codistill.cli import main\n\nif __name__ == '__main__':\n    sys.exit(main())\n"
"""What pip writes as bin/codistill."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=len(ATTEMPTS), help="how many of them")
    parser.add_argument("--only", default="", help="those with this text in their name")
    parser.add_argument("--show", action="store_true", help="print what each command has answered")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    base = place / "base"
    base.mkdir()
    (base / "codistill").write_text(SCRIPT)
    chosen = _evenly([one for one in ATTEMPTS if given.only in one.name], given.attempts)
    found, bad, apart = Counter(), [], []
    controls: Counter[bool] = Counter()
    made = Base(base)
    for number, attempt in enumerate(chosen):
        here = Place(place / f"a{number}", made)
        kind, text = _made(attempt, here)
        if given.show:
            print(f"{attempt.name}: {kind}: {text.strip()[-400:]}", flush=True)
        if attempt.how == "module":
            apart.append(f"{attempt.name}: {kind}")
            continue
        found[kind] += 1
        if kind in ("executed", "fell over"):
            bad.append(f"{attempt.name}: {kind}: {text[-1500:]}")
        elif attempt.control:
            ran = _control(attempt, Place(place / f"c{number}", made))
            controls[ran] += 1
            if not ran:
                bad.append(f"{attempt.name}: its control executed nothing")
    shutil.rmtree(place)
    print(
        f"{sum(found.values())} attempts: {found['executed']} executed, {found['refused']} refused in a sentence, "
        f"{found['opened']} opened without the code, {found['fell over']} fell over, {found['left out']} left out"
    )
    print(f"{controls.total()} controls: {controls[True]} executed, as they must, {controls[False]} did not")
    for one in apart:
        print(f"not counted, a property of Python: {one}")
    for one in bad:
        print(f"  {one}")
    return int(bool(bad) or not controls[True])


def _evenly(attempts: Sequence[Attempt], count: int) -> list[Attempt]:
    count = min(count, len(attempts))
    return [attempts[at * len(attempts) // count] for at in range(count)]


def _made(attempt: Attempt, place: Place) -> tuple[str, str]:
    """How an attempt ends, and what the command printed."""
    try:
        ended = _ended(attempt, place)
    except ImportError as error:
        return "left out", str(error)
    if place.ran:
        return "executed", ended.text
    if ended.code == 0:
        return "opened", ended.text
    # A picture that cannot be read is named, and the others are classified.
    sentence = "codistill: error: " in ended.text or (ended.code == 1 and "cannot be read" in ended.text)
    return ("refused" if sentence and not ended.traceback else "fell over"), f"{ended.code}: {ended.text}"


def _control(attempt: Attempt, place: Place) -> bool:
    """Whether the same files execute code where they may."""
    if attempt.control == "trust":
        _ended(attempt, place, "--trust-code")
        return place.ran
    given = [one for one in attempt.prepare(place) if isinstance(one, Path)]
    files = [file for one in given for file in (one.rglob("*") if one.is_dir() else (one,)) if file.is_file()]

    def unpickle() -> None:
        for file in files:
            with contextlib.suppress(Exception), file.open("rb") as stream:
                torch.load(stream, weights_only=False)

    forked(unpickle)
    return place.ran


def _ended(attempt: Attempt, place: Place, *more: str) -> Ended:
    if attempt.ours:
        # This user has named an honest file before.
        (place.root / attempt.ours).write_text(HONEST)
        config = place.config("first.yaml")
        mine = ["train", "--config", config, "--model", f"{place.root / attempt.ours}:net", "--dry-run"]
        first = forked(lambda: command(*mine, settings=place.settings, folder=place.root))
        assert first.code == 0, first.text
    arguments = [*attempt.prepare(place), *more]
    folder = place.root / attempt.folder
    if attempt.how == "fork":
        return forked(lambda: command(*arguments, settings=place.settings, folder=folder, home=place.root))
    start = [str(place.base.root / "codistill")] if attempt.how == "console" else ["-m", "codistill"]
    environment = {**os.environ, "CODISTILL_CONFIG": str(place.settings), "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, *start, *map(str, arguments)]
    done = subprocess.run(
        whole, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Ended(done.returncode, done.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
