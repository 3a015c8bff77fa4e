"""A real SLURM with this machine as its one node, for the tests; needs root, slurm-wlm and munge.

`python tests/slurm_node.py FOLDER` starts one and prints the line for the shell that points to it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge.socket,cred_expire=20
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
MaxArraySize=10001
KillWait=2
InactiveLimit=0
Waittime=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} CoresPerSocket={cores} State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def is_installed():
    commands = ("sbatch", "slurmctld", "slurmd", "munged")
    return os.geteuid() == 0 and all(shutil.which(command) for command in commands)


def start(base: Path) -> Path:
    """Start the daemons; the path of slurm.conf, for SLURM_CONF."""
    for part in (base, base / "state", base / "spool"):
        part.mkdir(parents=True, exist_ok=True)
        part.chmod(0o755)
    key = base / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (one, two)]
    conf = base / "slurm.conf"
    conf.write_text(CONF.format(host=host, ports=ports, base=base, cores=os.cpu_count()))
    (base / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    _run(
        *("munged", "--force", f"--key-file={key}", f"--socket={base}/munge.socket"),
        *(f"--pid-file={base}/munged.pid", f"--log-file={base}/munged.log"),
        f"--seed-file={base}/munged.seed",
    )
    _run("slurmctld", "-c", "-f", str(conf))
    _run("slurmd", "-c", "-f", str(conf))
    for _ in range(200):
        command = ["sinfo", "-h", "-N", "-o", "%T"]
        env = {**os.environ, "SLURM_CONF": str(conf)}
        made = subprocess.run(command, env=env, capture_output=True, text=True)
        if made.stdout.strip() == "idle":
            return conf
        time.sleep(0.1)
    logs = "\n".join(path.read_text()[-2000:] for path in base.glob("*.log"))
    stop(base)
    raise RuntimeError(f"SLURM's node is not idle: {made.stdout}{made.stderr}\n{logs}")


def stop(base: Path) -> None:
    """Stop what `start` has started, and what runs there."""
    env = {**os.environ, "SLURM_CONF": str(base / "slurm.conf")}
    subprocess.run(["scancel", "--user=root"], env=env, capture_output=True)
    for _ in range(100):
        if not subprocess.run(["squeue", "-h"], env=env, capture_output=True).stdout.strip():
            break
        time.sleep(0.1)
    for name in ("slurmd", "slurmctld", "munged"):
        try:
            os.kill(int((base / f"{name}.pid").read_text()), signal.SIGTERM)
        except (OSError, ValueError):
            continue


def _run(*command: str) -> None:
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {made.stdout}{made.stderr}")


if __name__ == "__main__":
    print(f"export SLURM_CONF={start(Path(sys.argv[1]).resolve())}")
