"""The namespaces themselves: made as told, isolated, and gone afterwards. Needs root and iproute2."""

import os
import subprocess
import sys
import time

import pytest

from toolkit.testbed import hosts
from toolkit.testbed.hosts import Link, Refused, Testbed

pytestmark = pytest.mark.usefixtures("namespaces")

ECHO = """
import socket, sys
if sys.argv[1] == "serve":
    server = socket.create_server(("10.77.0.2", 7777))
    print("ready", flush=True)
    peer, address = server.accept()
    peer.sendall(address[0].encode())
else:
    print(socket.create_connection(("10.77.0.2", 7777), timeout=5).recv(99).decode())
"""


def execute(name, *words, **options):
    return subprocess.Popen(["ip", "netns", "exec", name, *words], stdout=subprocess.PIPE, text=True, **options)


def test_hosts_reach_each_other_and_nothing_else():
    with Testbed([Link(1e7)] * 2) as testbed:
        server = execute(testbed.host(1), sys.executable, "-c", ECHO, "serve")
        assert server.stdout.readline() == "ready\n"
        client = execute(testbed.host(0), sys.executable, "-c", ECHO, "ask")
        assert client.communicate(timeout=20)[0] == "10.77.0.1\n"
        server.communicate(timeout=20)
        routes = hosts.inside(testbed.host(0), "ip", "route")
        assert "default" not in routes


def test_both_ends_of_each_link_have_its_rate():
    with Testbed([Link(25e6), Link(6.25e6)]) as testbed:
        for number, rate in enumerate(("200Mbit", "50Mbit")):
            for where, device in ((testbed.host(number), "eth0"), (testbed.switch, f"port{number}")):
                shown = hosts.inside(where, "tc", "qdisc", "show", "dev", device)
                assert "tbf" in shown
                assert f"rate {rate} " in shown
        assert hosts.inside(testbed.host(0), "cat", "/proc/sys/net/ipv4/tcp_congestion_control") == "reno\n"


def test_everything_is_gone_afterwards_and_so_are_the_processes():
    with Testbed([Link(1e6)] * 2) as testbed:
        names = set(testbed.names)
        assert names <= set(hosts.namespaces())
        sleeper = execute(testbed.host(0), "sleep", "600")
        stubborn = execute(testbed.host(1), "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
        assert stubborn.stdout.readline() == "up\n"
    assert not names & set(hosts.namespaces())
    assert sleeper.wait(5) != 0
    assert stubborn.wait(5) != 0
    stubborn.stdout.close()
    sleeper.stdout.close()


def test_what_fails_half_way_leaves_nothing(monkeypatch):
    made = []

    def broken(self, number, link):
        made.append(number)
        if number == 1:
            raise Refused("no more")
        add(self, number, link)

    add = Testbed._add_host
    monkeypatch.setattr(Testbed, "_add_host", broken)
    testbed = Testbed([Link(1e6)] * 3)
    with pytest.raises(Refused), testbed:
        pass
    assert made == [0, 1]
    assert not set(testbed.names) & set(hosts.namespaces())


def test_a_killed_testbed_is_cleared_by_the_next_and_a_living_one_is_left_alone():
    ended = subprocess.Popen(["true"])
    ended.wait()
    orphan, living = Testbed([Link(1e6)], owner=ended.pid), Testbed([Link(1e6)], owner=os.getppid())
    try:
        orphan._build()
        living._build()
        with Testbed([Link(1e6)]):
            present = set(hosts.namespaces())
            assert not set(orphan.names) & present
            assert set(living.names) <= present
    finally:
        orphan.remove()
        living.remove()


def test_latency_without_netem_is_refused_in_words():
    said = ""
    try:
        with Testbed([Link(1e6, latency=1e-3)]) as testbed:
            said = hosts.inside(testbed.host(0), "tc", "qdisc", "show", "dev", "eth0")
    except Refused as refused:
        said = str(refused)
    assert "netem" in said
    assert not [name for name in hosts.namespaces() if f"-{os.getpid()}-" in name]


def test_ending_processes_returns_when_there_are_none():
    began = time.monotonic()
    hosts.end_processes([])
    assert time.monotonic() - began < 1
