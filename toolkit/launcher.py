"""What the launcher (mpirun, srun) says of this process, before MPI is initialised."""

from __future__ import annotations

import os
import socket
from pathlib import Path

CORES = frozenset(os.sched_getaffinity(0))  # before a communicator may pin this rank to one of them
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def launched_rank() -> int:
    """This process's rank as the launcher tells it, before MPI is initialised; 0 without a launcher."""
    return next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), 0)


def launched_size() -> int | None:
    """Number of ranks that the launcher started; None without a launcher."""
    return next((int(os.environ[name]) for name in SIZE_VARIABLES if name in os.environ), None)


def kernel_identity() -> str:
    """What processes of one running kernel have in common, whatever host name they see (containers, namespaces)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
