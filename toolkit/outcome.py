"""The result of a finished run: all ranks fold their spans, rank 0 writes result.json and the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.checkpoint.state import save_state
from toolkit.trace import PhaseTimes, RankSteps, Span, asynchronous, joined, synchronous

if TYPE_CHECKING:
    from toolkit.trainer import Trainer


def write_outcome(trainer: Trainer) -> dict[str, Any]:
    """The result, on every rank; all call this together at the end."""
    comm, experiment = trainer.comm, trainer.experiment
    trainer.folder.save_trace(trainer.header(), trainer.recorder.spans)
    phases = [_phase(trainer, segment) for segment in trainer.journal.segments]
    samples = sum(comm.allgather_values(trainer.computation.samples))
    result = joined(phases, seed=experiment.run.seed, samples=samples, workers=comm.size)
    result.events = sorted(trainer.journal.events + trainer.watch.events, key=lambda event: event["step"])
    if trainer.computation.pace is not None:
        result.sections["pace"] = trainer.computation.pace.report()
    else:
        result.sections["training"] = _learned(trainer)
    result.sections["compression"] = {
        "name": experiment.compression.name,
        "exchange": experiment.exchange,
        "density": experiment.compression.density,
        "achieved_density": _selected(trainer),
    }
    result.sections["sync"] = _sync(trainer)
    content = result.to_json()
    if comm.rank == 0:
        if trainer.computation.pace is None:
            save_state(trainer.folder.out / "model.safetensors", trainer.model.state_dict())
        trainer.folder.save_result(content)
    comm.barrier()
    return content


def _phase(trainer: Trainer, segment: dict[str, Any]) -> PhaseTimes:
    first, last = segment["first"], segment["first"] + segment["steps"]
    own: list[Span] = [span for span in trainer.recorder.spans if first <= span.step < last]
    ranks = trainer.comm.allgather_values(RankSteps.of(own))
    fold = synchronous if segment["protocol"] == "bsp" else asynchronous
    return fold(segment["name"], ranks)


def _learned(trainer: Trainer) -> dict[str, Any]:
    losses = np.sum(trainer.comm.allgather_values(trainer.losses), axis=0)
    last = trainer.evaluations[-1]
    return {
        "losses": losses.tolist(),
        "loss": last["loss"],
        "accuracy": last["accuracy"],
        "evaluations": trainer.evaluations,
        "parameters": sum(size for _, size in trainer.reducer.tensors),
        "parameters_sha256": trainer.digest(),
    }


def _sync(trainer: Trainer) -> dict[str, Any]:
    sync = trainer.experiment.sync
    section: dict[str, Any] = {"policy": sync.policy, "evaluations": trainer.journal.points}
    if trainer.journal.histogram:
        section |= {"servers": sync.servers, "staleness": trainer.journal.staleness()}
    return section


def _selected(trainer: Trainer) -> float:
    """Share of the gradient that was sent, mean over steps and ranks."""
    own = [s.detail for s in trainer.recorder.spans if s.what == "compress" and s.detail]
    pairs = trainer.comm.allgather_values((sum(d["selected"] for d in own), sum(d["elements"] for d in own)))
    return float(sum(pair[0] for pair in pairs) / max(1.0, sum(pair[1] for pair in pairs)))
