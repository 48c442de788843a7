"""Which examples a worker sees in which step: a pure function of seed, epoch and position, so any step can resume."""

from __future__ import annotations

import numpy as np
import torch


class ShardedSampler:
    """Shuffles the examples anew each epoch and deals them to the workers in turn.

    Every worker makes the same number of steps, that of the longest shard. A shard that ends early gives empty
    micro-batches; the gradients are weighted by `global_count`, so every example counts once.
    """

    def __init__(self, examples: int, workers: int, batch: int, accumulation: int, seed: int) -> None:
        self.examples = examples
        self.workers = workers
        self.batch = batch
        self.accumulation = accumulation
        self.seed = seed
        longest = -(-examples // workers)
        self.steps_per_epoch = max(1, -(-longest // (batch * accumulation)))
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def _shard(self, epoch: int, rank: int) -> np.ndarray:
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.examples)
            self._epoch = epoch
        return self._order[rank :: self.workers]

    def indices(self, step: int, micro: int, rank: int) -> torch.Tensor:
        """Examples of one micro-batch of `step` (counted from 0 over all epochs), int64; may be empty."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = (position * self.accumulation + micro) * self.batch
        return torch.from_numpy(self._shard(epoch, rank)[start : start + self.batch])

    def global_count(self, step: int) -> int:
        """Examples that all workers together see in `step`; at least 1 in every step."""
        return sum(self.count(step, rank) for rank in range(self.workers))

    def count(self, step: int, rank: int) -> int:
        """Examples that `rank` sees in `step`."""
        position = step % self.steps_per_epoch
        shard = len(range(rank, self.examples, self.workers))
        size = self.batch * self.accumulation
        return max(0, min(shard - position * size, size))

    def generator(self, step: int, micro: int, rank: int) -> torch.Generator:
        """Random stream for the augmentation of one micro-batch."""
        state = np.random.SeedSequence([self.seed, 1, step, micro, rank]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
