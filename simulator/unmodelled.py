"""What a simulated cost leaves out of what an experiment asks for: said in every result, never silently."""

from __future__ import annotations

from toolkit import registry
from toolkit.experiment import Experiment
from toolkit.sections.offload import IN_MEMORY


def unmodelled(experiment: Experiment) -> list[str]:
    """One line a setting whose cost is simulated in part, or as it is expected to be."""
    section = experiment.compression
    notes = []
    if section.wire_indices == "delta" and registry.COMPRESSORS[section.name].wire == "sparse":
        notes.append("delta indices take the bytes of coordinates that lie evenly at random")
    if experiment.exchange == "oktopk":
        notes.append("every worker's region holds its share of every list, so that Ok-Topk evens nothing out")
    if section.name == "powersgd":
        notes.append("what powersgd computes between its rounds is charged as part of compress")
    if experiment.offload.method != IN_MEMORY:
        notes.append(f"offload.method '{experiment.offload.method}' is charged as {IN_MEMORY}; 'plan' simulates it")
    return notes
