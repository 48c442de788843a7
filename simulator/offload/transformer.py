"""What a GPT weighs: parameters, FLOPs and bytes of its layers, for a batch of sequences."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from toolkit.errors import UserError
from toolkit.experiment import Experiment

VOCABULARY = {"pysource": 98, "ptb": 10_000}  # of the toolkit's data sets
HIDDEN, LAYERS, HEADS = 128, 4, 4  # of the toolkit's gpt, where [model] says 0
MOMENTS = 8  # bytes a parameter of Adam's two moments, always fp32


@dataclass(frozen=True)
class Transformer:
    """A GPT and its batch. value_bytes: of a weight, gradient or activation: 4, or 2 in bf16."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int
    sequence: int
    batch: int
    value_bytes: int = 4

    @classmethod
    def of(cls, experiment: Experiment, source: str) -> Transformer:
        """The model of an experiment; UserError where it is none that is known here."""
        model, data = experiment.model, experiment.data
        if model.name != "gpt":
            raise UserError(f"{source}: [model] name = '{model.name}': layers are offloaded of 'gpt' only")
        hidden, heads = model.hidden or HIDDEN, model.heads or HEADS
        if hidden % heads:
            raise UserError(f"{source}: [model] heads = {heads}: must divide hidden = {hidden}")
        vocabulary = model.vocabulary or VOCABULARY[data.name]
        value_bytes = 2 if experiment.offload.precision == "bf16" else 4
        layers = model.layers or LAYERS
        return cls(hidden, layers, heads, vocabulary, data.sequence, data.batch_size, value_bytes)

    def deep(self, layers: int) -> Transformer:
        """The same model with another number of layers."""
        return dataclasses.replace(self, layers=layers)

    @property
    def layer_parameters(self) -> int:
        """12 h^2 + 13 h: attention 4 h^2, two-layer network 8 h^2, their biases, two normalisations."""
        return 12 * self.hidden**2 + 13 * self.hidden

    @property
    def other_parameters(self) -> int:
        """Embeddings of words (shared with the output) and places, and the last normalisation."""
        return (self.vocabulary + self.sequence + 2) * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + self.other_parameters

    @property
    def layer_flops(self) -> float:
        """Forward of one layer: 24 B T h^2 in its matrices, 4 B T^2 h in the attention."""
        tokens = self.batch * self.sequence
        return 24.0 * tokens * self.hidden**2 + 4.0 * tokens * self.sequence * self.hidden

    @property
    def head_flops(self) -> float:
        """Forward of the output layer: 2 B T h V."""
        return 2.0 * self.batch * self.sequence * self.hidden * self.vocabulary

    @property
    def forward_flops(self) -> float:
        return self.layers * self.layer_flops + self.head_flops

    @property
    def backward_flops(self) -> float:
        """Twice the forward, and every layer's forward again (recomputation from its input)."""
        return 3 * self.layers * self.layer_flops + 2 * self.head_flops

    @property
    def layer_bytes(self) -> float:
        """A layer's weights, or its gradients."""
        return float(self.value_bytes * self.layer_parameters)

    @property
    def other_bytes(self) -> float:
        return float(self.value_bytes * self.other_parameters)

    @property
    def checkpoint_bytes(self) -> float:
        """A layer's input, kept for the recomputation."""
        return float(self.value_bytes * self.batch * self.sequence * self.hidden)

    @property
    def logits_bytes(self) -> float:
        return float(self.value_bytes * self.batch * self.sequence * self.vocabulary)

    @property
    def working_bytes(self) -> float:
        """Activations of the one layer that is being recomputed: B T (34 h + 5 a T) at 2 bytes a value.

        Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.1.
        """
        wide = 34 * self.hidden + 5 * self.heads * self.sequence
        return self.batch * self.sequence * wide * self.value_bytes / 2
