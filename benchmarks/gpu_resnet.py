"""One round of FedAvg with ResNet-50 on a GPU: fedsec, the same round in plain PyTorch, and centralized training.

    uv run python benchmarks/gpu_resnet.py                                            # needs CUDA, a few minutes
    uv run python benchmarks/gpu_resnet.py --device cpu --model resnet8 --images 20   # only shows that it runs

10 clients x 500 random 3x32x32 images, one local epoch at batch 10 (SGD, momentum 0.9), batch normalization; the same
start and the same batches for both. *Plain* is what anybody would write: float images on the device, a deep copy of the
model for each client, `torch.optim.SGD`, steps launched one by one, contiguous. *Centralized* is one such epoch over
the same 5,000 images at batch 128: what the round would cost if nothing were federated. All three in the same precision
(bf16: autocast of the forward pass), synchronized, after one warm-up round each; they take turns, and medians are
compared. Targets at tf32: 3x faster than plain, and no more than 3x the time of the centralized epoch.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data import normalization
from fedsec.data.datasets import Split
from fedsec.engine import BatchPlan, CohortTrainer, LocalTraining, ResidentData, loop_workers
from fedsec.engine.batches import plan_batches
from fedsec.engine.precision import Compute
from fedsec.models import build

CENTRAL_BATCH = 128
NORMALIZATION = normalization("unit")


@dataclass
class Round:
    """What all contenders are given."""

    module: nn.Module
    data: ResidentData
    plans: list[BatchPlan]
    local: LocalTraining
    compute: Compute

    @classmethod
    def make(cls, options: argparse.Namespace, precision: str) -> "Round":
        device = torch.device(options.device)
        generator = torch.Generator().manual_seed(0)
        count = options.clients * options.images
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        split = Split(images, torch.randint(0, 10, (count,), generator=generator))
        parts = list(np.arange(count).reshape(options.clients, -1))
        local = LocalTraining(epochs=1, batch_size=options.batch, lr=0.01, momentum=0.9)
        plans = [plan_batches(part, local, np.random.default_rng(i)) for i, part in enumerate(parts)]
        torch.manual_seed(0)
        module = build(options.model, (3, 32, 32), 10)
        data = ResidentData.build(split, parts, NORMALIZATION, device)
        return cls(module.to(device), data, plans, local, Compute(precision))  # type: ignore[arg-type]

    def epoch(self, module: nn.Module, images: Tensor, labels: Tensor, batches: list[Tensor]) -> None:
        """Plain training of a module on float images."""
        optimizer = torch.optim.SGD(module.parameters(), lr=self.local.lr, momentum=self.local.momentum)
        for chosen in batches:
            optimizer.zero_grad()
            with self.compute.autocast(images.device):
                logits = module(images[chosen])
            F.cross_entropy(logits.float(), labels[chosen]).backward()
            optimizer.step()

    def contenders(self) -> tuple[CohortTrainer, dict[str, Callable[[], Tensor]]]:
        """The trainer, and functions that train from the same start and return how the parameters moved."""
        trainer = CohortTrainer(self.module, self.data, engine="loop", compute=self.compute)
        start = trainer.start(self.module)
        raw, labels = self.data.batch(torch.arange(len(self.data.images), device=self.data.device))
        images = raw.contiguous()

        def fedsec() -> Tensor:
            return trainer.train(start, self.plans, self.local).updates.mean(0)

        def plain() -> Tensor:
            total = torch.zeros_like(start.parameters)
            for plan in self.plans:
                module = copy.deepcopy(self.module).train()
                self.epoch(module, images, labels, list(torch.from_numpy(plan.examples).to(images.device)))
                total += torch.cat([p.detach().reshape(-1) for p in module.parameters()]) - start.parameters
            return total / len(self.plans)

        def centralized() -> Tensor:
            module = copy.deepcopy(self.module).train()
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(images.device)
            self.epoch(module, images, labels, list(order.split(CENTRAL_BATCH)))
            return torch.cat([p.detach().reshape(-1) for p in module.parameters()]) - start.parameters

        return trainer, {"fedsec": fedsec, "plain": plain, "centralized": centralized}


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--images", type=int, default=500, help="of each client, a multiple of the batch size")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--precision", nargs="*", default=["tf32", "bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--in-flight", type=int, nargs="*", default=[], help="only fedsec, with so many clients at once"
    )
    options = parser.parse_args()
    if options.images % options.batch:
        parser.error(f"--images {options.images} is no multiple of --batch {options.batch}")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {options.model}, {options.clients} x {options.images} images\n")
    for in_flight in options.in_flight:
        for precision in options.precision:
            alone(Round.make(options, precision), in_flight, options.rounds)
    if options.in_flight:
        return
    columns = ["precision", "fedsec, s", "plain, s", "centralized, s", "plain / fedsec", "fedsec / centralized"]
    columns += ["deviation", "fedsec used"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for precision in options.precision:
        compare(Round.make(options, precision), options.rounds)


def alone(given: Round, in_flight: int, rounds: int) -> None:
    """A line: median seconds of a round with so many clients in flight, and a sum by which bits can be compared."""
    loop_workers.CLIENTS_IN_FLIGHT = in_flight
    with given.compute.arithmetic(given.data.device):
        trainer, contenders = given.contenders()
        total = contenders["fedsec"]().double().sum().item()
        times = []
        for _ in range(rounds):
            wait(given.data.device)
            before = time.perf_counter()
            contenders["fedsec"]()
            wait(given.data.device)
            times.append(time.perf_counter() - before)
    print(
        f"{in_flight} in flight: {statistics.median(times):.2f} s; {trainer.used} {trainer.reason}; {total}", flush=True
    )


def compare(given: Round, rounds: int) -> None:
    """One row: median seconds, their ratios, and how far both models differ, relative to the plain one's way."""
    device = given.data.device
    with given.compute.arithmetic(device):
        trainer, contenders = given.contenders()
        moved = {name: run() for name, run in contenders.items()}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, run in contenders.items():
                wait(device)
                before = time.perf_counter()
                run()
                wait(device)
                times[name].append(time.perf_counter() - before)
    ours, plain, central = (statistics.median(times[name]) for name in ("fedsec", "plain", "centralized"))
    deviation = ((moved["fedsec"] - moved["plain"]).norm() / moved["plain"].norm()).item()
    used = f"{trainer.used} ({trainer.reason})" if trainer.reason else trainer.used
    seconds, ratios = f"{ours:.2f} | {plain:.2f} | {central:.2f}", f"{plain / ours:.2f}x | {ours / central:.2f}x"
    print(f"| {given.compute.precision} | {seconds} | {ratios} | {deviation:.1e} | {used} |", flush=True)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
