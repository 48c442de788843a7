"""Hosts as network namespaces around one switch, each with a shaped full-duplex link.

The switch, too, is a namespace, and mpirun runs in it: nothing of the machine's own network is touched, no address can
clash with it or with another testbed, and deleting the namespaces deletes every interface. A namespace's name holds the
process id of its maker, so that what a killed testbed left behind is known as such and removed by the next one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from toolkit.errors import UserError

PREFIX = "sandtable-testbed"
NET = "10.77.0"  # inside the testbed's own namespaces, so every testbed may use the same
SWITCH_PORT = 254
MAX_HOSTS = 200
BURST_S = 1e-3  # a bucket holds what its link sends in this time: less loses rate where a timer is late
FRAME = 1550  # bytes
LEAST_BURST = 4 * FRAME
QUEUE_S = 2.0  # seconds of traffic that a queue holds: nothing is lost, as in a switch with flow control
GSO = 65536
RTO = "2s"  # a full queue is no loss: the usual 200 ms would send again what waits before a slow link
TCP = {
    "tcp_congestion_control": "reno",
    "tcp_slow_start_after_idle": "0",
    "tcp_early_retrans": "0",
    "tcp_no_metrics_save": "1",
    "tcp_rmem": "4096 4194304 33554432",  # a window from the start that covers the queues on the way
}
BACKLOG_S = 4e-3  # a connection keeps no more than this before its link: answers to the neighbour queue behind it


class Refused(RuntimeError):
    """The system does not let us: no root, no iproute2, or a kernel without what is asked for."""


@dataclass(frozen=True)
class Link:
    """A host's link: bytes/s on the wire each direction, and one-way latency in seconds that is added to its own."""

    rate: float
    latency: float = 0.0

    @property
    def burst(self) -> int:
        """Bytes that pass at once after a pause."""
        return max(LEAST_BURST, round(self.rate * BURST_S))


