"""What the networks share: the settings they read, refusals in one voice, and the fitting of small pictures."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.data.base import Kind, Task
from toolkit.errors import UserError


class ModelSettings(Protocol):
    """The part of an experiment's [model] section that networks read; 0 means the network's own default."""

    @property
    def name(self) -> str: ...
    @property
    def hidden(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def dropout(self) -> float: ...


def accept(section: ModelSettings, task: Task, kind: Kind, settings: tuple[str, ...] = ()) -> None:
    """Refuse a task of another kind, and values for settings outside `settings`, which the network does not have."""
    if task.kind != kind:
        raise UserError(
            f"[model] name = '{section.name}': a {kind} network cannot train on {task.name}, a {task.kind} task"
        )
    for key in ("hidden", "layers", "heads", "vocabulary", "dropout"):
        value = getattr(section, key)
        if value and key not in settings:
            raise UserError(f"[model] {key} = {value}: {section.name} has no such setting; allowed is only 0")
        if value < 0:
            raise UserError(f"[model] {key} = {value}: allowed are positive values, or 0 for the network's own default")
    if not section.dropout < 1:
        raise UserError(f"[model] dropout = {section.dropout}: allowed are shares from 0 up to, not including, 1")


def fit(pixels: Tensor, side: int) -> Tensor:
    """Bring (batch, channels, height, width) pictures up to side x side; larger ones stay as they are.

    Each pixel is first repeated as often as fits (8 -> 32 by four), then zeros are added around evenly (28 -> 32, as
    LeNet-5 has it).
    """
    height, width = pixels.shape[-2:]
    times = max(1, side // max(height, width))
    if times > 1:
        pixels = pixels.repeat_interleave(times, -2).repeat_interleave(times, -1)
    down, across = max(0, side - times * height), max(0, side - times * width)
    if down or across:
        pixels = F.pad(pixels, (across // 2, across - across // 2, down // 2, down - down // 2))
    return pixels


def parameters_of(module: nn.Module) -> int:
    """Elements of all parameters, a shared tensor counted once."""
    return sum(parameter.numel() for parameter in module.parameters())
