"""What a third task costs: segmentation in one class, learned by every engine and measured without another change."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.normalization import Normalization
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.errors import InputError
from fedsec.metrics.evaluation import evaluate
from fedsec.tasks import Task


@dataclass(frozen=True)
class Segmentation(Task):
    """A class for each pixel."""

    num_classes: int

    name: ClassVar[str] = "segmentation"
    target_dtype: ClassVar[torch.dtype] = torch.int64
    output_noun: ClassVar[str] = "maps of logits"
    output_axes: ClassVar[int] = 3
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    @classmethod
    def of_data(cls, num_classes: int) -> "Segmentation":
        return cls(num_classes)

    @property
    def outputs(self) -> int:
        return self.num_classes

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none").mean((-2, -1))

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"accuracy": (outputs.argmax(1) == targets).double().mean().item()}


SIZES, IMAGES = (7, 4), 11


def world() -> tuple[nn.Module, ResidentData]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, 6, 6), dtype=torch.uint8)
    data = ResidentData(
        images=images,
        image_of=torch.arange(IMAGES),
        label_of=(images[:, 0] > 127).long(),
        clients=np.split(np.arange(IMAGES), np.cumsum(SIZES)[:-1]),
        normalization=Normalization((0.5,), (0.25,)),
    )
    return nn.Conv2d(1, 2, 3, padding=1), data


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_every_engine_learns_maps(engine: Any) -> None:
    module, data = world()
    local = LocalTraining(epochs=20, batch_size=3, lr=0.2)
    trainer = CohortTrainer(module, data, engine=engine, task=Segmentation(2))
    plans = [plan_batches(part, local, np.random.default_rng(0)) for part in data.clients]
    trained = trainer.train(trainer.start(module), plans, local).updates
    other = CohortTrainer(module, data, engine="loop", task=Segmentation(2))
    torch.testing.assert_close(trained, other.train(other.start(module), plans, local).updates, rtol=1e-3, atol=1e-5)
    torch.nn.utils.vector_to_parameters(
        torch.cat([p.detach().flatten() for p in module.parameters()]) + trained[0], module.parameters()
    )
    measured = evaluate(module, data.images, data.label_of, data.normalization, Segmentation(2))
    assert measured.metrics["accuracy"] > 0.9


def test_a_vector_of_logits_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected \(4, 2, \.\.\., \.\.\.\): segmentation needs 2 maps of logits"):
        Segmentation(2).check_outputs((4, 2), 4)
