"""Attacks compute with all digits of float32 on a GPU, whatever the process allows."""

from copy import deepcopy

import torch
from torch import nn

from fedsec.arithmetic import arithmetic, tf32_allowed
from fedsec.threat import Inversion, MaliciousServer, Observation, Reconstruction, ServerView
from tests.pretended_gpu import pretended_gpu

SHAPE = (1, 2, 2)


def test_inversions_and_crafted_models_are_not_rounded() -> None:
    allowed: list[bool] = []

    class Attack(Inversion):
        def recover(self, observations, *, generator, watch):  # type: ignore[no-untyped-def]
            allowed.append(tf32_allowed())
            return [Reconstruction(torch.rand(2, *SHAPE), torch.tensor([0, 2])) for _ in observations]

    class Server(MaliciousServer):
        def build(self, view, *, generator):  # type: ignore[no-untyped-def]
            allowed.append(tf32_allowed())
            return deepcopy(view.model)

        def recover(self, observations, *, generator, watch):  # type: ignore[no-untyped-def]
            raise NotImplementedError

    with pretended_gpu() as gpu, arithmetic("cuda", tf32=True):
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).to(gpu)
        update = {name: torch.ones_like(row) for name, row in model.named_parameters()}
        Attack().reconstruct(Observation(model, update, SHAPE, 3, 2))
        Server().craft(ServerView(model, SHAPE, 3, batch_size=2))
        assert allowed == [False, False]
        assert tf32_allowed()
