"""A mod for nodes that change their update before they send it: they clip, compress, add noise."""

import secrets

import torch
from flwr.app import ArrayRecord
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.updates import UpdateTransform, compose, with_feedback
from fedsec.errors import InputError
from fedsec.flower.arrays import record_of, state_of
from fedsec.flower.update_mod import NodeUpdate, UpdateMod
from fedsec.seeds import Streams

__all__ = ["transform_mod"]


class transform_mod(UpdateMod):  # noqa: N801, named as Flower's mods are
    """Sends an update as some transforms of fedsec's make it, in their order.

        app = ClientApp(mods=[transform_mod(ClipUpdate(1.0), Quantize(bits=8))])

    What transforms with error feedback hold back lies in the node's `context.state` until the next round. Statistics of
    normalization are sent as they are.

    Args:
        transforms: of `fedsec.defenses`: `ClipUpdate`, `Quantize`, `Sign`, `Prune`, `GaussianNoise`.
        seed: of transforms that draw; a secret of 128 bits by default.

    Raises:
        InputError: no transform, something that is none, or one that looks at the node's data (Soteria).
    """

    def __init__(self, *transforms: UpdateTransform, seed: int | None = None) -> None:
        if not transforms:
            raise InputError("transform_mod: expected at least one transform, such as ClipUpdate(1.0)")
        for one in transforms:
            if not isinstance(one, UpdateTransform):
                name = one.__name__ if isinstance(one, type) else type(one).__name__
                raise InputError(
                    f"transform_mod: {name} changes no single update; expected objects such as ClipUpdate(1.0), Sign() "
                    "or Quantize(bits=8)"
                )
            if one.needs_client:
                raise InputError(f"transform_mod: {type(one).__name__} looks at the node's data, which a mod has not")
        self._transform = compose(transforms)
        self._streams = Streams(secrets.randbits(128) if seed is None else seed)

    def changed(self, update: NodeUpdate) -> Float[Tensor, "parameters"]:
        state = update.context.state
        held = state.get(self.key)
        carried = state_of(held, self.key) if isinstance(held, ArrayRecord) else None
        # A server that gives two rounds one number must not see the same noise twice: it would cancel in a difference.
        generator = self._streams.torch("transform", update.context.node_id, "update", update.count)
        sent, carried = with_feedback(self._transform, update.named, carried, generator=generator)
        if carried:
            state[self.key] = record_of(carried)
        return torch.cat([sent[name].flatten() for name in update.layout.shapes])
