"""Both engines, for every model, optimizer and partition, against each other and against a plain PyTorch loop."""

import copy
import gc
import weakref
from itertools import cycle, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.data.partitions import PARTITIONS
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData, memory
from fedsec.engine.batches import BatchPlan, plan_batches
from fedsec.engine.memory import activation_bytes
from fedsec.engine.stacked import CohortWorker
from fedsec.errors import InputError
from fedsec.models import build

SHAPE, CLASSES = (1, 8, 8), 4
NORMALIZATION = Normalization((0.5,), (0.25,))
OPTIMIZERS = {
    "sgd": LocalTraining(steps=4, batch_size=5, lr=0.1),
    "momentum": LocalTraining(epochs=2, batch_size=5, lr=0.1, momentum=0.9, weight_decay=0.01),
    "fraction": LocalTraining(epochs=1, batch_fraction=0.3, lr=0.1, momentum=0.5),
    "adam": LocalTraining(epochs=2, batch_size=7, optimizer="adam", lr=0.01, weight_decay=0.01),
}


OF_CLASSES = [name for name, kind in PARTITIONS.items() if not (kind.needs_groups or kind.needs_superclasses)]
"""Partitions that need no more than these examples have."""


def split(examples: int = 90) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (examples, *SHAPE), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(examples) % CLASSES)


def resident(partition: str, examples: int = 90, clients: int = 5) -> ResidentData:
    data = split(examples)
    parts = PARTITIONS[partition]()(data.labels.numpy(), clients, num_classes=CLASSES, rng=np.random.default_rng(0))
    return ResidentData.build(data, parts, NORMALIZATION, torch.device("cpu"))


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, SHAPE, CLASSES)


def plans(data: ResidentData, local: LocalTraining) -> list[BatchPlan]:
    return [plan_batches(c, local, np.random.default_rng(i)) for i, c in enumerate(data.clients)]


def plain_pytorch(module: nn.Module, data: ResidentData, plan: BatchPlan, local: LocalTraining) -> Tensor:
    """What anybody would write: one client, torch.optim, float images, no cleverness."""
    module = copy.deepcopy(module)
    before = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
    make = torch.optim.Adam if local.optimizer == "adam" else torch.optim.SGD
    more = {} if local.optimizer == "adam" else {"momentum": local.momentum}
    optimizer = make(module.parameters(), lr=local.lr, weight_decay=local.weight_decay, **more)  # type: ignore[arg-type]
    for step in range(plan.steps):
        chosen = plan.examples[step][: plan.sizes[step]]
        images = (data.images[chosen].double() / 255 - 0.5) / 0.25
        optimizer.zero_grad()
        F.cross_entropy(module(images.float()), data.label_of[chosen]).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()]) - before


TRAINED = product(["logistic", "mlp", "cnn", "lenet"], OPTIMIZERS)


# Every pair of a model and an optimizer, and each partition with several of them.
@pytest.mark.parametrize(
    ("name", "optimizer", "partition"), [(*pair, partition) for pair, partition in zip(TRAINED, cycle(OF_CLASSES))]
)
def test_engines_agree_with_a_plain_loop(name: str, optimizer: str, partition: str) -> None:
    data, module, local = resident(partition), model(name), OPTIMIZERS[optimizer]
    cohort = plans(data, local)
    expected = torch.stack([plain_pytorch(module, data, plan, local) for plan in cohort])
    assert expected.abs().max() > 1e-3
    # Adam divides by the gradient's size, so that a gradient of rounding errors alone moves as far as any other.
    atol = 2e-3 if local.optimizer == "adam" else 2e-5
    for engine in ("loop", "vectorized"):
        trainer = CohortTrainer(module, data, engine=engine)  # type: ignore[arg-type]
        updates = trainer.train(trainer.start(module), cohort, local).updates
        torch.testing.assert_close(updates, expected, rtol=1e-3, atol=atol)


