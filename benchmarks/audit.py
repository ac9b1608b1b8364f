"""Shadow models a minute, side by side: one vectorized cohort, one after the other, a plain loop, and Privacy Meter.

Sixteen shadow models, each on a random half of a pool, by SGD with momentum; same network, batch size and epochs for
all, and for all but Privacy Meter the same batches from the same start, so that the trained models can be compared.
Images are noise: a step takes as long on any others. Contenders take turns. Privacy Meter is driven through the
training function of its own (`trainers/default_trainer.py`, with a `DataLoader` as `dataset/utils.py` makes them), from
a checkout that you name; its schedule of learning rates is its own. Run it with

    uv run python benchmarks/audit.py --privacy-meter FOLDER
"""

import argparse
import contextlib
import copy
import importlib.util
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.normalization import Normalization
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.membership import balanced_members, train_shadow_models
from fedsec.models import build
from fedsec.seeds import Streams

MODELS = 16


@dataclass
class Task:
    """What all train.

    Args:
        name: of the network.
        shape: of its inputs.
        examples: of the pool; each model gets about half.
        local: the training.
    """

    name: str
    shape: tuple[int, int, int]
    examples: int
    local: LocalTraining

    def prepare(self) -> None:
        """Make data, network and halves."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (self.examples, *self.shape), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 10, (self.examples,), generator=generator)
        numbers = np.arange(self.examples)
        self.data = ResidentData(images, torch.arange(self.examples), labels, [numbers], Normalization((0.5,), (0.5,)))
        torch.manual_seed(0)
        self.model = build(self.name, self.shape, 10)
        self.members = balanced_members(MODELS, self.examples, np.random.default_rng(0))
        self.streams = Streams(0)

    def fedsec(self, engine: str, threads: int) -> Tensor:
        trainer = CohortTrainer(self.model, self.data, engine=engine, threads=threads)  # type: ignore[arg-type]
        start = trainer.start(self.model)
        rows = train_shadow_models(
            trainer, start, np.arange(self.examples), self.members, self.local, streams=self.streams
        )
        return rows.parameters

    def plain(self) -> Tensor:
        """What one writes without a toolkit: the data in memory, a loop over models, a loop over batches."""
        inputs, rows = (self.data.images / 255 - 0.5) / 0.5, []
        for model, row in enumerate(self.members):
            rng = self.streams.numpy("audit", "membership", "shadow", model, "round", 1)
            plan = plan_batches(np.flatnonzero(row), self.local, rng)
            network = copy.deepcopy(self.model).train()
            optimizer = torch.optim.SGD(network.parameters(), lr=self.local.lr, momentum=self.local.momentum)
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                chosen = torch.from_numpy(examples[:size])
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(network(inputs[chosen]), self.data.label_of[chosen]).backward()
                optimizer.step()
            rows.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
        return torch.stack(rows)

    def privacy_meter(self, train: Callable[..., nn.Module]) -> Tensor:
        inputs, rows = (self.data.images / 255 - 0.5) / 0.5, []
        configs = {
            "optimizer": "SGD",
            "learning_rate": self.local.lr,
            "momentum": self.local.momentum,
            "weight_decay": 0.0,
            "epochs": self.local.epochs,
            "device": "cpu",
        }
        for row in self.members:
            dataset = torch.utils.data.TensorDataset(inputs, self.data.label_of)
            subset = torch.utils.data.Subset(dataset, np.flatnonzero(row).tolist())
            loader = torch.utils.data.DataLoader(subset, self.local.batch_size, shuffle=True)
            with contextlib.redirect_stdout(io.StringIO()):
                network = train(copy.deepcopy(self.model), loader, configs)
            rows.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
        return torch.stack(rows)


TASKS = {
    "cnn, 28x28, batch 20": Task(
        "cnn", (1, 28, 28), 1000, LocalTraining(epochs=2, batch_size=20, lr=0.01, momentum=0.9)
    ),
    "mlp, 8x8, batch 20": Task("mlp", (1, 8, 8), 1000, LocalTraining(epochs=5, batch_size=20, lr=0.01, momentum=0.9)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="of every contender")
    parser.add_argument("--examples", type=int, default=1000, help="of the pool; each model gets about half")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--privacy-meter", type=Path, help="a checkout of ml_privacy_meter; left out without one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for title, task in TASKS.items():
        task.examples = arguments.examples
        task.prepare()
        contenders: dict[str, Callable[[], Tensor]] = {
            "fedsec, one vectorized cohort": lambda task=task: task.fedsec("vectorized", arguments.threads),
            "fedsec, loop": lambda task=task: task.fedsec("loop", arguments.threads),
            "plain PyTorch loop": task.plain,
        }
        if arguments.privacy_meter is not None:
            train = their_training(arguments.privacy_meter)
            contenders["Privacy Meter's training"] = lambda task=task, train=train: task.privacy_meter(train)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        trained: dict[str, Tensor] = {}
        for _ in range(arguments.repetitions):
            for name, contender in contenders.items():
                begun = time.perf_counter()
                trained[name] = contender()
                seconds[name].append(time.perf_counter() - begun)
        reference = statistics.median(seconds["plain PyTorch loop"])
        print(f"\n{title}: {MODELS} models of {task.local.epochs} epochs on some {task.examples // 2} examples each")
        for name, values in seconds.items():
            middle = statistics.median(values)
            away = trained["plain PyTorch loop"] - torch.cat([p.detach().flatten() for p in task.model.parameters()])
            off = float((trained[name] - trained["plain PyTorch loop"]).norm() / away.norm())
            rates = f"{60 * MODELS / middle:.0f} | {60 * MODELS / min(values):.0f}"
            print(f"| {name} | {rates} | {reference / middle:.2f}x | {off:.0e} |", flush=True)


def their_training(folder: Path) -> Callable[..., nn.Module]:
    """Privacy Meter's `train`, from a checkout."""
    specification = importlib.util.spec_from_file_location("their_trainer", folder / "trainers" / "default_trainer.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    train: Callable[..., nn.Module] = module.train
    return train


if __name__ == "__main__":
    main()
