"""The catalogue of machines: every one is complete, plausible and known as a device."""

import tomllib

import pytest

from simulator.offload.machine import CATALOGUE, HOST_SHARE, HOST_USED, load_machine
from toolkit.errors import UserError
from toolkit.policies.devices import load_device

NAMES = list(tomllib.loads(CATALOGUE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_every_machine_is_complete_and_plausible(name):
    machine, device = load_machine(name), load_device(name)
    assert 0.2 * device.flops < machine.flops < device.flops
    assert machine.flops < machine.half_flops
    assert 8e9 < machine.memory < 2e11
    assert 0 < machine.reserved < 0.1 * machine.memory
    assert machine.memory < machine.host_memory * 2
    assert machine.to_device < machine.host_memory_bandwidth < device.memory_bandwidth
    assert machine.disk_write <= machine.disk_read < machine.to_device
    budget = machine.budget()
    assert budget["device"] == machine.memory - machine.reserved
    assert budget["host"] == HOST_SHARE * (machine.host_memory - HOST_USED) > 0


def test_an_unknown_machine_names_the_known_ones():
    with pytest.raises(UserError, match="did you mean 'v100-32g'"):
        load_machine("v100-32")
