"""The results on disk, complete after every measurement, whatever happens in the next one."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any

from on_gpu.setting import Numbers

__all__ = ["UNFINISHED", "Ledger"]

UNFINISHED = "did not end: the process died here, or was stopped at its time limit"


class Ledger:
    """`results.json` in a folder: evidence of each call of the program, and one entry per measurement.

    Only one process writes at a time: the program while no part runs, and otherwise the part.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._file = folder, folder / "results.json"

    def read(self) -> dict[str, Any]:
        """Return all of it: "evidence", a list of calls, and "entries"."""
        if not self._file.exists():
            return {"evidence": [], "entries": []}
        return json.loads(self._file.read_text(encoding="utf-8"))

    def entries(self, part: str) -> list[dict[str, Any]]:
        """Return the entries of a part."""
        return [entry for entry in self.read()["entries"] if entry["part"] == part]

    def open_call(self, evidence: dict[str, Any], parts: list[str]) -> None:
        """Begin a call that measures these parts again; entries of other parts stay."""
        record = self.read()
        record["entries"] = [entry for entry in record["entries"] if entry["part"] not in parts]
        record["evidence"].append({**evidence, "parts": parts})
        self._write(record)

    def add_evidence(self, **values: Any) -> None:
        """Add to what is known of the latest call."""
        record = self.read()
        record["evidence"][-1] |= values
        self._write(record)

    def begin(self, part: str, what: str) -> None:
        """Note that a measurement has begun, so that it is known if the process dies in it."""
        self._put({"part": part, "what": what, "numbers": {}, "error": UNFINISHED})

    def end(self, part: str, what: str, seconds: float, numbers: Numbers, error: BaseException | None = None) -> None:
        """Record a measurement; of an error one line, and its traceback in errors.txt."""
        entry: dict[str, Any] = {"part": part, "what": what, "numbers": numbers, "seconds": round(seconds, 3)}
        if error is not None:
            lines = str(error).splitlines() or [""]
            entry["error"] = f"{type(error).__name__}: {lines[0]}"
            with (self.folder / "errors.txt").open("a", encoding="utf-8") as file:
                file.write(f"=== {part}: {what}\n{''.join(traceback.format_exception(error))}\n")
        self._put(entry)

    def note(self, part: str, what: str, text: str) -> None:
        """Record something that is no measurement, such as what was left out."""
        self._put({"part": part, "what": what, "numbers": {}, "note": text})

    def _put(self, entry: dict[str, Any]) -> None:
        record, key = self.read(), (entry["part"], entry["what"])
        record["entries"] = [other for other in record["entries"] if (other["part"], other["what"]) != key]
        record["entries"].append({**entry, "call": len(record["evidence"]) - 1})
        self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        new = self._file.with_suffix(".json.new")
        new.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(new, self._file)  # noqa: PTH105
