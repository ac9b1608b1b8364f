"""Membership inference on models of any origin, in one call."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from fedsec.auditing.rates import check_confidence
from fedsec.data.normalization import Normalization
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import Start
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.membership.blind import blind_auc
from fedsec.membership.report import MembershipReport, judge
from fedsec.membership.shadow_models import balanced_members, finite_models, train_shadow_models
from fedsec.membership.signals import signals_of
from fedsec.plugins import registry
from fedsec.randomness import seeded
from fedsec.seeds import Streams
from fedsec.threat import MembershipInference, MembershipView, ShadowModels

__all__ = ["infer_membership", "made_inferences", "needs_of"]

Examples = tuple[Tensor, Int64[Tensor, "examples"]]
"""Inputs and classes: images as uint8 in 0..255 (divided by 255), or numbers as the model takes them."""


def infer_membership(
    model: nn.Module | Sequence[nn.Module],
    members: Examples,
    nonmembers: Examples,
    *,
    inferences: Sequence[str | MembershipInference] = ("loss_threshold",),
    population: Examples | None = None,
    known: Examples | None = None,
    training: LocalTraining | None = None,
    rounds: int = 1,
    shadow_models: int = 16,
    start: nn.Module | None = None,
    normalization: Normalization | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    threads: int = 1,
) -> MembershipReport:
    """How well an observer of a model, or of its versions over time, tells what it was trained on from what it was not.

    Draw members and non-members at random from one pool before you train: where they differ by themselves, any judge
    tells them apart, and `blind` of the report says so.

    Args:
        model: a classifier; or several, the earliest first, for inferences that watch training.
        members: examples that it was trained on. Everything is computed on the device on which they lie.
        nonmembers: examples of the same distribution that it was not trained on.
        inferences: names (see `fedsec list inferences`) or objects; those of `updates` need a federation, see
            `audit.membership` of a scenario.
        population: further examples that it was surely not trained on, for `rmia`.
        known: examples that it was trained on beside the members, which the observer knows: every shadow model is
            trained on them as well, so that it is like the target.
        training: how shadow models are trained in each round; needed where an inference needs shadow models.
        rounds: how often, with a fresh optimizer each.
        shadow_models: how many, half of them with each example; even.
        start: what the target's training started from, where the observer knows it. By default every shadow model gets
            fresh weights of its own from its layers' `reset_parameters`.
        normalization: of inputs; none by default.
        confidence: of every interval.
        seed: of shadow models.
        threads: that shadow models are trained with.

    Returns:
        Scores, rates with intervals and curves by inference.

    Raises:
        InputError: examples that do not go with the model, or an inference that needs what is not here.
    """
    observed = list(model) if isinstance(model, Sequence) else [model]
    if not observed:
        raise InputError("infer_membership: no model; expected one, or several from the earliest on")
    check_confidence(confidence)
    chosen = made_inferences(inferences)
    needs = needs_of(chosen)
    data, numbers = _resident(members, nonmembers, population, known, normalization or Normalization())
    trainer = CohortTrainer(observed[-1], data, threads=threads)
    candidates = np.concatenate([numbers["members"], numbers["nonmembers"]])
    inputs, labels = data.examples(candidates)
    signals = torch.cat([signals_of(trainer, trainer.start(one), inputs, labels) for one in observed])
    streams, notes = Streams(seed), list[str]()
    view = MembershipView(signals, tuple(range(1, len(observed) + 1)))
    others = None if population is None else data.examples(numbers["population"])
    if others is not None:
        view = replace(view, population=signals_of(trainer, trainer.start(observed[-1]), *others)[-1])
    if "shadow_models" in needs:
        if training is None:
            raise InputError(
                "infer_membership: shadow models are needed; expected training, such as LocalTraining(epochs=20, "
                "batch_size=32, lr=0.1), as the target was trained"
            )
        begin = trainer.start(start) if start is not None else _fresh(trainer, observed[-1], shadow_models, streams)
        inside = balanced_members(shadow_models, len(candidates), streams.numpy("audit", "membership", "halves"))
        rows = train_shadow_models(
            trainer, begin, candidates, inside, training, rounds=rounds, known=numbers["known"], streams=streams
        )
        finite = finite_models(rows)
        if not bool(finite.all()):
            notes.append(f"{int((~finite).sum())} of {shadow_models} shadow models were not finite and are left out")
            rows = Start(rows.parameters[finite], rows.statistics[finite])
        shadows = ShadowModels(
            signals_of(trainer, rows, inputs, labels),
            torch.from_numpy(inside)[finite.cpu()],
            None if others is None else signals_of(trainer, rows, *others),
        )
        view = replace(view, shadows=shadows)
    blind = blind_auc(
        inputs, labels, len(numbers["members"]), streams.numpy("audit", "membership", "blind"), confidence
    )
    rng = streams.numpy("audit", "membership", "order")
    return judge(view, len(numbers["members"]), chosen, blind=blind, rng=rng, confidence=confidence, notes=notes)


def made_inferences(inferences: Sequence[str | MembershipInference]) -> dict[str, MembershipInference]:
    """Membership inferences by name, made where they are named.

    Raises:
        InputError: none, one twice, or what is no membership inference.
    """
    by_name: dict[str, MembershipInference] = {}
    for inference in inferences:
        one = registry.load("inference", inference)() if isinstance(inference, str) else inference
        name = inference if isinstance(inference, str) else type(inference).__name__
        if not isinstance(one, MembershipInference):
            raise InputError(f"infer_membership: {name} is no membership inference; expected one")
        if name in by_name:
            raise InputError(f"infer_membership: {name} stands twice; expected it once")
        by_name[name] = one
    if not by_name:
        raise InputError("infer_membership: no inference; expected at least one, such as loss_threshold")
    return by_name


def needs_of(inferences: Mapping[str, MembershipInference]) -> frozenset[str]:
    """All that some inferences need."""
    return frozenset(need for inference in inferences.values() for need in inference.needs)


def _resident(
    members: Examples,
    nonmembers: Examples,
    population: Examples | None,
    known: Examples | None,
    normalization: Normalization,
) -> tuple[ResidentData, dict[str, np.ndarray]]:
    """All examples as resident data, and the numbers of each group."""
    groups = {"members": members, "nonmembers": nonmembers, "population": population, "known": known}
    numbers, inputs, labels, first = {}, [], [], 0
    for name, examples in groups.items():
        count = 0 if examples is None else len(examples[1])
        numbers[name] = np.arange(first, first + count)
        first += count
        if examples is None:
            continue
        if count < (2 if name in ("members", "nonmembers") else 1) or len(examples[0]) != count:
            raise InputError(
                f"infer_membership: {name} has {len(examples[0])} inputs and {count} classes; expected as many, two or "
                "more"
            )
        if examples[0].dtype != members[0].dtype or examples[0].shape[1:] != members[0].shape[1:]:
            raise InputError(
                f"infer_membership: {name} are {examples[0].dtype} of shape {tuple(examples[0].shape[1:])}; expected "
                f"{members[0].dtype} of shape {tuple(members[0].shape[1:])}, as the members"
            )
        if examples[1].dtype != torch.int64:
            raise InputError(f"infer_membership: {name} have classes as {examples[1].dtype}; expected torch.int64")
        inputs.append(examples[0].to(members[0].device))
        labels.append(examples[1].to(members[0].device))
    targets = torch.cat(labels)
    everything = torch.arange(len(targets), device=targets.device)
    data = ResidentData(torch.cat(inputs), everything, targets, [numbers["members"]], normalization)
    return data, numbers


def _fresh(trainer: CohortTrainer, model: nn.Module, models: int, streams: Streams) -> Start:
    """Weights drawn anew for each shadow model, by its layers' own rules."""
    # Layers draw where their weights lie, and a GPU draws other numbers.
    module, starts = copy.deepcopy(model).cpu(), []
    for name, layer in module.named_modules():
        own = [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]
        if own and not hasattr(layer, "reset_parameters"):
            raise InputError(
                f"infer_membership: layer {name!r} ({type(layer).__name__}) cannot draw new weights; expected start, "
                "the model that training began with"
            )
    for number in range(models):
        with seeded(streams.key("audit", "membership", "init", number), trainer.data.device):
            for layer in module.modules():
                if callable(reset := getattr(layer, "reset_parameters", None)):
                    reset()
        starts.append(trainer.start(module))
    return Start(torch.stack([one.parameters for one in starts]), torch.stack([one.statistics for one in starts]))
