"""The mpirun that reaches the hosts of a testbed: by its own launch agent, over TCP on the testbed's net only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from toolkit import registry
from toolkit.sections.cluster import ClusterSection
from toolkit.testbed.hosts import NET, Testbed

SCRIPTS = Path(__file__).resolve().parents[2] / "run_scripts"
# Everything eager: a rendezvous' answer would queue behind the data that its sender has under way to its neighbour (one
# FIFO before the link), which costs a ring of 4 up to half as much again.
EAGER = str(32 << 20)
TUNING = {
    "pml": "ob1",
    "btl_tcp_eager_limit": EAGER,
    "btl_tcp_rndv_eager_limit": EAGER,
    "btl_tcp_max_send_size": EAGER,
    "btl_tcp_free_list_num": "2",
    "btl_tcp_free_list_inc": "2",
}
# Numbers of coll/tuned's algorithms; han and adapt would come before it.
ALLREDUCE = {"recursive-doubling": "3", "ring": "4", "rabenseifner": "6"}
ALLGATHER = {"bruck": "2", "ring": "4"}
ALLGATHERV = {"bruck": "2", "ring": "3"}


def pinned(cluster: ClusterSection) -> dict[str, str]:
    """MCA parameters that make MPI take the algorithms that [cluster] sets; UserError for one that it does not have."""
    chosen: dict[str, str] = {}
    if cluster.allreduce != "auto":
        name = registry.check_name("[cluster] allreduce", cluster.allreduce, ("auto", *ALLREDUCE))
        chosen["coll_tuned_allreduce_algorithm"] = ALLREDUCE[name]
    if cluster.allgather != "auto":
        chosen["coll_tuned_allgather_algorithm"] = ALLGATHER[cluster.allgather]
        chosen["coll_tuned_allgatherv_algorithm"] = ALLGATHERV[cluster.allgather]
    return {"coll": "^han,adapt", "coll_tuned_use_dynamic_rules": "1", **chosen} if chosen else {}


def mpirun_command(testbed: Testbed, cluster: ClusterSection) -> list[str]:
    """Arguments of run_scripts/mpirun.sh for a job over all hosts, without the program itself."""
    net, agent = f"{NET}.0/24", str(SCRIPTS / "testbed_agent.sh")
    slots = min(cluster.workers, cluster.workers_per_host)
    places = ",".join(f"{testbed.address(number)}:{slots}" for number in range(len(testbed.links)))
    if major_version() >= 5:
        launch = ["--prtemca", "plm_ssh_agent", agent, "--prtemca", "prte_if_include", net]
    else:
        launch = ["--mca", "plm_rsh_agent", agent, "--mca", "oob_tcp_if_include", net]
    parameters = {"btl": "tcp,self", "btl_tcp_if_include": net, **TUNING, **pinned(cluster)}
    settings = [word for name, value in parameters.items() for word in ("--mca", name, value)]
    return ["-np", str(cluster.workers), "--host", places, *launch, *settings]


def major_version() -> int:
    """Open MPI's major version, 5 where it does not say."""
    shown = subprocess.run((str(SCRIPTS / "mpirun.sh"), "--version"), capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.\d+\.\d+", shown.stdout)
    return int(found.group(1)) if found else 5
