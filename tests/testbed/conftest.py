"""Whether this machine lets anybody emulate a cluster, asked of the system and not of the code under test."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def _refusal():
    """Why namespaces with shaped links cannot be had here; empty where they can, and then every test has to pass."""
    if os.geteuid() != 0:
        return "not root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "no iproute2 (ip, tc)"
    name = f"sandtable-probe-{os.getpid()}"
    shape = "tc qdisc add dev lo root tbf rate 1mbit burst 16kb latency 50ms"
    try:
        for command in (f"ip netns add {name}", f"ip netns exec {name} {shape}"):
            done = subprocess.run(command.split(), capture_output=True, text=True, timeout=30, check=False)
            if done.returncode:
                return f"'{command}' is refused: {done.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=30, check=False)
    return ""


@pytest.fixture
def namespaces(_refusal):
    """Skips, with the system's own words, where a cluster cannot be emulated; elsewhere exit code 3 is a failure."""
    if _refusal:
        pytest.skip(f"the emulated cluster was not tested: {_refusal}")
