"""What is measured in a launch: a group, a mesh, and how often it is timed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Launch"]


@dataclass(frozen=True)
class Launch:
    """One measurement by several processes on this machine.

    Attributes:
        models: names of the students' networks.
        mesh: "data=1,peer=2".
        batch: images of a step, over all processes.
        classes: number of classes.
        image: channels, height and width.
        method: by name.
        sync: whether batch norms take their statistics from the whole batch.
        threads: of each process.
        turns: how often everything is timed, in turns; 0: one step, to count bytes.
        calls: steps of a turn.
        loop_threads: threads of one process with the executor `loop` that takes turns with the mesh; 0 for none.
    """

    models: tuple[str, ...]
    mesh: str
    batch: int = 128
    classes: int = 100
    image: tuple[int, int, int] = (3, 32, 32)
    method: str = "dml"
    sync: bool = True
    threads: int = 1
    turns: int = 7
    calls: int = 2
    loop_threads: int = 0
