"""One process of a run that tests/soak/ranks.py disturbs; started by torchrun.

The fault is in the variable FAULT, as KIND:RANK:PLACE:NUMBER, such as kill:1:gather:7: process 1 kills itself when it
gathers outputs for the seventh time. It happens once: a file of the same name says that it has.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from child import CONFIG, DIGITS

from codistill import UserError
from codistill.execution import distributed, exchange, own_outputs
from codistill.training import resume, saver, train
from codistill.training.checkpoint import latest


def main() -> int:
    out, mesh = Path(sys.argv[1]), sys.argv[2]
    slow_down(float(os.environ.get("SLOW", 0)))
    arm(os.environ.get("FAULT", ""), out.parent)
    config = dataclasses.replace(
        CONFIG, out=out, group="networks", peers=int(os.environ.get("PEERS", 4)), executor="auto", mesh=mesh,
        save_steps=2, rank_timeout=float(os.environ.get("RANK_TIMEOUT", 20)),
    )  # fmt: skip
    try:
        if latest(out) is not None and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
            resume(out, mesh=mesh, dataset=DIGITS)
        else:
            train(config, dataset=DIGITS)
    except UserError as error:
        print(f"codistill: error: {error}")
        return error.exit_code
    except KeyboardInterrupt as stop:
        return getattr(stop, "code", 130)
    return 0


def slow_down(seconds: float) -> None:
    """Let each checkpoint take longer, so that others can act within an epoch."""
    before = saver.publish

    def slowly(*given: Any, **named: Any) -> Any:
        made = before(*given, **named)
        time.sleep(seconds)
        return made

    if seconds:
        saver.publish = slowly


def arm(fault: str, folder: Path) -> None:
    """Let one fault happen in this process, if it is for this one and has not happened yet."""
    if not fault:
        return
    kind, rank, place, number = fault.split(":")
    done = folder / f"{fault.replace(':', '-')}.done"
    if int(rank) != int(os.environ["RANK"]) or done.exists():
        return
    count = 0

    def happen() -> None:
        nonlocal count
        count += 1
        if count != int(number) or done.exists():
            return
        done.write_text("")
        print(f"FAULT {fault}", flush=True)
        if kind == "hang":
            time.sleep(3600)
        elif kind == "error":
            raise RuntimeError("a fault for the test")
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}[kind])

    owner, name = PLACES[place]
    before: Callable[..., Any] = getattr(owner, name)

    def disturbed(*given: Any, **named: Any) -> Any:
        happen()
        return before(*given, **named)

    setattr(owner, name, disturbed)


PLACES: dict[str, tuple[Any, str]] = {
    "forward": (own_outputs, "run_peers"),
    "gather": (exchange.Exchange, "exchange"),
    "reduce": (distributed, "_averaged"),
    "assemble": (distributed.DistributedExecutor, "assemble"),
    "save": (saver.Saver, "save"),
    "write": (saver, "publish"),
}


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # What gloo's threads still wait for must not keep a process that has failed.
    os._exit(code)
