"""[cluster]: the machines and the network between them."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.keys import key

ALLREDUCE = ("ring", "recursive-doubling", "rabenseifner", "hierarchical", "parameter-server")
ALLGATHER = ("ring", "bruck")
SHARING = ("stretch", "processor")


@dataclass(frozen=True)
class ClusterSection:
    workers: int = key(4, "number of workers; must equal the ranks that mpirun starts", low=1, high=1_000_000)
    workers_per_host: int = key(1, "workers that share a host's link and cores", low=1)
    cores_per_host: int = key(1, "cores of a host, shared by its workers", low=1)
    bandwidth: float = key("1 Gbit/s", "rate of a host's link, each direction", unit="rate", above=0.0)
    latency: float = key("50 us", "one-way latency between two hosts", unit="time", low=0.0)
    local_bandwidth: float = key("5 GB/s", "rate between two workers of one host", unit="rate", above=0.0)
    local_latency: float = key("5 us", "latency between two workers of one host", unit="time", low=0.0)
    message_overhead: float = key("0 s", "simulated: software's time before a message leaves", unit="time", low=0.0)
    cycle_time: float = key("1 ms", "Horovod's cycle: how often it looks for ready tensors", unit="time", above=0.0)
    cpu_sharing: str = key(
        "stretch", "simulated workers that outnumber cores: all work takes longer, or as it comes", choices=SHARING
    )
    allreduce: str = key(
        "auto", "simulated algorithm of an allreduce; auto: Open MPI's choice", choices=("auto", *ALLREDUCE)
    )
    allgather: str = key(
        "auto", "simulated algorithm of an allgather; auto: Open MPI's choice", choices=("auto", *ALLGATHER)
    )
    hosts_per_rack: int = key(0, "hosts behind one switch; 0: all", low=0)
    switch_bandwidth: float = key("0 bit/s", "all traffic through one switch; 0: no limit", unit="rate", low=0.0)
    oversubscription: float = key(1.0, "rates of a rack's hosts together, over that of its uplink", above=0.0)
    racks_per_site: int = key(0, "racks of one site; 0: all", low=0)
    site_bandwidth: float = key("0 bit/s", "between a site and the others; 0: no limit", unit="rate", low=0.0)
    site_latency: float = key("0 s", "one-way latency between two sites, beside that of hosts", unit="time", low=0.0)
    saturating_batch: float = key(0.0, "alpha: examples a worker below which its device is no faster", low=0.0)
    device: str = key("cpu-core", "device whose rate is used where no profile was measured")

    @property
    def hosts(self) -> int:
        """Hosts that the workers fill."""
        return -(-self.workers // min(self.workers, self.workers_per_host))
