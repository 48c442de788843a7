"""Gradient compressors: one interface, one file a family, error feedback beside it. No communicator is known here."""

from __future__ import annotations

from toolkit.compression.accumulate import LocalClipping, MomentumCorrection
from toolkit.compression.base import Compressor, Context, DensePayload, LinearPayload, Payload, SparsePayload
from toolkit.experiment import CompressionSection
from toolkit.registry import COMPRESSORS, resolve

__all__ = ["Compressor", "Context", "DensePayload", "LinearPayload", "Payload", "SparsePayload", "create"]


def create(section: CompressionSection, elements: int) -> Compressor:
    """A compressor for one bucket of `elements` float32 values, as the experiment file asks."""
    compressor: Compressor = resolve(COMPRESSORS[section.name].target)(section, elements)
    if section.momentum > 0:
        compressor = MomentumCorrection(compressor, section.momentum, section.nesterov)
    if section.clip_norm > 0:
        compressor = LocalClipping(compressor, section.clip_norm)
    return compressor
