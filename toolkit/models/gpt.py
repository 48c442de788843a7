"""A GPT of the GPT-2 family (Radford et al., 2019): learned positions, pre-norm blocks, output and embedding shared.

Parameters, for hidden h, vocabulary V, sequence T and L blocks: L (12 h^2 + 13 h) + V h + T h + 2 h. With h = 2048,
V = 50304 and T = 1024 that is 50,358,272 L + 105,123,840, the family that STRONGHOLD (SC 2022) measures.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.data.base import Task
from toolkit.errors import UserError
from toolkit.models.base import ModelSettings, accept

HIDDEN, LAYERS, HEADS = 128, 4, 4


class CausalAttention(nn.Module):
    """softmax(QK'/sqrt(d))V over no later place. A module of its own, without parameters, so that it can be counted."""

    def __init__(self, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout

    def forward(self, qkv: Tensor) -> Tensor:
        """(batch, sequence, 3 hidden) -> (batch, sequence, hidden)."""
        batch, sequence, triple = qkv.shape
        q, k, v = qkv.view(batch, sequence, 3, self.heads, triple // 3 // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return mixed.transpose(1, 2).reshape(batch, sequence, triple // 3)


class Block(nn.Module):
    """Attention and a four times wider two-layer network, each added to what came in."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attention = CausalAttention(heads, dropout)
        self.projection = nn.Linear(hidden, hidden)
        self.ln_2 = nn.LayerNorm(hidden)
        self.expand = nn.Linear(hidden, 4 * hidden)
        self.contract = nn.Linear(4 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.projection(self.attention(self.qkv(self.ln_1(x)))))
        wide = F.gelu(self.expand(self.ln_2(x)), approximate="tanh")
        return x + self.dropout(self.contract(wide))


class GPT(nn.Module):
    """tokens (batch, sequence) -> logits (batch, sequence, vocabulary)."""

    def __init__(self, shape: tuple[int, int], hidden: int, layers: int, heads: int, dropout: float) -> None:
        """shape: (vocabulary, longest sequence)."""
        super().__init__()
        vocabulary, sequence = shape
        self.token = nn.Embedding(vocabulary, hidden)
        self.position = nn.Embedding(sequence, hidden)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.ln_f = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        self.head.weight = self.token.weight
        self._initialise(layers)

    def _initialise(self, layers: int) -> None:
        """GPT-2's: normal 0.02, and smaller by sqrt(2 L) where a block adds to the residual stream; biases zero."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                adds = name.endswith(("projection.weight", "contract.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.token(tokens) + self.position(places))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.ln_f(x))
        return logits


def gpt(section: ModelSettings, task: Task) -> nn.Module:
    """Settings: hidden (128), layers (4), heads (4), dropout (none), vocabulary (the task's); positions are the task's.

    A larger vocabulary than the task's leaves rows that no example names, as Megatron-LM pads GPT-2's to 50304.
    """
    accept(section, task, "language", ("hidden", "layers", "heads", "vocabulary", "dropout"))
    vocabulary = section.vocabulary or task.classes
    if vocabulary < task.classes:
        raise UserError(f"[model] vocabulary = {vocabulary}: {task.name} has {task.classes} words")
    hidden, heads = section.hidden or HIDDEN, section.heads or HEADS
    if hidden % heads:
        raise UserError(f"[model] heads = {heads}: must divide hidden = {hidden}")
    return GPT((vocabulary, task.input_shape[0]), hidden, section.layers or LAYERS, heads, section.dropout)
