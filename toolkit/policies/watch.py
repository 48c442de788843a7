"""Stragglers while training: measured throughputs to the detector, its flags to the online policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from toolkit.policies.online import NOBODY, Elastic, OnlinePolicy, online_policy
from toolkit.policies.straggler import StragglerDetector
from toolkit.sections.sync import SyncSection


@dataclass
class Watch:
    """The same on every rank under BSP, where all ranks look at the same throughputs; under ASP the first server's.

    events: who was flagged and who cleared, and who was taken out, for the result. protocol: what the policy wants.
    """

    section: SyncSection
    workers: int
    policy: OnlinePolicy = field(init=False)
    detector: StragglerDetector = field(init=False)
    events: list[dict[str, Any]] = field(default_factory=list)
    flagged: set[int] = field(default_factory=set)
    removed: frozenset[int] = NOBODY
    protocol: str = ""
    _latest: dict[int, float] = field(default_factory=dict)
    _reports: int = 0

    def __post_init__(self) -> None:
        self.policy = online_policy(self.section.online)
        self.detector = StragglerDetector(self.section.window, self.section.deviations, self.section.persistence)

    @property
    def active(self) -> bool:
        return self.section.online != "none"

    def look(self, throughputs: list[float], due: str, step: int, now: float) -> None:
        """One observation of all workers' throughputs (samples/s; NaN: took no part), and what follows from it."""
        flagged = self.detector.observe(throughputs)
        for kind, ranks in (("straggler", flagged - self.flagged), ("recovered", self.flagged - flagged)):
            self.events += [{"kind": kind, "worker": rank, "step": step, "time_s": now} for rank in sorted(ranks)]
        self.flagged = set(flagged)
        self._decide(due, step, now)

    def report(self, worker: int, throughput: float, due: str, step: int, now: float) -> None:
        """One worker's throughput under ASP; there is an observation after every `workers` of them, once all came."""
        if not math.isfinite(throughput):
            return
        self._latest[worker] = throughput
        self._reports += 1
        if self._reports >= self.workers and len(self._latest) == self.workers:
            self._reports = 0
            self.look([self._latest[rank] for rank in range(self.workers)], due, step, now)

    def follow(self, due: str, step: int, now: float) -> None:
        """At the begin of a phase, `due` being the plan's protocol: at the switch everybody comes back."""
        self._latest, self._reports = {}, 0
        self._decide(due, step, now)

    def _decide(self, due: str, step: int, now: float) -> None:
        decision = self.policy.decide(due, self.flagged, self.workers)
        self.protocol = decision.protocol
        if decision.removed != self.removed:
            who = sorted(decision.removed)
            self.events.append({"kind": "membership", "removed": who, "step": step, "time_s": now})
            self.removed = decision.removed

    def take_out(self, removed: frozenset[int]) -> None:
        """As it was when a checkpoint was written."""
        self.removed = removed
        if isinstance(self.policy, Elastic):
            self.policy.removed = removed
