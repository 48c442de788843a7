"""Thresholds that move evenly from call to call say where the next ones lie, better than a sample and at no cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cext
from toolkit.compression.passes import Prediction
from toolkit.compression.predict import with_room

MOVES = 4  # of the last calls that tell the next: fewer scatter more, more lag behind a young residual's growth
ERRORS = 8  # of such predictions that tell how far off they are
WIDTH = 5.0  # half a bracket in errors, root mean square
LEAST, MOST = 2.0**-13, 2.0**-4  # half a bracket, as a share of its threshold; what needs more is left to a sample
MOST_IN_ALL = 0.02  # the same, weighed by what is left at a stage, about a quarter of the one before
STEEPEST = 16.0  # by how many per cent a count grows at most where its threshold falls by one: more of a normal's tail

Kind = tuple[float, int]  # density and number of stages: only calls of one kind are alike


class Steady:
    """The stages' thresholds in the last calls, how far their predictions from the calls before were off, and how much
    was collected. A prediction changes what a call costs, and how the sums of its one pass are rounded: so that a
    resumed run repeats these, too, a checkpoint holds it all.
    """

    def __init__(self) -> None:
        self.kind: Kind = (0.0, 0)
        self.thresholds: list[list[float]] = []  # of up to MOVES + 1 calls, one a stage
        self.errors: list[list[float]] = []  # of up to ERRORS calls, relative, one a stage
        self.sent = self.inside = 0

    def note(self, kind: Kind, thresholds: Sequence[float], sent: int, inside: int | None = None) -> None:
        """Take a call's thresholds, one a stage, and how many elements exceed the last; inside: and how many lay in
        brackets, where that is known. Without one above 0 for each stage, or where none exceeds the last, nothing is
        said of the next call.
        """
        odd = not sent or len(thresholds) != kind[1] or min(thresholds) <= 0.0
        if odd or kind != self.kind:
            self.kind, self.thresholds, self.errors, self.sent, self.inside = kind, [], [], 0, 0
        if odd:
            return
        expected = self._expected()
        if expected is not None:
            self.errors.append([now / then - 1.0 for now, then in zip(thresholds, expected, strict=True)])
            del self.errors[:-ERRORS]
        self.thresholds.append(list(thresholds))
        del self.thresholds[: -MOVES - 1]
        self.sent, self.inside = sent, self.inside if inside is None else inside

    def _expected(self) -> list[float] | None:
        """The next call's thresholds if they go on to grow as in the last calls; None if these were too few."""
        if len(self.thresholds) <= MOVES:
            return None
        first, last = self.thresholds[0], self.thresholds[-1]
        return [now * (now / then) ** (1.0 / MOVES) for then, now in zip(first, last, strict=True)]

    def predict(self, kind: Kind, elements: int, sums: int) -> Prediction | None:
        """Brackets around where the thresholds move to; None where calls of this kind are too few, or go astray."""
        expected = self._expected()
        if expected is None or kind != self.kind or len(self.errors) < ERRORS:
            return None
        squares = [math.fsum(error * error for error in errors) for errors in zip(*self.errors, strict=True)]
        widths = [max(LEAST, WIDTH * math.sqrt(square / ERRORS)) for square in squares]
        in_all = math.fsum(width * 0.25**stage for stage, width in enumerate(widths))
        if not (max(widths) <= MOST and in_all <= MOST_IN_ALL):
            return None
        brackets: list[tuple[float, float]] = []
        for threshold, width in zip(expected, widths, strict=True):
            low = max(threshold * (1.0 - width), brackets[-1][1] if brackets else 0.0)  # they must not overlap
            if low >= threshold:
                return None
            brackets.append((low, cext.short_above(threshold * (1.0 + width))))
        candidates, inside = self.sent * (1.0 + STEEPEST * widths[-1]), 2.0 * self.inside
        return with_room(brackets[-1][0], expected[-1], candidates, inside, elements, brackets[:-1], sums)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists of them."""
        return {
            "kind": list(self.kind),
            "thresholds": [list(each) for each in self.thresholds],
            "errors": [list(each) for each in self.errors],
            "sent": self.sent,
            "inside": self.inside,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        density, stages = state["kind"]
        self.kind = (float(density), int(stages))
        self.thresholds = [[float(each) for each in call] for call in state["thresholds"]]
        self.errors = [[float(each) for each in call] for call in state["errors"]]
        self.sent, self.inside = int(state["sent"]), int(state["inside"])