@dataclass
class Testbed:
    """The namespaces of one emulated cluster; a context manager that removes them whatever happens."""

    links: Sequence[Link]
    owner: int = field(default_factory=os.getpid)

    __test__ = False  # no test case, whatever pytest thinks of the name

    @property
    def switch(self) -> str:
        return f"{PREFIX}-{self.owner}-switch"

    def host(self, number: int) -> str:
        """The namespace, and host name, of a host counted from 0."""
        return f"{PREFIX}-{self.owner}-host{number}"

    @staticmethod
    def address(number: int) -> str:
        return f"{NET}.{number + 1}"

    @property
    def names(self) -> list[str]:
        return [self.switch, *(self.host(number) for number in range(len(self.links)))]

    def __enter__(self) -> Testbed:
        if len(self.links) > MAX_HOSTS:
            raise UserError(f"--hosts {len(self.links)}: at most {MAX_HOSTS} are emulated")
        remove_orphans()
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _build(self) -> None:
        run("ip", "netns", "add", self.switch)
        inside(self.switch, "ip", "link", "set", "lo", "up")
        inside(self.switch, "ip", "link", "add", "bridge", "type", "bridge")
        inside(self.switch, "ip", "addr", "add", f"{NET}.{SWITCH_PORT}/24", "dev", "bridge")
        inside(self.switch, "ip", "link", "set", "bridge", "up")
        calm(self.switch)
        for number, link in enumerate(self.links):
            self._add_host(number, link)

    def _add_host(self, number: int, link: Link) -> None:
        name, port = self.host(number), f"port{number}"
        run("ip", "netns", "add", name)
        # made in the switch's namespace: no other one ever sees the pair
        pair = ("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        inside(self.switch, "ip", *pair)
        inside(self.switch, "ip", "link", "set", port, "master", "bridge", "up")
        inside(name, "ip", "link", "set", "lo", "up")
        inside(name, "ip", "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        inside(name, "ip", "link", "set", "eth0", "up")
        inside(name, "ip", "route", "change", f"{NET}.0/24", "dev", "eth0", "rto_min", RTO)
        calm(name)
        set_ipv4(name, "tcp_limit_output_bytes", str(round(max(LEAST_BURST, link.rate * BACKLOG_S))))
        for where, device in ((name, "eth0"), (self.switch, port)):
            shape(where, device, link)

    def remove(self) -> None:
        """End what still runs in the namespaces, then delete them. Never raises; may be called twice."""
        present = set(namespaces())
        mine = [name for name in self.names if name in present]
        end_processes(mine)
        for name in mine:
            subprocess.run(("ip", "netns", "delete", name), capture_output=True, check=False)


def shape(namespace: str, device: str, link: Link) -> None:
    """Limit what leaves a device; with latency, netem holds each packet before the bucket."""
    bucket = ("tbf", "rate", f"{round(link.rate * 8)}bit", "burst", str(link.burst), "limit", str(queue_bytes(link)))
    # segments far below a burst: one that needs a full bucket loses what is due until a late timer lets it go
    segment = min(GSO, max(FRAME, link.burst // 4))
    inside(namespace, "ip", "link", "set", device, "gso_max_size", str(segment))
    if not link.latency:
        inside(namespace, "tc", "qdisc", "add", "dev", device, "root", *bucket)
        return
    # half at either end of the cable, so that a message crosses one latency from host to host
    delay = ("netem", "delay", f"{round(link.latency / 2 * 1e6)}us", "limit", "1000000")
    try:
        inside(namespace, "tc", "qdisc", "add", "dev", device, "root", "handle", "1:", *delay)
    except Refused:
        raise Refused("added latency wants netem, which this kernel does not have (sch_netem)") from None
    inside(namespace, "tc", "qdisc", "add", "dev", device, "parent", "1:", *bucket)


def queue_bytes(link: Link) -> int:
    """Bytes that may wait for a bucket: enough for TCP's largest window of a few connections."""
    return max(1 << 20, round(link.rate * QUEUE_S))


def calm(namespace: str) -> None:
    """TCP as data centres set it, for links without loss: a window that is kept over a pause, a short queue of its own
    in front of the link, no rate guessing (BBR halts to probe) and no probing for losses."""
    for setting, value in TCP.items():
        set_ipv4(namespace, setting, value)


def set_ipv4(namespace: str, setting: str, value: str) -> None:
    """Set a network parameter of a namespace, where this kernel has it."""
    inside(namespace, "sh", "-c", f"echo '{value}' > /proc/sys/net/ipv4/{setting} 2>/dev/null || true")


def namespaces() -> list[str]:
    """Names of all network namespaces of this machine."""
    shown = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, check=False)
    return [line.split()[0] for line in shown.stdout.splitlines() if line.strip()]


def end_processes(names: Sequence[str], patience_s: float = 3.0) -> None:
    """Ask all processes in the namespaces to end; those that do not within `patience_s` are killed."""
    deadline = time.monotonic() + patience_s
    asked: set[int] = set()
    while found := {pid for name in names for pid in processes(name)}:
        late = time.monotonic() > deadline
        for pid in found if late else found - asked:
            try:
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            except ProcessLookupError:
                continue
        asked |= found
        if time.monotonic() > deadline + patience_s:
            return  # what does not die of SIGKILL hangs in the kernel; the namespace goes all the same
        time.sleep(0.05)


def processes(name: str) -> list[int]:
    """Process ids in a namespace."""
    shown = subprocess.run(("ip", "netns", "pids", name), capture_output=True, text=True, check=False)
    return [int(word) for word in shown.stdout.split()]


def remove_orphans() -> None:
    """Remove namespaces of testbeds whose process is gone."""
    pattern = re.compile(rf"{PREFIX}-(\d+)-(switch|host\d+)")
    matches = [(name, pattern.fullmatch(name)) for name in namespaces()]
    for name, match in matches:
        if match and not os.path.exists(f"/proc/{match.group(1)}"):
            end_processes([name])
            subprocess.run(("ip", "netns", "delete", name), capture_output=True, check=False)


def inside(namespace: str, *command: str) -> str:
    """Run a command in a namespace; Refused where it fails."""
    return run("ip", "netns", "exec", namespace, *command)


def run(*command: str) -> str:
    """Run a system command and return what it printed; Refused with its last words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Refused(f"'{' '.join(command)}' failed: {words}")
    return done.stdout
