"""One round of private local training beside an ordinary one: fedsec in each mode, and plain Opacus.

10 clients of 200 examples x 10 SGD steps (lr 0.01, momentum 0.9) of (expected) batch 20, clipping at 1, noise 1.1; the
CNN and LeNet on 28x28, ResNet-8 with group normalization on 32x32 in color; random images. Rounds of all contenders
take turns in one process, so that whatever else the machine does hits all alike, and each time is divided by that of
the ordinary round of the same turn; the table shows the medians of these ratios. Ordinary training uses the engine that
`auto` picks. Plain Opacus is one PrivacyEngine, model, optimizer and Poisson loader a client, made before the
measurement; a round puts the weights in, goes once through the loader, and reads them out. Run it with

    OMP_NUM_THREADS=1 uv run python benchmarks/dp.py

and see `--help` for more turns, threads, or some models only.
"""

import argparse
import copy
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.models import build
from fedsec.privacy import PrivateTraining
from fedsec.seeds import Streams

CLIENTS, EXAMPLES, STEPS, BATCH, NOISE, NORM = 10, 200, 10, 20, 1.1, 1.0
MODELS = {
    "cnn": ((1, 28, 28), {"activation": "sigmoid"}),
    "lenet": ((1, 28, 28), {}),
    "resnet8": ((3, 32, 32), {"norm": "gn"}),
}
MODES = ("auto", "ghost", "hooks", "functorch", "ew")
LOCAL = LocalTraining(steps=STEPS, batch_size=BATCH, lr=0.01, momentum=0.9)
Round = Callable[[int], str]
"""Plays a round of this number and says how."""


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fedsec_rounds(module: nn.Module, data: ResidentData, threads: int, modes: tuple[str, ...]) -> dict[str, Round]:
    """Ordinary rounds, and private ones in each mode that the model allows."""
    rounds: dict[str, Round] = {}
    kinds = {"ordinary": LOCAL, "ordinary, loop": LOCAL}
    kinds |= {f"private, {mode}": replace(LOCAL, private=PrivateTraining(NOISE, NORM, mode)) for mode in modes}
    for name, local in kinds.items():
        trainer = CohortTrainer(module, data, engine="loop" if "loop" in name else "auto", threads=threads)

        def play(number: int, trainer: CohortTrainer = trainer, local: LocalTraining = local) -> str:
            plans = [plan_client(data, client, local, number, Streams(0)) for client in range(CLIENTS)]
            trainer.train(trainer.start(module), plans, local)
            synchronize(data.device)
            return trainer.used

        rounds[name] = play
    return rounds


def opacus_round(module: nn.Module, data: ResidentData) -> Round:
    """A round as a user of Opacus writes it; on a GPU the loader takes its batches from there."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    clients = []
    for client in range(CLIENTS):
        images, labels = data.batch(torch.from_numpy(data.clients[client]))
        model = copy.deepcopy(module).train()
        made = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=LOCAL.lr, momentum=LOCAL.momentum),
            data_loader=DataLoader(TensorDataset(images, labels), batch_size=BATCH),
            noise_multiplier=NOISE,
            max_grad_norm=NORM,
        )
        clients.append(made)
    weights: list[Tensor] = [each.detach().clone() for each in module.parameters()]

    def play(number: int) -> str:
        for model, optimizer, loader in clients:
            with torch.no_grad():
                for each, start in zip(model.parameters(), weights, strict=True):
                    each.copy_(start)
            optimizer.original_optimizer.state.clear()
            for images, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
            torch.cat([each.detach().flatten() for each in model.parameters()])
        synchronize(data.device)
        return f"PrivacyEngine, {len(loader)} steps"

    return play


def measure(rounds: dict[str, Round], turns: int, warmup: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Milliseconds of each contender by turn, and how each trained."""
    times: dict[str, list[float]] = {name: [] for name in rounds}
    words: dict[str, str] = {}
    for turn in range(warmup + turns):
        for name in list(rounds):
            begin = time.perf_counter()
            try:
                words[name] = rounds[name](turn + 1)
            except InputError as error:
                words[name] = str(error)
                del rounds[name]
                continue
            if turn >= warmup:
                times[name].append(1000 * (time.perf_counter() - begin))
    return times, words


def main() -> None:
    """Take turns and print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="measured rounds of each contender (default 7)")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before them (default 2)")
    parser.add_argument("--threads", type=int, default=1, help="threads of fedsec's trainers (default 1)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default cpu)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    options = parser.parse_args()
    if min(options.turns, options.warmup, options.threads) < 1:
        parser.error("turns, warmup and threads must be at least 1")
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # Opacus's about its random numbers, PyTorch's about its hooks
    print("| model | contender | ms, min | ms, median | times ordinary | how |\n|---|---|---:|---:|---:|---|")
    for name in options.models:
        shape, more = MODELS[name]
        torch.manual_seed(0)
        module = build(name, shape, 10, **more).to(options.device)
        count = CLIENTS * EXAMPLES
        images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
        clients = list(np.arange(count).reshape(CLIENTS, EXAMPLES))
        normalization = Normalization((0.5,) * shape[0], (0.25,) * shape[0])
        split = Split(images, torch.arange(count) % 10)
        data = ResidentData.build(split, clients, normalization, torch.device(options.device))
        rounds = fedsec_rounds(module, data, options.threads, tuple(options.modes))
        rounds["plain Opacus"] = opacus_round(module, data)
        times, words = measure(rounds, options.turns, options.warmup)
        for contender, found in times.items():
            if not found:
                print(f"| {name} | {contender} | | | | not measured: {words[contender]} |")
                continue
            ratio = statistics.median(a / b for a, b in zip(found, times["ordinary"], strict=True))
            numbers = f"{min(found):.0f} | {statistics.median(found):.0f} | {ratio:.2f}"
            print(f"| {name} | {contender} | {numbers} | {words[contender]} |", flush=True)
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "opacus"))
    where = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    print(f"\n{options.turns} turns after {options.warmup} to warm up; {options.threads} threads; {packages}; ", end="")
    print(f"Python {platform.python_version()}, {where}.")


if __name__ == "__main__":
    main()
