"""Processes and how they talk: the only importer of horovod and mpi4py.

Horovod does the collectives on gradients, mpi4py everything else (on its own duplicate of the communicator, so that the
two never mix). Horovod's fusion is switched off: the reducer's buckets are the fusion, which keeps the order of every
sum, and so every bit of the result, independent of timing.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.errors import AgreedError, UserError
from toolkit.launcher import CORES, kernel_identity

POLL_INTERVAL_S = 100e-6  # horovod's own synchronize spins, which starves the other ranks of a small machine
LONGEST_PAUSE_S = 500e-6  # of a server that waits for requests
EAGER_POLLS = 20  # a neighbour's message is often there already: look so often, giving way in between, before sleeping
MESSAGE_TAG = 7


class Channel:
    """Messages of bytes from rank to rank, any number under way, for any thread; nobody has to be in step."""

    def __init__(self, mpi: Any, comm: Any) -> None:
        self._mpi = mpi
        self._comm = comm
        self._sent: list[tuple[Any, NDArray[np.uint8]]] = []
        self._lock = threading.Lock()

    def post(self, rank: int, tag: int, message: NDArray[np.uint8]) -> None:
        """Start sending; the buffer must not be written to any more."""
        request = self._comm.Isend([message, self._mpi.BYTE], rank, tag)
        with self._lock:
            self._sent = [(open_, buffer) for open_, buffer in self._sent if not open_.Test()]
            self._sent.append((request, message))

    def take(self, tag: int, rank: int | None = None) -> tuple[int, NDArray[np.uint8]]:
        """Wait, without spinning, for the next message with this tag, from `rank` or anybody: (source, bytes)."""
        source = self._mpi.ANY_SOURCE if rank is None else rank
        status, polls = self._mpi.Status(), 0
        while (message := self._comm.Improbe(source, tag, status)) is None:
            polls += 1
            time.sleep(_pause(polls))
        received = np.empty(status.Get_count(self._mpi.BYTE), np.uint8)
        request, polls = message.Irecv([received, self._mpi.BYTE]), 0
        while not request.Test():
            polls += 1
            time.sleep(_pause(polls))
        return int(status.Get_source()), received

    def flush(self) -> None:
        """Wait until everything posted has left; other threads may go on posting meanwhile."""
        while True:
            with self._lock:
                self._sent = [(open_, buffer) for open_, buffer in self._sent if not open_.Test()]
                if not self._sent:
                    return
            time.sleep(POLL_INTERVAL_S)

    def close(self) -> None:
        """All ranks together, after everything sent was taken."""
        self.flush()
        self._comm.Free()


def _pause(polls: int) -> float:
    """Seconds to sleep after so many vain looks: at first only give way, then longer: who idles costs little."""
    return 0.0 if polls <= EAGER_POLLS else min(POLL_INTERVAL_S * (polls - EAGER_POLLS), LONGEST_PAUSE_S)


class Communicator:
    """The ranks of one job. Create it once a process; `close` it at the end."""

    def __init__(self, cycle_time_s: float = 1e-3) -> None:
        os.environ["HOROVOD_FUSION_THRESHOLD"] = "0"
        os.environ["HOROVOD_CYCLE_TIME"] = repr(cycle_time_s * 1e3)
        os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", "60")
        try:
            import horovod.torch as hvd
            from mpi4py import MPI  # first: it asks MPI for thread support that Horovod's thread needs
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"MPI or Horovod is not usable here ({str(error).splitlines()[0]}): run ./run_scripts/setup.sh, then "
                "'python -m toolkit doctor'"
            ) from None
        hvd.init()
        self._hvd = hvd
        self._mpi = MPI
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()
        self.local_rank: int = hvd.local_rank()
        self.local_size: int = hvd.local_size()
        self.hosts: list[str] = self._comm.allgather(socket.gethostname())
        self.kernels: list[str] = self._comm.allgather(kernel_identity())
        sharing = self._comm.allgather((self.kernels[self.rank], sorted(CORES)))
        self.core_sharers: int = sharing.count(sharing[self.rank])  # ranks on these cores, whatever host they call it
        pin(sharing[: self.rank].count(sharing[self.rank]), self.core_sharers)
        self._origin = self._agree_origin()

    def _agree_origin(self) -> float:
        """A common zero of time: the processes of one kernel share the monotonic clock, others meet at a barrier."""
        self._meet()
        now = time.perf_counter()
        return float(self._comm.bcast(now, root=0)) if len(set(self.kernels)) == 1 else now

    def clock(self) -> float:
        """Seconds since the common origin of all ranks."""
        return time.perf_counter() - self._origin

    def resume_clock(self, seconds: float) -> None:
        """Let the clock go on from the latest of all ranks' `seconds`, as after a resume."""
        self._meet()
        latest = max(self._comm.allgather(seconds))
        self._origin = self._agree_origin() - latest

    # Horovod: gradients

    def allreduce(self, tensor: torch.Tensor, name: str) -> int:
        """Start summing `tensor` over all ranks, in place; returns a handle for `wait`."""
        return int(self._hvd.allreduce_async_(tensor, name=name, op=self._hvd.Sum))

    def allgather(self, tensor: torch.Tensor, name: str) -> int:
        """Start concatenating all ranks' `tensor`, of any length each, in rank order; returns a handle for `wait`."""
        return int(self._hvd.allgather_async(tensor, name=name))

    def ready(self, handle: int) -> bool:
        """Whether `wait` would return at once."""
        return bool(self._hvd.poll(handle))

    def wait(self, handle: int) -> torch.Tensor:
        """Block, without spinning, until the operation is complete; returns its output."""
        while not self._hvd.poll(handle):
            time.sleep(POLL_INTERVAL_S)
        output: torch.Tensor = self._hvd.synchronize(handle)
        return output

    def broadcast_parameters(self, tensors: dict[str, torch.Tensor]) -> None:
        """Overwrite all ranks' tensors with rank 0's."""
        self._hvd.broadcast_parameters(tensors, root_rank=0)

    # mpi4py: everything else

    def _meet(self) -> None:
        """Wait for all ranks without spinning: MPI's own collectives would burn the cores that the late ones need."""
        request = self._comm.Ibarrier()
        while not request.Test():
            time.sleep(POLL_INTERVAL_S)

    def barrier(self) -> None:
        self._meet()

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        self._meet()
        return self._comm.bcast(value, root=0)

    def gather(self, value: Any) -> list[Any]:
        """All ranks' values in rank order on rank 0; an empty list elsewhere."""
        self._meet()
        return self._comm.gather(value, root=0) or []

    def allgather_values(self, value: Any) -> list[Any]:
        """All ranks' values in rank order on every rank."""
        self._meet()
        return list(self._comm.allgather(value))

    def trade(self, outgoing: dict[int, NDArray[np.uint8]], sources: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
        """Send bytes to other ranks and receive one message, of any length, from each of `sources`.

        Returns when everything is received and may be overwritten. Ranks must trade in the same order.
        """
        byte, status = self._mpi.BYTE, self._mpi.Status()
        requests = [self._comm.Isend([message, byte], rank, MESSAGE_TAG) for rank, message in outgoing.items()]
        received: dict[int, NDArray[np.uint8]] = {}
        missing, polls = list(sources), 0
        while True:
            for source in list(missing):
                message = self._comm.Improbe(source, MESSAGE_TAG, status)
                if message is not None:
                    received[source] = np.empty(status.Get_count(byte), np.uint8)
                    requests.append(message.Irecv([received[source], byte]))
                    missing.remove(source)
                    polls = 0
            if self._mpi.Request.Testall(requests) and not missing:
                return received
            polls += 1
            time.sleep(POLL_INTERVAL_S if polls > EAGER_POLLS else 0)

    def channel(self) -> Channel:
        """A channel of its own for all ranks, which call this together; `close` it likewise."""
        self._meet()
        return Channel(self._mpi, self._comm.Dup())

    def mean_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Mean over the ranks, added up in rank order: the same bits everywhere."""
        self._meet()
        parts = self._comm.allgather(tensor.numpy())
        total = torch.zeros_like(tensor)
        for part in parts:
            total += torch.from_numpy(part)
        return total / self.size

    def agree(self, problem: UserError | None) -> None:
        """Raise on every rank the first rank's problem, if any rank has one: nobody is left waiting."""
        self._meet()
        first = next((text for text in self._comm.allgather(str(problem) if problem else None) if text), None)
        if first is not None:
            raise AgreedError(first)

    def close(self) -> None:
        """End Horovod and MPI. All ranks meet first and MPI ends here, not at the interpreter's exit: a rank that is
        still tidying up would be starved by those that spin in MPI's final barrier."""
        self._meet()
        self._hvd.shutdown()
        self._meet()
        self._comm.Free()
        self._mpi.Finalize()


def pin(place: int, sharers: int) -> None:
    """Where `sharers` ranks share cores evenly, keep each on one: left alone, the system sometimes puts three of four
    on one core of two, and every step then takes half as long again."""
    cores = sorted(CORES)
    if sharers > len(cores) and sharers % len(cores) == 0:
        os.sched_setaffinity(0, {cores[place % len(cores)]})


def abort_job(code: int = 1) -> None:
    """End all ranks of the job at once, if MPI was ever started in this process."""
    sys.stderr.flush()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(code)


def self_test() -> None:
    """An allreduce over all ranks; rank 0 prints "ok", the sum and the number of ranks."""
    comm = Communicator()
    output = comm.wait(comm.allreduce(torch.full((1000,), float(comm.rank + 1)), "self_test"))
    expected = comm.size * (comm.size + 1) / 2
    if not bool((output == expected).all()):
        raise RuntimeError(f"allreduce gave {output[0].item()}, expected {expected}")
    if comm.rank == 0:
        print(f"ok sum={output[0].item():g} ranks={comm.size}", flush=True)
    comm.close()
