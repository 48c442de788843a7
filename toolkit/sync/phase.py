"""One asynchronous phase of a run: servers start, workers pull, compute and push until the work is done, servers end.

Before and after it every rank holds the whole model, as under BSP, so that the phases of a run can follow each other
in any order without a restart. The optimizer's state goes to the servers and comes back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from toolkit.comm import Channel, Communicator
from toolkit.experiment import Experiment
from toolkit.policies.configuration import momentum_at
from toolkit.policies.learning_rate import learning_rate
from toolkit.policies.protocol import Phase
from toolkit.reducer import GradientReducer
from toolkit.sections.sync import bsp_units, computing_workers
from toolkit.sync.client import Client
from toolkit.sync.layout import Piece, cut, join_state, slice_state
from toolkit.sync.server import Server, Shard, Staleness
from toolkit.sync.tickets import Tickets
from toolkit.trace import Recorder


@dataclass(frozen=True)
class Stretch:
    """What of a phase is to be made now: from update `first` on, at most `count`; `units` are done in the run before
    it, `raw` raw steps. steps_per_epoch counts BSP steps."""

    phase: Phase
    first: int
    count: int
    units: int
    raw: int
    steps_per_epoch: int


@dataclass
class Outcome:
    """updates: made by all workers together. staleness: of every server, in order."""

    updates: int
    staleness: list[Staleness] = field(default_factory=list)


class Servers:
    """The parameter servers of a stretch, seen from one rank. All ranks make, start and end it together."""

    def __init__(
        self,
        experiment: Experiment,
        comm: Communicator,
        reducer: GradientReducer,
        optimizer: torch.optim.Optimizer,
        stretch: Stretch,
    ) -> None:
        self.comm = comm
        self.reducer = reducer
        self.optimizer = optimizer
        self.stretch = stretch
        self.experiment = experiment
        self.workers = list(range(computing_workers(experiment)))
        dedicated = experiment.sync.servers == "dedicated"
        self.ranks = list(range(len(self.workers), comm.size)) if dedicated else list(range(comm.size))
        self.sizes = [parameter.numel() for parameter in reducer.parameters]
        self.pieces: list[list[Piece]] = cut(self.sizes, len(self.ranks))
        self.channel: Channel = comm.channel()
        self.recorder = Recorder(comm.rank, comm.clock)
        self.server = self._server() if comm.rank in self.ranks else None

    def _server(self) -> Server:
        pieces = self.pieces[self.ranks.index(self.comm.rank)]
        shard = Shard(self.experiment.optimizer, pieces, self.reducer.wire, self._rates)
        shard.load(self.reducer.parameters, slice_state(self.optimizer, self.sizes, pieces))
        server = Server(self.channel, shard, self.workers, self.recorder, self.stretch.phase.bound)
        if self.first:
            server.tickets = self._tickets()
        return server

    @property
    def first(self) -> bool:
        """Whether this rank is the server that deals out the work."""
        return self.comm.rank == self.ranks[0]

    def _tickets(self) -> Tickets:
        stretch = self.stretch
        look_every = self.experiment.run.evaluate_every * bsp_units(self.experiment)
        last = stretch.first + stretch.count
        return Tickets(last, self.workers, stretch.phase.checkpoint_every, look_every, stretch.first)

    def _rates(self, pushes: int) -> tuple[float, float]:
        """Learning rate by samples seen, and momentum, of the push that finds so many applied."""
        phase, section = self.stretch.phase, self.experiment.optimizer
        step = (self.stretch.units + pushes) / bsp_units(self.experiment)
        section = dataclasses.replace(section, learning_rate=phase.learning_rate)
        progress = (self.stretch.first + pushes) / max(1, phase.steps)
        return (
            learning_rate(section, step, self.stretch.steps_per_epoch),
            momentum_at(phase.policy, phase.momentum, len(self.workers), progress),
        )

    def client(self, now: Callable[[], float]) -> Client:
        """A worker's side."""
        return Client(self.channel, self.ranks, self.pieces, self.reducer.wire, now)

    def start(self) -> None:
        """Begin to serve, once all shards are filled."""
        self.comm.barrier()
        if self.server is not None:
            self.server.start()

    def end(self) -> Outcome:
        """Wait until all workers are done, and take the parameters and the optimizer's state back, on every rank."""
        if self.server is not None:
            self.server.join()
        self.comm.barrier()
        self.channel.close()
        own = None
        if self.server is not None:
            issued = self.server.tickets.issued if self.server.tickets else 0
            own = (self.server.shard.state(), self.server.seen, issued)
        found = [part for part in self.comm.allgather_values(own) if part is not None]
        self._take_back([part[0] for part in found])
        return Outcome(found[0][2] - self.stretch.first, [part[1] for part in found])

    def _take_back(self, shards: list[dict[str, Any]]) -> None:
        with torch.no_grad():
            for parameter, values in zip(self.reducer.parameters, self.joined_values(shards), strict=True):
                parameter.copy_(values)
        self.optimizer.load_state_dict(self.joined_optimizer(shards))

    def joined_values(self, shards: list[dict[str, Any]]) -> list[torch.Tensor]:
        """The whole buckets from every shard's `state`."""
        return list(torch.cat([shard["values"] for shard in shards]).split(self.sizes))

    def joined_optimizer(self, shards: list[dict[str, Any]]) -> dict[str, Any]:
        """A state_dict of the whole optimizer from every shard's `state`."""
        states = [(pieces, shard["state"]) for pieces, shard in zip(self.pieces, shards, strict=True)]
        return {"state": join_state(states, self.sizes), "param_groups": self.optimizer.state_dict()["param_groups"]}
