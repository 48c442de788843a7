"""Checkpoints: what a run needs to go on as if it had never stopped."""

from toolkit.checkpoint.disk import CheckpointStore

__all__ = ["CheckpointStore"]
