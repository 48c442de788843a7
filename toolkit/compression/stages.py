"""How many fitting stages SIDCo uses: a search over M that follows the achieved count."""

from __future__ import annotations

import math
from typing import Any

_NOTHING = 20.0  # |ln ratio| of a window that selected nothing
_BURST = 4.0  # mean k̂/k at which a window ends early: each of its calls costs as much as so many
_PATIENCE = 10  # windows after which a search that found no M within the tolerance looks at the neighbours again


class StageSearch:
    """The number of stages M of one tensor, adapted every `window` calls to the mean of k̂/k.

    The paper's rule (SIDCo, MLSys 2021, algorithm 1) drops a stage when too much was selected and adds one when too
    little was; it sticks at M = 1 when k̂ >> k there. Here the rule only gives the first direction: a move that left
    |ln k̂/k| larger than before turns the search round, and so does a bound. A search that has seen both neighbours
    of the best M do worse stays there until the mean drifts away from what it was by more than the tolerance, or for
    ten windows: what was learnt while the residual was young need not hold later.
    """

    def __init__(self, window: int, tolerance: float) -> None:
        self.window = window
        self.tolerance = tolerance
        self.stages = 1
        self.direction = 0
        self.ratios: list[float] = []
        self.errors: dict[int, float] = {}
        self.held = 0

    def record(self, ratio: float, most: int) -> None:
        """Take the k̂/k of a call made with `stages`; every `window` calls, or at once where they send several times
        what was asked for, M moves within [1, most].
        """
        self.stages = min(self.stages, most)
        self.ratios.append(ratio)
        mean = math.fsum(self.ratios) / len(self.ratios)
        if len(self.ratios) < self.window and mean <= _BURST:
            return
        self.ratios = []
        self._move(mean, most)

    def _move(self, mean: float, most: int) -> None:
        error = min(_NOTHING, abs(math.log(mean))) if mean > 0 else _NOTHING
        if abs(mean - 1.0) <= self.tolerance:
            self.direction, self.errors, self.held = 0, {}, 0
            return
        known = self.errors.get(self.stages)
        if self.held >= _PATIENCE or (known is not None and abs(error - known) > self.tolerance):
            self.direction, self.errors = 0, {}  # the data has changed; what was learnt of other M no longer counts
        self.errors[self.stages] = error
        towards = self._towards(mean, error, most)
        self.direction = towards or self.direction
        self.held = 0 if towards else self.held + 1
        self.stages = self.stages + towards

    def _towards(self, mean: float, error: float, most: int) -> int:
        """-1, 0 or +1: the better known neighbour, else the unknown one that lies ahead, else stay."""
        neighbours = [step for step in (-1, 1) if 1 <= self.stages + step <= most]
        errors = {step: self.errors.get(self.stages + step) for step in neighbours}
        better = [step for step in neighbours if (known := errors[step]) is not None and known < error]
        if better:
            return better[0]
        ahead = self.direction or (1 if mean < 1.0 else -1)
        unknown = [step for step in neighbours if errors[step] is None]
        return ahead if ahead in unknown else (unknown[0] if unknown else 0)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists of them."""
        tried = sorted(self.errors)
        return {
            "stages": self.stages,
            "direction": self.direction,
            "held": self.held,
            "ratios": list(self.ratios),
            "tried": tried,
            "errors": [self.errors[stages] for stages in tried],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.stages = int(state["stages"])
        self.direction = int(state["direction"])
        self.held = int(state["held"])
        self.ratios = [float(ratio) for ratio in state["ratios"]]
        self.errors = {int(m): float(e) for m, e in zip(state["tried"], state["errors"], strict=True)}
