"""Two hosts on one machine: network namespaces with addresses of their own (Linux, root), and a link that is cut.

    sudo python tests/soak/two_hosts.py [--mesh peer=2]

torchrun on each "host" starts one process. Without a cut, the run equals that of two processes on one host to the bit.
With one, in the middle of training, both processes give up within --rank-timeout, and torchrun on both hosts starts
them again once the link is back; the run ends with the same numbers. Where namespaces are not allowed, one line says
so and the exit code is 0.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from child import numbers
from ranks import started

HOSTS = {"codistill-a": "10.77.0.1", "codistill-b": "10.77.0.2"}
PORT, LINK = 29411, "eth0"
CUT = 30.0
"""Seconds for which the link is down: longer than --rank-timeout."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mesh", default="peer=2")
    given = parser.parse_args()
    why = make_hosts()
    try:
        if why:
            print(f"skipped: no network namespaces here ({why})")
            return 0
        return soak(given.mesh)
    finally:
        remove_hosts()


def soak(mesh: str) -> int:
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    one = started(place / "one", mesh)
    assert one.returncode == 0, one.stdout
    expected, wrong = numbers(place / "one" / "run"), 0
    for name, cut in (("whole", False), ("cut", True)):
        begin = time.perf_counter()
        (place / name).mkdir()
        running = start(place / name, mesh)
        if cut:
            cut_link(place / name, running)
        codes = [process.wait(600) for process in running]
        same = codes == [0, 0] and numbers(place / name / "run") == expected
        wrong += not same
        how = f"cut for {CUT:g} s" if cut else "left alone"
        result = "equal to one host to the bit" if same else "NOT equal"
        print(f"two hosts, {mesh}, link {how}: exit codes {codes}, {result}, {time.perf_counter() - begin:.0f} s")
        if not same:
            for log in sorted((place / name).glob("*.log")):
                print(log.read_text()[-3000:])
    shutil.rmtree(place)
    return int(wrong > 0)


def start(folder: Path, mesh: str) -> list[subprocess.Popen[bytes]]:
    """torchrun on both hosts."""
    running = []
    for rank, (host, address) in enumerate(HOSTS.items()):
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LINK, "RANK_TIMEOUT": "15", "SLOW": "0.5",
        }  # fmt: skip
        command = [
            "ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run",
            "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "5", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", f"{HOSTS['codistill-a']}:{PORT}", "--rdzv-id", folder.name,
            "--rdzv-conf", f"is_host={int(rank == 0)}", "--local-addr", address,
            str(Path(__file__).with_name("rank.py")), str(folder / "run"), mesh,
        ]  # fmt: skip
        with (folder / f"{host}.log").open("wb") as log:
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    return running


def cut_link(folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    """Take the link down once the run has a checkpoint within an epoch, and up again."""
    until = time.monotonic() + 120
    while not any((folder / "run" / "checkpoints").glob("*_step_*")):
        assert time.monotonic() < until, "no checkpoint"
        assert all(process.poll() is None for process in running), "torchrun has ended"
        time.sleep(0.05)
    ip("-n", "codistill-b", "link", "set", LINK, "down")
    time.sleep(CUT)
    ip("-n", "codistill-b", "link", "set", LINK, "up")


def make_hosts() -> str | None:
    """Make both namespaces and the link between them; return why that is not possible, or None."""
    remove_hosts()
    if shutil.which("ip") is None:
        return "there is no program ip"
    first, second = HOSTS
    steps = [("netns", "add", host) for host in HOSTS]
    steps.append(("link", "add", "name", LINK, "netns", first, "type", "veth", "peer", "name", LINK, "netns", second))
    for host, address in HOSTS.items():
        steps += [
            ("-n", host, "addr", "add", f"{address}/24", "dev", LINK),
            ("-n", host, "link", "set", "lo", "up"),
            ("-n", host, "link", "set", LINK, "up"),
        ]
    for step in steps:
        done = ip(*step)
        if done.returncode:
            return f"ip {' '.join(step)}: {done.stderr.strip()}"
    return None


def remove_hosts() -> None:
    """Remove the namespaces, and with them the link."""
    if shutil.which("ip") is not None:
        for host in HOSTS:
            ip("netns", "del", host)


def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program ip."""
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    raise SystemExit(main())