def test_ragged_clients_really_differ() -> None:
    """The agreement above covers clients with other numbers of steps, short last batches, and one example."""
    data = resident("quantity_skew")
    data.clients[2] = data.clients[2][:1]
    cohort = plans(data, OPTIMIZERS["momentum"])
    assert len({plan.steps for plan in cohort}) > 1
    assert any((plan.sizes < plan.examples.shape[1]).any() for plan in cohort)
    module = model("mlp")
    trainers = [CohortTrainer(module, data, engine=e) for e in ("loop", "vectorized")]  # type: ignore[arg-type]
    rows = [trainer.train(trainer.start(module), cohort, OPTIMIZERS["momentum"]).updates for trainer in trainers]
    torch.testing.assert_close(*rows, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("engine", ["loop", "vectorized", "auto"])
def test_chunks_and_threads_change_nothing_beyond_tolerance(engine: str, threads: int) -> None:
    data, module, local = resident("dirichlet", clients=7), model("cnn"), OPTIMIZERS["momentum"]
    cohort = plans(data, local)
    reference = CohortTrainer(module, data, engine="loop")
    start = reference.start(module)
    trainer = CohortTrainer(module, data, engine=engine, threads=threads, memory_gib=0.0002)  # type: ignore[arg-type]
    again = trainer.train(start, cohort, local).updates
    assert torch.equal(again, trainer.train(start, cohort, local).updates)
    torch.testing.assert_close(again, reference.train(start, cohort, local).updates, rtol=1e-3, atol=2e-5)


def test_gradient_is_the_full_batch_gradient_whatever_the_microbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    data, module = resident("iid"), model("cnn")
    trainer = CohortTrainer(module, data, engine="auto", threads=2)
    start = trainer.start(module)
    images, labels = data.batch(torch.from_numpy(data.clients[3]))
    F.cross_entropy(module(images), labels).backward()
    expected = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    for microbatch in (256, 4, 1):
        monkeypatch.setattr("fedsec.engine.loop.MICROBATCH", microbatch)
        rows = trainer.gradients(start, [0, 3]).updates
        torch.testing.assert_close(rows[1], expected, rtol=1e-4, atol=1e-6)


def test_memory_bounds_the_chunk() -> None:
    data, module = resident("iid", clients=9), model("cnn")
    cohort = plans(data, LocalTraining(steps=2, batch_size=5))
    sizes = [CohortTrainer(module, data, memory_gib=gib).chunk_size(cohort) for gib in (1e-6, 0.0005, 0.001, 1.0)]
    assert sizes[0] == 1
    assert sizes[-1] == 9
    assert sizes == sorted(sizes)
    # Who asks for the vectorized engine gets it, with the fewest clients that make a cohort.
    assert CohortTrainer(module, data, engine="vectorized", memory_gib=1e-6).chunk_size(cohort) == 2


class Stubborn(nn.Module):
    """A module that vmap cannot run: its control flow looks at the data."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(images.flatten(1))
        return out * 2 if self.linear.weight.sum() > 0 else out


def test_auto_falls_back_to_the_loop_and_says_why() -> None:
    data = resident("iid")
    trainer = CohortTrainer(Stubborn(), data)
    assert trainer.engine == "loop"
    assert "data-dependent" in trainer.reason
    with pytest.raises(InputError, match="engine: loop"):
        CohortTrainer(Stubborn(), data, engine="vectorized")


def test_a_model_is_measured_where_the_data_are() -> None:
    """Models are built on the CPU; `meta` stands in for a GPU, and refuses a model left behind."""
    there = ResidentData.build(split(), resident("iid").clients, NORMALIZATION, torch.device("meta"))
    kept = 8 * 8 + 16 * 4 * 4 + 32 * 2 * 2  # the image and two layers of feature maps
    assert activation_bytes(model("cnn"), there) == activation_bytes(model("cnn"), resident("iid")) == 4 * kept


class Single(nn.Module):
    """Batch normalization of one value a channel and image."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.norm, self.head = layer, nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(images.flatten(1)))
        return logits


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ["loop", "vectorized", "auto"])
def test_both_engines_refuse_a_batch_that_has_no_variance(engine: str, threads: int) -> None:
    data = resident("iid")
    trainer = CohortTrainer(Single(nn.BatchNorm1d(64)), data, engine=engine, threads=threads)  # type: ignore[arg-type]
    start, fine = trainer.start(trainer.module), LocalTraining(epochs=1, batch_size=9, lr=0.1)
    assert bool(trainer.train(start, plans(data, fine), fine).updates.isfinite().all())
    # Eighteen images in batches of 17 leave one alone, in some clients' last batch.
    lonely = LocalTraining(epochs=1, batch_size=17, lr=0.1)
    with pytest.raises(InputError, match="a batch of 1 has no more in the model's last layers"):
        trainer.train(start, plans(data, lonely), lonely)
    data.clients[0] = data.clients[0][:1]
    with pytest.raises(InputError, match="a batch of 1 has no more"):
        trainer.gradients(start, [0, 1])


