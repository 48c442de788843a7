"""What goes wrong on a simulated cluster: an experiment's [faults], resolved for its workers and hosts.

A scenario file (`run --scenario FILE`) holds the same tables at its top level, and is laid over the [faults] of the
experiment: `[[slow_worker]]` there is `[[faults.slow_worker]]` in an experiment file.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.topology import Topology
from toolkit import registry
from toolkit.errors import UserError
from toolkit.experiment import Experiment, check
from toolkit.keys import read_section
from toolkit.policies.linktrace import Points, link_traces
from toolkit.policies.slowness import Slowness
from toolkit.sections.faults import TABLES, AddedLatency, FaultsSection, Traffic, anchor

SAID_ELSEWHERE = ("link_trace", "failure")  # tables whose rows are no events of their own


@dataclass(frozen=True)
class Scenario:
    """All that goes wrong in a run. traces: rates over time of hosts' links."""

    faults: FaultsSection
    slowness: Slowness
    traces: dict[int, Points] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, source: str = "experiment") -> Scenario:
        """Raises UserError where a trace cannot be read or cuts a host off for good."""
        return cls(experiment.faults, Slowness.of(experiment), link_traces(experiment.faults, source))

    @property
    def contended(self) -> bool:
        """Whether links change or are shared with others while the run goes on."""
        return bool(self.traces or self.faults.traffic or self.passing_latencies)

    @property
    def traffic(self) -> tuple[Traffic, ...]:
        return self.faults.traffic

    @property
    def passing_latencies(self) -> list[AddedLatency]:
        """Those that come or go while the run goes on."""
        return [row for row in self.faults.added_latency if row.start or row.end]

    def disturbed(self, topology: Topology) -> Topology:
        """The topology with what is slow for the whole run."""
        hosts = range(topology.hosts)
        if self.faults.slow_link:
            rates = self.faults.link_rates(topology.hosts, topology.bandwidth)
            topology = dataclasses.replace(topology, host_bandwidths=rates)
        lasting = [row for row in self.faults.added_latency if not row.start and not row.end]
        if lasting:
            added = tuple(sum(row.latency for row in lasting if row.host == host) for host in hosts)
            topology = dataclasses.replace(topology, host_latencies=added)
        return topology

    def special_workers(self) -> set[int]:
        """Workers that fare unlike others in some step, but for slow cores."""
        return {row.worker for row in self.faults.slow_worker} | {
            row.worker for row in self.faults.straggler if row.worker >= 0
        }

    def events(self) -> list[dict[str, Any]]:
        """The scenario as `events` of a result: what differs from a key's default."""
        rows = [(name, row) for name in TABLES if name not in SAID_ELSEWHERE for row in getattr(self.faults, name)]
        found: list[dict[str, Any]] = [{"kind": name, **_said(row)} for name, row in rows]
        return found + [{"kind": "link_trace", "host": h, "points": len(points)} for h, points in self.traces.items()]


def _said(row: Any) -> dict[str, Any]:
    fields = dataclasses.fields(row)
    values = {spec.name: getattr(row, spec.name) for spec in fields}
    return {
        spec.name: values[spec.name]
        for spec in fields
        if spec.metadata["required"] or values[spec.name] != spec.default
    }


def under(experiment: Experiment, path: str | None) -> Experiment:
    """The experiment with a scenario file's tables added to its [faults]; UserError names file, key, value."""
    if path is None:
        return experiment
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such scenario file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a scenario file: {error}") from None
    for kind, rows in document.items():
        if kind not in TABLES or not isinstance(rows, list):
            allowed = f"[[{']], [['.join(TABLES)}]]"
            raise UserError(f"{path}: {kind}: allowed are {allowed}{registry.nearest(kind, TABLES)}")
    anchor(document.get("link_trace"), Path(path).parent)
    alone = FaultsSection(**read_section(FaultsSection, document, f"{path}: [faults]"))
    check(dataclasses.replace(experiment, faults=alone), path)  # its own mistakes under its own name
    both: Any = {name: (*getattr(experiment.faults, name), *getattr(alone, name)) for name in TABLES}
    joined = dataclasses.replace(experiment, faults=dataclasses.replace(experiment.faults, **both))
    check(joined, f"{path} over the experiment")
    return joined
