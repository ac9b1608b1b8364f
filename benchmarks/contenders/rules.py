"""The rules that `aggregators.py` compares: fedsec's, ByzFL's where it has them, and what a mixture comes before."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Any

import byzfl
import torch
from torch import Tensor

from fedsec.defense import Aggregator, Pipeline
from fedsec.defense.kernels import prepare
from fedsec.defenses import (
    ARC,
    CAF,
    CGE,
    FLAME,
    GAS,
    LASA,
    MDA,
    NNM,
    RFLBAT,
    RLR,
    SMEA,
    Bucketing,
    Bulyan,
    CenteredClipping,
    DnC,
    FLDetector,
    FLTrust,
    FoolsGold,
    FoundationFL,
    GeometricMedian,
    Krum,
    Meamed,
    Mean,
    Median,
    MoNNA,
    MultiKrum,
    NormBound,
    SignGuard,
    SignMajority,
    TrimmedMean,
)

Call = Callable[[Tensor], Any]
_MANY_SUBSETS = 200_000


@dataclass(frozen=True)
class Contest:
    """One rule.

    Attributes:
        own: fedsec's, called with a matrix.
        peer: ByzFL's; None where it has none, or would take far too long.
        alone: for a rule after a pre-aggregator, the name of the rule alone.
    """

    own: Call
    peer: Call | None = None
    alone: str = ""


def contests(clients: int, parameters: int) -> dict[str, Contest]:
    """All rules by name, set up for a fifth of the clients as Byzantine."""
    f = clients // 5
    few, quarter = max(1, min(f, 2)), (clients - 3) // 4
    subsets = comb(clients, f) <= _MANY_SUBSETS
    rules: dict[str, Contest] = {
        "mean": Contest(Mean(), byzfl.Average()),
        "median": Contest(Median(), byzfl.Median()),
        "median, compiled": Contest(_compiled(Median(compile=True), clients, (clients - 1) // 2)),
        "weighted median": Contest(_weighted(Median(weighted=True), clients), alone="median"),
        "trimmed mean": Contest(TrimmedMean(num_trimmed_per_side=f), byzfl.TrMean(f)),
        "trimmed mean, compiled": Contest(_compiled(TrimmedMean(num_trimmed_per_side=f, compile=True), clients, f)),
        "meamed": Contest(Meamed(f), byzfl.Meamed(f)),
        "sign majority": Contest(SignMajority()),
        "rlr": Contest(RLR(threshold=clients - 2 * f)),
        "krum": Contest(Krum(f), byzfl.Krum(f)),
        "multi-krum": Contest(MultiKrum(f), byzfl.MultiKrum(f)),
        "geometric median": Contest(GeometricMedian(), byzfl.GeometricMedian()),
        "weighted geometric median": Contest(
            _weighted(GeometricMedian(weighted=True), clients), alone="geometric median"
        ),
        "centered clipping": Contest(CenteredClipping(radius=100.0), byzfl.CenteredClipping()),
        "mda, f = 2": Contest(MDA(few), byzfl.MDA(few)),
        "mda": Contest(MDA(f), byzfl.MDA(f) if subsets else None),
        "smea, f = 2": Contest(SMEA(few), byzfl.SMEA(few) if clients <= 20 else None),
        "monna": Contest(MoNNA(f, trusted=0), byzfl.MoNNA(f)),
        "caf": Contest(CAF(f), byzfl.CAF(f)),
        "cge": Contest(CGE(f)),
        "bulyan": Contest(Bulyan(quarter)),
        "dnc": Contest(_drawing(DnC(f))),
        "foolsgold": Contest(FoolsGold()),
        "norm bound": Contest(NormBound("median")),
        "fltrust": Contest(lambda matrix: FLTrust()(matrix, server_update=matrix[:2].mean(0))),
        "flame": Contest(_drawing(FLAME())),
        "signguard": Contest(_drawing(SignGuard())),
        "fldetector": Contest(_drawing(FLDetector())),
        "rflbat": Contest(_drawing(RFLBAT())),
        "lasa": Contest(lambda matrix: LASA()(matrix, shapes={"update": (parameters,)})),
        "gas, krum": Contest(_drawing(GAS(Krum(f), num_byzantine=f)), alone="krum"),
        "foundationfl, trimmed mean": Contest(
            Pipeline([FoundationFL(), TrimmedMean(num_trimmed_per_side=f)]), alone="trimmed mean"
        ),
        "bucketing, krum": Contest(_drawing(Pipeline([Bucketing(2), Krum(min(f, clients // 4 - 2))])), alone="krum"),
    }
    after: dict[str, Aggregator] = {
        "krum": Krum(f),
        "geometric median": GeometricMedian(),
        "caf": CAF(f),
        "mean": Mean(),
        "median": Median(),
        "trimmed mean": TrimmedMean(num_trimmed_per_side=f),
    }
    for name, rule in after.items():
        peer = rules[name].peer
        mixed = None if peer is None else _after(byzfl.NNM(f), peer)
        rules[f"nnm, {name}"] = Contest(Pipeline([NNM(f), rule]), mixed, alone=name)
    rules["arc, geometric median"] = Contest(Pipeline([ARC(f), GeometricMedian()]), alone="geometric median")
    return rules


def _compiled(rule: Aggregator, clients: int, trim: int) -> Call:
    """With its kernel built when it is first called, which is not measured, instead of in the background."""
    ready = cache(prepare)

    def call(matrix: Tensor) -> Tensor:
        ready(clients, trim)
        return rule(matrix)

    return call


def _weighted(rule: Aggregator, clients: int) -> Call:
    """With unequal weights: without, it would be the plain rule."""
    weights = torch.linspace(1, 2, clients)
    return lambda matrix: rule(matrix, weights)


def _drawing(rule: Aggregator) -> Call:
    """With a generator, the same at each call."""
    return lambda matrix: rule(matrix, generator=torch.Generator().manual_seed(0))


def _after(mix: Call, rule: Call) -> Call:
    return lambda matrix: rule(mix(matrix))
