"""PowerSGD: low-rank factors by one step of power iteration (Vogels, Karimireddy and Jaggi, NeurIPS 2019).

Matrix M of each worker, Q of the last step (warm start): P = M Q is averaged over the workers and orthogonalised, then
Q = Mᵀ P is averaged; the merged gradient is P Qᵀ. Both rounds are sums, so allreduce serves and the cost does not grow
with the workers. What a worker's own M P Pᵀ lacks of M is its residual (algorithm 2).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from toolkit.compression.base import Compressor, Context, LinearPayload, Rounds, run_alone
from toolkit.experiment import CompressionSection
from toolkit.policies.lowrank import Piece, pieces


class PowerSGD(Compressor):
    """Rank-r factors of every matrix in the bucket; vectors travel whole. The density has no say, except where it is 1.

    State: the averaged Q of each matrix, the same on every rank. A NaN or infinity spoils its whole matrix, in the
    merged gradient and not in the residual; the next step then starts from a random Q again. One payload at a time:
    it needs its bucket's vector until it is settled.
    """

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self.right = torch.zeros(0)  # every Q, row by row, behind each other; empty before the first step

    def select(self, vector: torch.Tensor, context: Context) -> LowRankPayload:
        assert vector.shape == (self.elements,), f"a vector of {self.elements} elements, not {tuple(vector.shape)}"
        payload = LowRankPayload(self, vector, context)
        entries = payload.bytes / 4
        self.telemetry = {
            "elements": float(self.elements),
            "density": entries / max(1, self.elements),
            "selected": entries,
            "rank": float(max((piece.rank for piece in payload.pieces), default=0)),
        }
        return payload

    def nothing(self, context: Context) -> LowRankPayload:
        """Zeros in both rounds; Q follows the others' all the same."""
        return LowRankPayload(self, torch.zeros(self.elements), context)

    def start(self, count: int, context: Context, device: torch.device) -> torch.Tensor:
        """Every Q to start a step from, (count,): the last step's, or the same random one on every rank."""
        if self.right.numel() != count or not bool(self.right.isfinite().all()):
            seed = context.seed * 1_000_003 + zlib.crc32(context.name.encode()) + context.step
            self.right = torch.randn(count, generator=torch.Generator().manual_seed(seed))
        return self.right.to(device)

    def state_dict(self) -> dict[str, Any]:
        return {"right": self.right}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.right = state["right"].clone()


class LowRankPayload(LinearPayload):
    """One step's factors of one worker. `vector`, float32 (n,), must stay as it is until the rounds are over."""

    def __init__(self, owner: PowerSGD, vector: torch.Tensor, context: Context) -> None:
        self.owner = owner
        self.vector = vector
        self.context = context
        self.elements = owner.elements
        self.pieces = pieces(context.shapes or ((self.elements,),), owner.section.rank)
        assert sum(piece.elements for piece in self.pieces) == self.elements, context.shapes
        self.matrices = [piece for piece in self.pieces if piece.rank]
        self.wholes = [piece for piece in self.pieces if not piece.rank]
        self.sent: torch.Tensor | None = None

    @property
    def bytes(self) -> int:
        return 4 * sum(piece.entries for piece in self.pieces)

    def rounds(self) -> Rounds:
        matrices = [_part(self.vector, piece) for piece in self.matrices]
        wholes = [_part(self.vector, piece) for piece in self.wholes]
        count = sum(piece.rank * piece.columns for piece in self.matrices)
        start = self.owner.start(count, self.context, self.vector.device)
        rights = _split(start, [(piece.columns, piece.rank) for piece in self.matrices])
        lefts = [matrix @ right for matrix, right in zip(matrices, rights, strict=True)]
        first = _split((yield _join([*lefts, *wholes])), [part.shape for part in (*lefts, *wholes)])
        bases = [torch.linalg.qr(left).Q for left in first[: len(lefts)]]
        own = [matrix.T @ basis for matrix, basis in zip(matrices, bases, strict=True)]
        self.sent = self._assemble(bases, own, wholes)
        if matrices:
            start = yield _join(own)
            self.owner.right = start.clone()
        return self._assemble(bases, _split(start, [right.shape for right in own]), first[len(lefts) :])

    def _assemble(
        self, bases: list[torch.Tensor], rights: list[torch.Tensor], wholes: list[torch.Tensor]
    ) -> torch.Tensor:
        """The vector of these factors and whole tensors, float32 (n,)."""
        out = torch.empty_like(self.vector)
        for piece, basis, right in zip(self.matrices, bases, rights, strict=True):
            torch.mm(basis, right.T, out=_part(out, piece))
        for piece, whole in zip(self.wholes, wholes, strict=True):
            _part(out, piece).copy_(whole)
        return out

    def dense(self) -> torch.Tensor:
        if self.sent is None:
            run_alone(self)
        assert self.sent is not None
        return self.sent

    def settle(self, residual: torch.Tensor) -> None:
        residual.sub_(self.dense())
        residual[~residual.isfinite()] = 0.0


def _part(vector: torch.Tensor, piece: Piece) -> torch.Tensor:
    """The piece's matrix (rows, columns), a view."""
    return vector[piece.start : piece.start + piece.elements].view(piece.rows, piece.columns)


def _join(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _split(vector: torch.Tensor, shapes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Views of these shapes, behind each other."""
    parts = vector.split([math.prod(shape) for shape in shapes])
    return [part.view(*shape) for part, shape in zip(parts, shapes, strict=True)]
