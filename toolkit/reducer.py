"""From the gradients of backward to one merged gradient on every rank: torch hooks around compressors and an exchange.

A bucket is a group of parameters that is compressed and exchanged as one vector. Its parameters' gradients are views of
one flat buffer. As soon as backward has filled a bucket, it is compressed and its exchange starts, while backward goes
on; a hook before the optimizer's step waits for the exchanges and merges them. The optimizer keeps its class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from toolkit import compression, exchange
from toolkit.compression import Compressor, Context, DensePayload, Payload, SparsePayload
from toolkit.compression.residual import KINDS, add_at, opened
from toolkit.compression.rooms import standing_zeros
from toolkit.exchange import Exchange, Pending, Wire
from toolkit.experiment import Experiment
from toolkit.optim.sparse import SparseOptimizer
from toolkit.policies.buckets import plan_buckets
from toolkit.policies.bypass import Bypass
from toolkit.trace import Recorder


@dataclass
class Bucket:
    """Parameters exchanged together. Flat buffers are float32 (n,); members are in backward order."""

    name: str
    members: list[tuple[str, torch.nn.Parameter]]
    gradient: torch.Tensor
    parameter: torch.nn.Parameter
    compressor: Compressor
    residual: torch.Tensor | None
    missing: int = 0
    pending: Pending | None = None
    whole: bool = False  # whether the bucket went dense in this step
    launched: float = 0.0
    views: dict[str, torch.Tensor] = field(default_factory=dict)
    hooks: dict[str, Callable[[torch.Tensor], None]] = field(default_factory=dict)


class GradientReducer:
    """Owns a model's gradients. Create it before the optimizer and give the optimizer `parameters`."""

    def __init__(self, model: torch.nn.Module, experiment: Experiment, comm: Any, recorder: Recorder) -> None:
        self.experiment = experiment
        self.recorder = recorder
        self.comm = comm
        self.wire = Wire(experiment.compression.wire_indices, experiment.compression.wire_values)
        self.exchange = exchange.create(experiment.exchange, comm, self.wire)
        self.dense_exchange = exchange.create("dense", comm)
        self.bypass = Bypass.of(experiment)
        self.density = experiment.compression.density
        self.observer: Callable[[int, int, torch.Tensor], None] | None = None
        self.lag: Callable[[float], None] | None = None  # told what a tensor's backward took; a slow worker's sleep
        self._last_micro = True
        self._mark = 0.0
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.tensors = [(name, p.numel()) for name, p in named]
        self.shapes = [tuple(p.shape) for _, p in named]
        section = experiment.compression
        plan = plan_buckets([size for _, size in self.tensors], section.granularity, section.merge_elements)
        self.buckets = [self._bucket(f"bucket{i}", [named[j] for j in plan[i]]) for i in range(len(plan))]

    def _bucket(self, name: str, members: list[tuple[str, torch.nn.Parameter]]) -> Bucket:
        elements = sum(p.numel() for _, p in members)
        flat = torch.nn.Parameter(standing_zeros(elements))
        gradient = standing_zeros(elements)
        section = self.experiment.compression
        keeps = section.error_feedback and section.name != "none"
        bucket = Bucket(
            name=name,
            members=members,
            gradient=gradient,
            parameter=flat,
            compressor=compression.create(section, elements),
            residual=standing_zeros(elements, KINDS[section.residual]) if keeps else None,
            missing=len(members),
        )
        start = 0
        for tensor_name, p in members:
            end = start + p.numel()
            with torch.no_grad():
                flat[start:end].copy_(p.view(-1))
            p.data = flat.data[start:end].view(p.shape)
            p.grad = bucket.views[tensor_name] = gradient[start:end].view(p.shape)
            bucket.hooks[tensor_name] = self._hook(bucket, tensor_name)
            p.register_post_accumulate_grad_hook(bucket.hooks[tensor_name])
            start = end
        flat.grad = gradient
        return bucket

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """One flat parameter a bucket; the model's own parameters are views of them."""
        return [bucket.parameter for bucket in self.buckets]

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Exchange and merge before every `optimizer.step()`, and record what the step itself takes."""

        def before(opt: torch.optim.Optimizer, *_: Any) -> None:
            self._synchronize(opt)
            self._mark = self.recorder.clock()

        def after(*_: Any) -> None:
            self.recorder.add("optimize", "", self._mark, self.recorder.clock())

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    def begin_step(self, step: int, density: float) -> None:
        """Zero the gradients and arm the buckets for `step`."""
        self.recorder.step = step
        self.density = density
        for bucket in self.buckets:
            bucket.gradient.zero_()
            bucket.missing = len(bucket.members)

    def begin_backward(self, last_micro: bool) -> None:
        """Call before backward; only the last micro-batch's backward starts exchanges."""
        self._last_micro = last_micro
        self._mark = self.recorder.clock()

    def end_backward(self) -> None:
        """Call after backward: records what came after the last gradient."""
        self.recorder.add("backward", "", self._mark, self.recorder.clock())

    def in_backward_order(self) -> Iterator[tuple[str, torch.nn.Parameter, Callable[[torch.Tensor], None]]]:
        """(name, parameter, what to call when its gradient is complete): for a backward pass that is not autograd's."""
        for bucket in self.buckets:
            for name, parameter in bucket.members:
                yield name, parameter, bucket.hooks[name]

    def launch_empty(self) -> None:
        """A worker without data for this step sends nothing (or zeros), so that the others do not hang."""
        for bucket in self.buckets:
            way, density = self._way(bucket)
            nothing = bucket.compressor.nothing(self._context(bucket, density)) if density < 1.0 else None
            self._launch(bucket, way, nothing or DensePayload(bucket.gradient))

    def _way(self, bucket: Bucket) -> tuple[Exchange, float]:
        """How a bucket travels in this step, and at which density: whole where a list of coordinates saves nothing."""
        if self.bypass.dense(bucket.gradient.numel(), self.density):
            return self.dense_exchange, 1.0
        return self.exchange, self.density

    def _context(self, bucket: Bucket, density: float) -> Context:
        shapes = tuple(tuple(parameter.shape) for _, parameter in bucket.members)
        seed, comm = self.experiment.run.seed, self.comm
        return Context(bucket.name, self.recorder.step, density, seed, comm.size, comm.rank, shapes)

    def _hook(self, bucket: Bucket, name: str) -> Callable[[torch.Tensor], None]:
        def ready(parameter: torch.Tensor) -> None:
            view = bucket.views[name]
            if parameter.grad is not None and parameter.grad.data_ptr() != view.data_ptr():
                view.copy_(parameter.grad)  # somebody set gradients to None: take the new one into the bucket
                parameter.grad = view
            if self.lag is not None:
                self.lag(self.recorder.clock() - self._mark)
            now = self.recorder.clock()
            self.recorder.add("backward", name, self._mark, now)
            if self._last_micro:
                bucket.missing -= 1
                if bucket.missing == 0 and self.experiment.pipeline.overlap and self.observer is None:
                    self._compress(bucket)
            self._mark = self.recorder.clock()

        return ready

    def _compress(self, bucket: Bucket) -> None:
        start = self.recorder.clock()
        way, density = self._way(bucket)
        context = self._context(bucket, density)
        payload = self._payload(bucket, context)
        pending = self._launch(bucket, way, payload)
        elements = bucket.gradient.numel()
        selected = payload.indices.numel() if isinstance(payload, SparsePayload) else elements
        detail: dict[str, float] = {"elements": elements, "density": density, "selected": selected}
        if density < 1.0:
            detail |= bucket.compressor.telemetry
        self.recorder.add("compress", bucket.name, start, bucket.launched, pending.payload_bytes, detail)

    def _payload(self, bucket: Bucket, context: Context) -> Payload:
        payload: Payload
        residual = bucket.residual
        if context.density >= 1.0:
            return bucket.compressor.everything(bucket.gradient, residual, context)
        if residual is None:
            payload = bucket.compressor.select(bucket.gradient, context)
        else:
            payload = bucket.compressor.select_feedback(bucket.gradient, residual, context)
        return self._rounded(payload, residual, context) if isinstance(payload, SparsePayload) else payload

    def _rounded(self, payload: SparsePayload, residual: torch.Tensor | None, context: Context) -> SparsePayload:
        """What the wire can carry of a payload; the rounding errors join the residual."""
        values, error = self.wire.rounded(payload.values)
        if error is None:
            return payload
        if residual is not None:
            add_at(residual, payload.indices, error, context, "wire")
        return dataclasses.replace(payload, values=values)

    def _launch(self, bucket: Bucket, way: Exchange, payload: Payload) -> Pending:
        bucket.whole = not isinstance(payload, SparsePayload)
        bucket.pending = way.launch(bucket.name, payload)
        bucket.launched = self.recorder.clock()
        return bucket.pending

    def compressed(self) -> list[Pending]:
        """Compress what is left of this step, and hand over what was launched, a bucket each, to be waited for."""
        self._compress_all()
        pending = [bucket.pending for bucket in self.buckets if bucket.pending is not None]
        for bucket in self.buckets:
            bucket.pending = None
        return pending

    def _compress_all(self) -> None:
        if self.observer is not None:
            self.observer(self.recorder.step, self.comm.rank, self.flat_gradient())
        for bucket in self.buckets:
            if bucket.pending is None:  # overlap is off, or a parameter took no part in this step
                self._compress(bucket)

    def _synchronize(self, optimizer: torch.optim.Optimizer) -> None:
        self._compress_all()
        for bucket in self.buckets:
            self._merge(bucket, self._wait(bucket), optimizer)
        self._clip(optimizer)

    def _wait(self, bucket: Bucket) -> Pending:
        assert bucket.pending is not None
        pending, bucket.pending = bucket.pending, None
        start = self.recorder.clock()
        blocked = not pending.ready()
        pending.wait()
        end = self.recorder.clock()
        self.recorder.add("wait", bucket.name, start, end)
        detail = {"exact_end": float(blocked)}
        self.recorder.add("communicate", bucket.name, bucket.launched, end, pending.bytes, detail)
        return pending

    def _merge(self, bucket: Bucket, pending: Pending, optimizer: torch.optim.Optimizer) -> None:
        start = self.recorder.clock()
        elements = bucket.gradient.numel()
        with opened(bucket.residual, self._context(bucket, self.density), "settle", pending.settles) as residual:
            if residual is not None:
                pending.settle(residual)
        if isinstance(optimizer, SparseOptimizer) and not bucket.whole:
            (indices, values), entries = pending.merge_sparse()
            optimizer.assign(bucket.parameter, indices, values)
        else:
            entries = pending.merge(bucket.gradient)
        detail = {"elements": float(elements), "entries": float(entries)}
        self.recorder.add("merge", bucket.name, start, self.recorder.clock(), 0, detail)

    def _clip(self, optimizer: torch.optim.Optimizer) -> None:
        limit = self.experiment.optimizer.clip_norm
        if limit <= 0:
            return
        if isinstance(optimizer, SparseOptimizer):
            optimizer.clip_norm(limit)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters, limit)

    def flat_gradient(self) -> torch.Tensor:
        """This rank's own gradient of the whole model, float32 (n,), tensors in forward order."""
        views = {name: view for bucket in self.buckets for name, view in bucket.views.items()}
        return torch.cat([views[name].reshape(-1) for name, _ in self.tensors])

    def state_dict(self) -> dict[str, Any]:
        """Residuals and compressor state, by bucket."""
        return {
            bucket.name: {"residual": bucket.residual, "compressor": bucket.compressor.state_dict()}
            for bucket in self.buckets
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; buckets must be the same."""
        for bucket in self.buckets:
            saved = state[bucket.name]
            if bucket.residual is not None:
                bucket.residual.copy_(saved["residual"])
            bucket.compressor.load_state_dict(saved["compressor"])
