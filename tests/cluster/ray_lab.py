"""A real Ray cluster of two nodes, on loopback: `python -m ray_lab` prints its address, until it
reads the end of its input.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Where Ray believes that it cannot make clusters, it speaks to nobody but this machine.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
# Ray's workers are of niceness 15 by themselves: beside other tests they get two percent of a core.
AWAKE = {"RAY_worker_niceness": "0"}


@contextmanager
def ray_cluster(env: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Start one; yields its address and the process that its nodes belong to.

    Args:
        env: of the nodes, and so of the trainings.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "ray_lab"],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env | LOOPBACK | AWAKE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = next(line for line in process.stdout if line.startswith("address "))
        yield address.split()[1], process.pid
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def _serve() -> None:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 78_643_200, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=78_643_200)
    print("address", cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    os.environ.update(LOOPBACK)
    _serve()