def test_layers_that_engines_would_compute_wrongly_are_refused() -> None:
    class Own(nn.BatchNorm1d):
        """Might do anything."""

    for layer, problem in ((nn.BatchNorm1d(64, track_running_stats=False), "keeps no running"), (Own(64), "Own")):
        with pytest.raises(InputError, match=problem):
            CohortTrainer(Single(layer), resident("iid"))


def test_full_batches_need_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data, module = resident("iid", examples=900, clients=2), build("resnet4", SHAPE, CLASSES)
    trainer = CohortTrainer(module, data)
    start, free = trainer.start(module), 450 * activation_bytes(module, data)
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    with pytest.raises(InputError, match="expected a batch size of at most"):
        trainer.gradients(start, [0, 1])
    # Without batch normalization a full batch is taken apart.
    smooth = build("resnet4", SHAPE, CLASSES, norm={"name": "gn", "groups": 2})
    apart = CohortTrainer(smooth, data)
    apart.gradients(apart.start(smooth), [0])


def test_on_a_cpu_batch_normalization_is_not_stacked_unless_asked() -> None:
    data, module, local = resident("iid"), build("resnet4", SHAPE, CLASSES), OPTIMIZERS["sgd"]
    used = {}
    for engine in ("auto", "vectorized"):
        trainer = CohortTrainer(module, data, engine=engine)  # type: ignore[arg-type]
        trainer.train(trainer.start(module), plans(data, local), local)
        used[engine] = trainer.used
    assert used["auto"].startswith("loop")
    assert used["vectorized"].startswith("vectorized")


def test_a_worker_is_gone_with_its_last_reference() -> None:
    worker = CohortWorker(model("mlp"), resident("iid"))
    gone = weakref.ref(worker)
    gc.disable()
    try:
        del worker
        assert gone() is None
    finally:
        gc.enable()


def test_training_leaves_the_thread_count_and_the_callers_module_alone() -> None:
    data, module = resident("iid"), model("mlp")
    before = torch.get_num_threads(), torch.cat([p.detach().flatten() for p in module.parameters()])
    trainer = CohortTrainer(module, data, threads=2)
    trainer.train(trainer.start(module), plans(data, OPTIMIZERS["sgd"]), OPTIMIZERS["sgd"])
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.cat([p.detach().flatten() for p in module.parameters()]), before[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_cuda_agrees_with_cpu(engine: str) -> None:
    local, module = OPTIMIZERS["momentum"], model("cnn")
    data = resident("dirichlet")
    rows = []
    for device in ("cpu", "cuda"):
        there = ResidentData.build(split(), data.clients, NORMALIZATION, torch.device(device))
        trainer = CohortTrainer(module, there, engine=engine)  # type: ignore[arg-type]
        rows.append(trainer.train(trainer.start(module), plans(there, local), local).updates.cpu())
    torch.testing.assert_close(*rows, rtol=1e-2, atol=1e-3)
