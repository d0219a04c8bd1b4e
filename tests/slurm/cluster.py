"""A Slurm of one node on this machine, in a temporary folder, for as long as a command or a test takes.

    python tests/slurm/cluster.py codistill compare ... --launcher slurm

It needs root and the programs of the Debian package slurm-wlm, and touches no Slurm that is there already.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """What stands against a cluster on this machine, in a few words; empty if nothing does."""
    if os.name != "posix" or os.geteuid() != 0:
        return "not root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no {absent[0]} (Debian: slurm-wlm)" if absent else ""


@contextlib.contextmanager
def cluster():
    """Yield the environment in which sbatch and the others speak to a new cluster; remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    config = folder / "slurm.conf"
    names = {"host": socket.gethostname().partition(".")[0], "folder": folder}
    config.write_text(CONFIG.format(**names, controller_port=free_port(), node_port=free_port()))
    env = {**os.environ, "SLURM_CONF": str(config)}
    munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "seed-file")]
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--log-file={folder}/munge.log", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D"],
    ]
    started = []
    try:
        for command in daemons:
            log = (folder / f"{command[0]}.out").open("wb")
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True))
            log.close()
            time.sleep(0.5)
        wait_until_idle(env, folder)
        yield env
    finally:
        subprocess.run(["scancel", "--user=root"], env=env, capture_output=True)
        wait_for_empty_queue(env)
        for process in reversed(started):
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_until_idle(env, folder):
    for _ in range(60):
        state = subprocess.run(["sinfo", "--noheader", "--format=%T"], env=env, capture_output=True, text=True)
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in folder.glob("*.out"))
    raise RuntimeError(f"the cluster did not start: {state.stdout}{state.stderr}\n{logs}")


def wait_for_empty_queue(env):
    for _ in range(60):
        queue = subprocess.run(["squeue", "--noheader"], env=env, capture_output=True, text=True)
        if not queue.stdout.strip():
            return
        time.sleep(0.5)


if __name__ == "__main__":
    if why := missing():
        sys.exit(f"no Slurm here: {why}")
    with cluster() as environment:
        code = subprocess.run(sys.argv[1:], env=environment).returncode
    sys.exit(code)
