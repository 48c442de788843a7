"""Which examples a worker sees in which step: a pure function of seed, epoch and position, so any step can resume."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import torch


class ShardedSampler:
    """Shuffles the examples anew each epoch and deals them to the workers in turn.

    Every worker makes the same number of steps, that of the longest shard. A shard that ends early gives empty
    micro-batches; the gradients are weighted by `global_count`, so every example counts once. Ranks beyond `workers`
    (dedicated parameter servers) have no examples.
    """

    def __init__(self, examples: int, workers: int, batch: int, accumulation: int, seed: int) -> None:
        self.examples = examples
        self.workers = workers
        self.batch = batch
        self.accumulation = accumulation
        self.seed = seed
        longest = -(-examples // workers)
        self.steps_per_epoch = max(1, -(-longest // (batch * accumulation)))
        self._without: frozenset[int] = frozenset()
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def leave_out(self, ranks: Set[int]) -> None:
        """From now on deal the same micro-batches without these ranks: the others take their examples."""
        if len(ranks) >= self.workers:
            raise ValueError(f"all {self.workers} workers left out")
        self._without = frozenset(ranks)

    def _shard(self, epoch: int, rank: int) -> np.ndarray:
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.examples)
            self._epoch = epoch
        return self._order[rank :: self.workers]

    def indices(self, step: int, micro: int, rank: int) -> torch.Tensor:
        """Examples of one micro-batch of `step` (counted from 0 over all epochs), int64; may be empty."""
        if rank >= self.workers or rank in self._without:
            return torch.empty(0, dtype=torch.int64)
        if not self._without:
            return torch.from_numpy(self._own(step, micro, rank))
        present = [other for other in range(self.workers) if other not in self._without]
        everybody = np.concatenate([self._own(step, micro, other) for other in range(self.workers)])
        return torch.from_numpy(everybody[present.index(rank) :: len(present)])

    def _own(self, step: int, micro: int, rank: int) -> np.ndarray:
        epoch, position = divmod(step, self.steps_per_epoch)
        start = (position * self.accumulation + micro) * self.batch
        return self._shard(epoch, rank)[start : start + self.batch]

    def global_count(self, step: int) -> int:
        """Examples that all workers together see in `step`; at least 1 in every step."""
        return sum(self._own_count(step, rank) for rank in range(self.workers))

    def count(self, step: int, rank: int) -> int:
        """Examples that `rank` sees in `step`."""
        if self._without:
            return sum(self.indices(step, micro, rank).numel() for micro in range(self.accumulation))
        return self._own_count(step, rank) if rank < self.workers else 0

    def _own_count(self, step: int, rank: int) -> int:
        position = step % self.steps_per_epoch
        shard = len(range(rank, self.examples, self.workers))
        size = self.batch * self.accumulation
        return max(0, min(shard - position * size, size))

    def generator(self, step: int, micro: int, rank: int) -> torch.Generator:
        """Random stream for the augmentation of one micro-batch."""
        state = np.random.SeedSequence([self.seed, 1, step, micro, rank]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
