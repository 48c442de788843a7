"""What an experiment asks for and the simulator charges as something else: said in every result, never silently."""

from __future__ import annotations

from toolkit import registry
from toolkit.experiment import Experiment


def unmodelled(experiment: Experiment) -> list[str]:
    """One line a setting whose simulated cost is that of another."""
    section = experiment.compression
    notes = []
    if experiment.exchange in ("gtopk", "oktopk"):
        notes.append(f"exchange '{experiment.exchange}' is charged as a sparse allgather")
    if registry.COMPRESSORS[section.name].wire == "linear":
        if section.name == "powersgd":
            notes.append("the two rounds of powersgd are charged as one allreduce of their bytes")
        elif section.wire_values != "fp32":
            notes.append("rounded values are charged as an allreduce of 4 bytes a value; Horovod gathers them")
    elif section.wire_indices != "int32" or section.wire_values != "fp32":
        notes.append("packed indices and rounded values are charged at 8 bytes an entry")
    if section.bypass != "off":
        notes.append("no bucket bypasses compression")
    if section.name == "bf16":
        notes.append("bf16 is charged as an allreduce of 2 bytes an element; Horovod gathers it")
    return notes
