"""A device's reached rate from a measured profile of a gpt, in place of the catalogue's."""

from __future__ import annotations

from simulator.offload.transformer import Transformer
from simulator.profile import Profile
from toolkit.errors import UserError


def reached_flops(profile: Profile, source: str) -> float:
    """flop/s of the forward and backward that a profile measured; UserError where it is none of a gpt with shapes.

    The profile holds tensors' shapes: word and place embeddings give width, vocabulary and sequence, the projections
    the layers. Its backward has no recomputation: twice the forward's work.
    """
    shapes = {layer.name: layer.shape for layer in profile.layers}
    words, places = shapes.get("token.weight", ()), shapes.get("position.weight", ())
    layers = sum(name.endswith("qkv.weight") for name in shapes)
    seconds = sum(layer.forward_s + layer.backward_s for layer in profile.layers)
    if profile.model != "gpt" or len(words) != 2 or len(places) != 2 or not layers or seconds <= 0:
        raise UserError(
            f"{source}: of '{profile.model}': a measured profile of 'gpt' with its tensors' shapes is wanted"
        )
    model = Transformer(words[1], layers, 1, words[0], places[0], profile.batch_size)
    return 3 * model.forward_flops / seconds
