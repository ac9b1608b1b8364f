"""What clients' first networks tell of their classes, and the superclients that are made by it.

Each client trains the federation's network for itself, from the same initial weights, and a server sees what it became,
by its last layer or by how sure it is of images that the server has. **So it learns each client's mix of classes**: how
well is a number of the result, beside what who assumes even mixes would miss.

The authors train a LeNet of its own for that; here it is the federation's network, with the federation's local training
for `epochs` passes. Their exemplars are taken out of the test set; here they stay in it, since nothing is trained on
them. Byzantine clients that corrupt their data do so before they train, and are grouped by what they corrupted.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.engine.messages import Start
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.sequential.fedseq import FedSeq
from fedsec.federation.algorithms.sequential.grouping import Grouping, divergence_from_uniform, groups_of
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.metrics.evaluation import outputs_of

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation

__all__ = ["grouped"]

_AT_ONCE = 32
"""Clients whose networks are in memory at a time."""


def grouped(federation: "Federation", algorithm: UpdateAlgorithm) -> UpdateAlgorithm:
    """The algorithm with superclients made by what is known of clients, where it asks for that; else as it is.

    Args:
        federation: with poisoned data, before its first round.
        algorithm: as it runs in that federation.

    Raises:
        InputError: the network has no last layer with a row for each class.
    """
    if not isinstance(algorithm, FedSeq) or algorithm.grouping is None:
        return algorithm
    grouping, clients = algorithm.grouping, range(federation.num_clients)
    num_classes = federation.num_classes or 1
    federation.data.poison_only(federation.threat.in_round(1))
    sizes = federation.data.sizes(clients)
    mixes = np.stack([_mix(federation.data.client_examples(client)[1], num_classes) for client in clients])
    if grouping.name == "random":
        return algorithm.with_groups(algorithm.superclients.members, _report(algorithm, mixes, sizes))
    estimates = _estimates(federation, algorithm, grouping)
    points = estimates if grouping.estimate == "confidence" else _components(estimates, grouping.variance)
    seed = federation.streams.seed("fedseq", "kmeans") % 2**31
    groups = groups_of(grouping, points, sizes.tolist(), algorithm.superclient, seed)
    algorithm = algorithm.with_groups(groups, {})
    report = _report(algorithm, mixes, sizes)
    if grouping.estimate == "confidence":
        report["estimates_apart"] = _rounded(np.abs(estimates - mixes).sum(1).mean() / 2)
        report["even_mixes_apart"] = _rounded(np.abs(1 / mixes.shape[1] - mixes).sum(1).mean() / 2)
    return algorithm.with_groups(groups, report)


def _estimates(federation: "Federation", algorithm: FedSeq, grouping: Grouping) -> Float64[np.ndarray, "clients f"]:
    """What each client's own network is known by."""
    trainer, streams = federation.trainer, federation.streams.branch("fedseq", "pretraining")
    local = replace(algorithm.local.in_round(1), epochs=grouping.epochs, steps=None)
    start, rows = trainer.start(federation.module), list[np.ndarray]()
    images, labels = _exemplars(federation, grouping.exemplars)
    for first in range(0, federation.num_clients, _AT_ONCE):
        clients = range(first, min(first + _AT_ONCE, federation.num_clients))
        plans = [plan_client(federation.data, client, local, 1, streams) for client in clients]
        trained = trainer.train(Start(start.parameters, start.statistics), plans, local)
        for place, update in enumerate(trained.updates):
            trainer.layout.load(federation.module, start.parameters + update)
            if grouping.estimate == "classifier":
                rows.append(_classifier(federation))
                continue
            trainer.statistics.load(federation.module, trained.statistics[place])
            outputs = outputs_of(federation.module, images, trainer.data.normalization, compute=trainer.compute)
            rows.append(confidences(outputs, labels, federation.num_classes or 1))
    trainer.layout.load(federation.module, start.parameters)
    trainer.statistics.load(federation.module, start.statistics)
    return np.stack(rows)


def confidences(outputs: Tensor, labels: Tensor, num_classes: int) -> Float64[np.ndarray, "classes"]:
    """How sure a network is of exemplars of each class: the softmax at their labels, summed by class, of sum one.

    Args:
        outputs: [exemplars, classes].
        labels: of the exemplars.
        num_classes: how many.
    """
    sure = outputs.double().softmax(1).gather(1, labels[:, None]).squeeze(1)
    by_class = torch.zeros(num_classes, dtype=torch.float64, device=sure.device).index_add_(0, labels, sure)
    total = float(by_class.sum())
    if not total > 0:  # diverged: nothing is known of it
        return np.full(num_classes, 1 / num_classes)
    return np.asarray((by_class / total).cpu().numpy(), np.float64)


def _exemplars(federation: "Federation", count: int) -> tuple[Tensor, Tensor]:
    """The first images of each class in the server's test set: so many of each class that has as many."""
    images, targets = federation.evaluator.images, federation.evaluator.targets
    places = torch.cat([(targets == one).nonzero().flatten()[:count] for one in range(federation.num_classes or 0)])
    return images[places], targets[places]


def _classifier(federation: "Federation") -> Float64[np.ndarray, "weights"]:
    """The weights of the last layer that has a row for each class."""
    matrices = [value for value in federation.module.parameters() if value.ndim == 2]
    if not matrices or len(matrices[-1]) != federation.num_classes:
        raise InputError(
            "federation.grouping: this network has no last layer with a row of weights for each class; expected "
            "estimate: confidence"
        )
    return np.asarray(matrices[-1].detach().double().flatten().cpu().numpy(), np.float64)


def _components(rows: Float64[np.ndarray, "clients f"], variance: float) -> Float64[np.ndarray, "clients components"]:
    """The principal components that have so much of the variance, the largest first; of networks that diverged none."""
    rows = np.where(np.isfinite(rows).all(1, keepdims=True), rows, 0)
    left, lengths, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    shares = np.cumsum(lengths**2) / max(float((lengths**2).sum()), np.finfo(np.float64).tiny)
    count = int(np.searchsorted(shares, variance - 1e-12)) + 1
    return np.asarray((left * lengths)[:, :count], np.float64)


def _mix(labels: Tensor, num_classes: int) -> Float64[np.ndarray, "classes"]:
    counts = labels.flatten().bincount(minlength=num_classes).double()
    return np.asarray((counts / counts.sum()).cpu().numpy(), np.float64)


def _report(algorithm: FedSeq, mixes: Float64[np.ndarray, "clients c"], sizes: np.ndarray) -> dict[str, float]:
    """How far from even the mixes of clients and of superclients are, in nats, on average."""
    members = algorithm.superclients.members
    together = [np.average(mixes[list(group)], axis=0, weights=sizes[list(group)]) for group in members]
    return {
        "clients_from_even": _rounded(np.mean([divergence_from_uniform(mix) for mix in mixes])),
        "superclients_from_even": _rounded(np.mean([divergence_from_uniform(mix) for mix in together])),
    }


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
