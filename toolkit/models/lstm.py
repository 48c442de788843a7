"""LSTM language models: the large PTB network of Zaremba et al. (2014), and a small one over characters.

lstm: vocabulary 10,000, embedding and two layers of 1,500 units, dropout 0.65: 66,034,000 parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.data.base import Task
from toolkit.models.base import ModelSettings, accept

PTB_RANGE = 0.04  # uniform initial weights of the paper's large network


class LanguageLSTM(nn.Module):
    """Embedding, stacked LSTM and output layer, none of them shared; every window starts from a zero state."""

    def __init__(self, vocabulary: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.output = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.lstm(self.dropout(self.embedding(tokens)))
        logits: Tensor = self.output(self.dropout(x))
        return logits


def lstm(section: ModelSettings, task: Task) -> nn.Module:
    """Settings: hidden (1500), layers (2), dropout (0.65)."""
    accept(section, task, "language", ("hidden", "layers", "dropout"))
    network = LanguageLSTM(task.classes, section.hidden or 1500, section.layers or 2, section.dropout or 0.65)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -PTB_RANGE, PTB_RANGE)
    return network


def charlstm(section: ModelSettings, task: Task) -> nn.Module:
    """Settings: hidden (128), layers (2), dropout (none): about 0.29 million parameters over 98 characters."""
    accept(section, task, "language", ("hidden", "layers", "dropout"))
    return LanguageLSTM(task.classes, section.hidden or 128, section.layers or 2, section.dropout)
