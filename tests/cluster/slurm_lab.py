"""A real Slurm of one node, on loopback, in a folder of its own: no systemd, no system accounts.

`python -m tests.cluster.slurm_lab FOLDER` starts one and prints what to export, until Ctrl-C.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge", "slurmdbd", "mariadb-server")  # of Debian
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "sbatch")
PATIENCE_S = 60

SLURM = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=5
ReturnToService=2
KillWait=5
OverTimeLimit=0
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

DBD = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd}
CommunicationParameters=NoInAddrAny
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""


def missing() -> list[str]:
    """List the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start Slurm with accounting; yields the environment that its commands need.

    Raises:
        TimeoutError: if a part does not answer; says which, and what its log says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    known = _write(folder)
    with ExitStack() as stack:
        start = Daemons(folder, env, stack).start
        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket",
              f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid",
              f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munge.log")  # fmt: skip
        _await("munge", lambda: (folder / "munge.socket").exists(), folder)
        _start_database(start, folder, env, known)
        start("slurmdbd", "-D")
        _await("slurmdbd", _answers(env, "sacctmgr", "-n", "show", "cluster"), folder)
        _answers(env, "sacctmgr", "-i", "add", "cluster", "lab")()
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D")
        _await("slurmctld", _answers(env, "sinfo", "-h", "-o", "%T", says="idle"), folder)
        yield {"SLURM_CONF": env["SLURM_CONF"], "PATH": env["PATH"]}


class Daemons:
    """Processes that end with the lab, each with a log of its own."""

    def __init__(self, folder: Path, env: dict[str, str], stack: ExitStack) -> None:
        self.folder, self.env, self.stack = folder, env, stack

    def start(self, *command: str) -> None:
        """Start one."""
        log = self.stack.enter_context((self.folder / f"{command[0]}.out").open("wb"))
        process = subprocess.Popen(
            command, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        self.stack.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write(folder: Path) -> dict[str, object]:
    """Write the configuration; returns what it names."""
    known: dict[str, object] = {
        "folder": folder,
        "host": socket.gethostname().partition(".")[0],
        "user": getpass.getuser(),
        "cpus": os.cpu_count(),
        "password": secrets.token_hex(8),
        **dict(zip(("ctld", "slurmd", "dbd", "sql"), _free_ports(4), strict=True)),
    }
    for name in ("state", "spool", "database"):
        (folder / name).mkdir(exist_ok=True)
    files = {"slurm.conf": SLURM.format(**known), "slurmdbd.conf": DBD.format(**known)}
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "slurmdbd.conf").chmod(0o600)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    return known


def _start_database(
    start: Callable[..., None], folder: Path, env: dict[str, str], known: dict[str, object]
) -> None:
    """Start MariaDB for the accounting, without which submitit does not learn of lost jobs."""
    own = ["--no-defaults", f"--user={known['user']}", f"--datadir={folder}/database"]
    subprocess.run(
        ["mariadb-install-db", *own, "--skip-test-db", "--auth-root-authentication-method=normal"],
        env=env, check=True, capture_output=True,
    )  # fmt: skip
    start("mariadbd", *own, f"--socket={folder}/sql.socket", "--bind-address=127.0.0.1",
          f"--port={known['sql']}", f"--pid-file={folder}/sql.pid",
          "--innodb-buffer-pool-size=64M")  # fmt: skip
    sql = ("mariadb", "--no-defaults", "-u", "root", f"--socket={folder}/sql.socket", "-e")
    _await("mariadbd", _answers(env, *sql, "select 1"), folder)
    users = " ".join(
        f"create user slurm@'{host}' identified by '{known['password']}';"
        f"grant all on slurm_acct_db.* to slurm@'{host}';"
        for host in ("127.0.0.1", "localhost")
    )
    _await("the database", _answers(env, *sql, f"create database slurm_acct_db; {users}"), folder)


def _answers(env: dict[str, str], *command: str, says: str = "") -> Callable[[], bool]:
    def ask() -> bool:
        ended = subprocess.run(command, env=env, capture_output=True, text=True)
        return ended.returncode == 0 and says in ended.stdout

    return ask


def _await(name: str, is_there: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_there():
        if time.monotonic() > end:
            logs = sorted(folder.glob("*.log")) + sorted(folder.glob("*.out"))
            tails = (f"{log.name}: {log.read_text(errors='replace')[-500:]}" for log in logs)
            raise TimeoutError(f"{name} does not answer.\n" + "\n".join(tails))
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


if __name__ == "__main__":
    with slurm(Path(sys.argv[1]).resolve()) as found:
        print(*(f"export {name}={value}" for name, value in found.items()), sep="\n", flush=True)
        try:
            time.sleep(10**8)
        except KeyboardInterrupt:
            print("stopping")
