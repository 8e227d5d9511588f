"""A real Slurm with one node on this machine, by itself: own ports, own key, gone when the block ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

COMMANDS = ("slurmctld", "slurmd", "sbatch", "munged", "setpriv")

CONFIGURATION = """
ClusterName=blemore
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=8
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=3000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES PriorityTier=1 MaxTime=1-0 State=UP
PartitionName=urgent Nodes={host} PriorityTier=9 MaxTime=INFINITE State=UP
"""
"""A job of the partition `urgent` sends those of `main` back into the queue, from where they start again at once."""


def missing() -> str:
    """Return why no Slurm can be started here; empty where it can."""
    absent = [command for command in COMMANDS if shutil.which(command) is None]
    if absent:
        return f"needs {', '.join(absent)} (Debian: slurm-wlm, munge, util-linux)"
    return "" if os.geteuid() == 0 else "needs root, which starts Slurm"


@contextlib.contextmanager
def slurm_cluster() -> Iterator[Path]:
    """Start one; yields its configuration file, for `SLURM_CONF`."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path, as the socket's may not be long
    host = socket.gethostname()
    control, node = _free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder, control=control, node=node))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "pid-file")]
        munge += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"]
        for words in (["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            # They end with this process, even where it is killed.
            daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *words], env=environment, stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                )
            )  # fmt: skip
            while words[0] == "munged" and not (folder / "munge.socket").exists() and daemons[0].poll() is None:
                time.sleep(0.05)
        for _ in range(600):
            said = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
            if "idle" in said.stdout:
                break
            time.sleep(0.1)
        else:
            logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
            raise AssertionError(f"Slurm does not start: {said.stdout} {said.stderr}\n{logs}")
        yield configuration
    finally:
        subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], env=environment, capture_output=True)
        for daemon in reversed(daemons):
            daemon.kill()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
