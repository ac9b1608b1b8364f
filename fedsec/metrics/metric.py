"""The one table of what is measured: everything that prints, marks, exports or judges a number reads it here.

A new metric is one row of `METRICS`; tables, pictures, files of numbers and expectations need nothing else. What an
installed package measures has no row here: its class brings one, see `fedsec.metrics.measure`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedsec.metrics.description import SIZES, Better, Metric, Scale, Source, scaled

__all__ = ["METRICS", "SIZES", "Better", "Metric", "Scale", "Source", "described", "of_source", "scaled"]

ACCURACY = Metric("accuracy", "share of test examples classified correctly", "higher", scale="fraction")
_SQUARED_ERROR = Metric("mean_squared_error", "mean squared error of a number that is predicted", "lower", low=0.0)


def _cost(name: str, header: str, about: str, scale: Scale) -> Metric:
    missing = "centralized training has no clients"
    return Metric(name, about, "lower", "cost", scale, low=0.0, header=header, by_chance=False, missing=missing)


def _epsilon(name: str, unit: str, about: str, defense: str) -> Metric:
    missing = f"nothing claims privacy of one {unit} without {defense}"
    row = Metric(name, about, "lower", "privacy", "significant", low=0.0, missing=missing)
    return replace(row, header=f"epsilon ({unit})", by_chance=False, protects=unit)


def _audited(unit: str, name: str, *, gaussian: bool = False) -> Metric:
    about = f"lower bound of epsilon ({unit}) by canaries, "
    about += "if the mechanism is a Gaussian one" if gaussian else "whatever the mechanism"
    missing = f"only audit.canaries of unit {unit} bound it"
    row = Metric(name, about, "lower", "audit", "significant", low=0.0, missing=missing)
    return replace(row, header=f"audited{', Gaussian' if gaussian else ''} ({unit})")


def _count(name: str, about: str, better: Better = "neither", source: Source = "robustness", **more: Any) -> Metric:
    return Metric(name, about, better, source, "count", low=0.0, **more)


def _membership(name: str, header: str, about: str, scale: Scale = "fraction") -> Metric:
    about = f"{about}, of the first inference that the scenario names"
    missing = "nobody audits membership, or there were too few non-members to count so small a rate"
    return Metric(name, about, "lower", "audit", scale, low=0.0, high=1.0, header=header, missing=missing)


def _detection(name: str, header: str, about: str) -> Metric:
    missing = "its rule does not say whom it leaves out, or there was nobody to find"
    return Metric(name, about, "higher", "detection", "fraction", header=header, missing=missing)


def _property(name: str, header: str, about: str, better: Better = "higher", **more: Any) -> Metric:
    missing = "only cells with audit.properties ask what updates say of their clients"
    return Metric(name, about, better, "audit", header=header, missing=missing, **more)


def _chance(name: str, about: str) -> Metric:
    return _property(name, "", about, "neither", scale="fraction")


def _p_value(name: str, header: str, of: str) -> Metric:
    return _property(name, header, f"p-value of {of} by permutation", "lower", low=0.0, high=1.0)


_SITE, _MIX = "site_identification", "class_mix_distance"
_IDENTIFIED = "share of updates of which the server tells the client from the updates of other rounds"
_APART = "total variation between a client's true shares of classes and those read off its updates"
_ABOUT_CLIENTS = (
    _property(_SITE, "site found (chance) (%)", _IDENTIFIED, scale="fraction", baseline=f"{_SITE}_chance"),
    _chance(f"{_SITE}_chance", "share that guessing among a round's clients finds"),
    _p_value(f"{_SITE}_p", "site p", _SITE),
    _property(_MIX, "class mix off by (guess) (%)", _APART, "lower", scale="fraction", baseline=f"{_MIX}_guess"),
    _chance(f"{_MIX}_guess", "total variation between a client's shares of classes and the federation's"),
    _p_value("class_mix_p", "class mix p", _MIX),
)


def _leak(name: str, header: str, about: str, scale: Scale = "number", better: Better = "lower") -> Metric:
    missing = "only cells with audit.labels ask for labels at the cut of a network"
    row = Metric(f"label_leak_{name}", about, better, "audit", scale, low=0.0, high=1.0, missing=missing)
    return replace(row, header=header, baseline=_BESIDE.get(name) if header else None)


_BESIDE = {"auc": "label_leak_auc_blind", "accuracy": "label_leak_accuracy_blind"}
_ABOUT_LABELS = (
    _leak("auc", "label AUC (blind)", "share of pairs that a party without labels orders by class, first inference"),
    _leak("auc_blind", "", "the same from activations before training: what it knows by itself", better="neither"),
    _leak(
        "accuracy", "labels told (guess) (%)", "share of labels that such a party tells, of many classes", "fraction"
    ),
    _leak("accuracy_blind", "", "the same from activations before training", "fraction", "neither"),
)
_OF_ALL = "share of the images of all clients whose sum a malicious server saw that it recovered"
_SUMS = "only a malicious server beside secure_aggregation reads the sum of a group"
_MORE_OFTEN = "rounds in which a Byzantine client took part for each round of an honest one"
_CHOSEN = "only where federation.selection or speed decides who takes part, and some are Byzantine"
_NEIGHBORS = "only clients that exchange models with their neighbors (decentralized) have one"
_APART_BY = "how far honest clients' models are from their mean: the root of the mean squared distance"
_OF_GOSSIP = (
    replace(
        Metric("consensus_distance", _APART_BY, "lower", scale="significant", low=0.0, missing=_NEIGHBORS),
        header="consensus distance",
    ),
    Metric(
        "spectral_gap",
        "one less the second largest modulus of the mixing matrix's eigenvalues: a property of the graph",
        scale="significant",
        low=0.0,
        high=1.0,
        missing=_NEIGHBORS,
    ),
)
_PSNR = Metric("psnr", "peak signal-to-noise ratio of reconstructions", "higher", "inversion", digits=1, unit="dB")
_NULL = "of texts whose tokens are drawn one by one"
TEXTS: tuple[tuple[str, str, Better, str, str | None], ...] = (
    (
        "token_set",
        "the batch's tokens that were told, over all that are in either set",
        "higher",
        "tokens, null (%)",
        "token_set_null",
    ),
    ("token_accuracy", "share of places with the right token", "higher", "places, null (%)", "token_accuracy_null"),
    ("exact_match", "share of texts recovered to the last token", "higher", "texts (%)", None),
    ("rouge_1", "F1 of tokens", "higher", "ROUGE-1, null (%)", "rouge_1_null"),
    ("rouge_2", "F1 of pairs of neighbors", "higher", "ROUGE-2, null (%)", "rouge_2_null"),
    ("rouge_l", "F1 of the longest common subsequence", "higher", "ROUGE-L, null (%)", "rouge_l_null"),
    *(
        (f"{name}_null", f"{name} {_NULL}", "neither", "", None)
        for name in ("token_set", "token_accuracy", "rouge_1", "rouge_2")
    ),
    ("rouge_l_null", f"rouge_l {_NULL}", "neither", "", None),
)
"""Rows of what an inversion of texts recovers: name, what it is, direction, header and null baseline."""
_SSIM = Metric("ssim", "structural similarity of reconstructions", "higher", "inversion", low=-1.0, high=1.0)
_ROWS = (
    ACCURACY,
    ACCURACY.worst_of_last,
    ACCURACY.worst_client,
    *ACCURACY.over_clients,
    Metric("loss", "mean loss of a test example", "lower", low=0.0),
    _SQUARED_ERROR,
    _SQUARED_ERROR.worst_of_last,
    _SQUARED_ERROR.worst_client,
    *_SQUARED_ERROR.over_clients,
    Metric("mean_absolute_error", "mean absolute error of a number that is predicted", "lower", low=0.0),
    *_OF_GOSSIP,
    Metric("perplexity", "e to the mean cross-entropy of a next token", "lower", scale="significant", low=1.0),
    Metric(
        "attack_success_rate",
        "share of the attacker's own test examples that get the answer the attacker wants",
        "lower",
        "probe",
        "fraction",
        header="attack success (%)",
        missing="only an attack with an aim of its own brings a test of it",
    ),
    Metric(
        "attack_success_rate_at_until",
        "attack_success_rate after the last round with attackers; beside it what is left of it in the end",
        "lower",
        "probe",
        "fraction",
        header="when they left (%)",
        missing="the attackers stay to the end, or bring no test",
    ),
    Metric(
        "backdoor_lifespan",
        "rounds after the attackers left until attack_success_rate fell below one half, or until the end",
        "lower",
        "probe",
        "count",
        low=0.0,
        header="lifespan (rounds)",
        missing="the attackers stay to the end, or bring no test",
    ),
    _epsilon("epsilon", "example", "the largest that any client's examples have spent", "dp_sgd"),
    _epsilon("user_epsilon", "client", "what released models have spent of every client's privacy", "dp_fedavg"),
    _audited("example", "epsilon_lower"),
    _audited("example", "epsilon_lower_gaussian", gaussian=True),
    _audited("client", "user_epsilon_lower"),
    _audited("client", "user_epsilon_lower_gaussian", gaussian=True),
    Metric("byzantine_influence", "share of Byzantine clients in the aggregate", "lower", "robustness", "fraction"),
    Metric(
        "accuracy_worst_class_mix",
        "accuracy of the global model for the honest client that it serves worst: the classes' recalls, weighted by "
        "that client's own shares of the classes",
        "higher",
        scale="fraction",
        header="worst class mix (%)",
        missing="only classifiers of one global model have one",
    ),
    _detection("detection_precision", "precision (%)", "share of Byzantine clients among those left out"),
    _detection("detection_recall", "recall (%)", "share of Byzantine clients' updates that were left out"),
    replace(
        _detection("honest_excluded", "honest left out (%)", "share of honest clients' updates that were left out"),
        better="lower",
    ),
    Metric(
        "models_refused",
        "share of the models that an honest server sent on which honest clients would not train",
        "lower",
        "robustness",
        "fraction",
        header="models refused (%)",
        missing="clients train on what they get without inspect_model",
    ),
    Metric(
        "crafted_models_refused",
        "share of the models that a malicious server made on which its victim would not train",
        "higher",
        "robustness",
        "fraction",
        header="crafted models refused (%)",
        missing="there is no malicious server, or clients train on what they get without inspect_model",
    ),
    _count(
        "rounds_with_broken_condition",
        "rounds with too few clients for the rule, which were skipped or in which it was relaxed",
        "lower",
    ),
    _count(
        "rounds_with_too_many_byzantine",
        "rounds with more Byzantine clients than the rule withstands of so many",
        "lower",
    ),
    replace(
        Metric("aggregation_seconds", "mean time that the server took to aggregate a round", "lower", "time"),
        scale="significant",
        low=0.0,
        unit="s",
        header="aggregation (s)",
        missing="nothing is aggregated",
    ),
    replace(_count("byzantine_participation", _MORE_OFTEN, "lower"), scale="significant", missing=_CHOSEN),
    replace(
        Metric("simulated_seconds", "when the last round ended by the simulated clock", "lower", "cost", unit="s"),
        scale="significant",
        low=0.0,
        missing="only async simulates a clock",
    ),
    _count("rejected_updates", "updates thrown away since they were not finite"),
    _count("rounds_with_byzantine_majority", "rounds in which at least half of the clients were Byzantine", "lower"),
    _count("diverged_in_round", "the first round whose model was no longer finite", missing="the model stayed finite"),
    _cost("upload_bytes", "upload", "sent by one client in one round", "bytes"),
    _cost("download_bytes", "download", "received by one client in one round", "bytes"),
    _cost("edge_flops", "FLOPs", "floating-point operations of one client's training in one round", "operations"),
    Metric(
        "attacker_flops",
        "floating-point operations of one attacker for its attack in one round, beside edge_flops of honest training",
        source="effort",
        scale="operations",
        low=0.0,
        header="attacker FLOPs",
        by_chance=False,
        missing="the attack trains nothing and costs no more than honest training",
    ),
    replace(_PSNR, header="PSNR (gray)", baseline="psnr_gray"),
    replace(_SSIM, header="SSIM (gray)", baseline="ssim_gray"),
    Metric("lpips", "perceptual distance of reconstructions", "lower", "inversion", low=0.0, header="LPIPS"),
    Metric("mse", "mean squared error", "lower", "inversion", low=0.0, header="MSE", also="evaluation"),
    replace(_PSNR, name="psnr_gray", about="PSNR of a gray image", better="neither"),
    replace(_SSIM, name="ssim_gray", about="SSIM of a gray image", better="neither"),
    *(
        replace(
            row,
            name=f"{row.name}_mean_image",
            about=f"{what} of the mean of the images that a hijacking server has",
            better="neither",
            missing="only a server that trains on images of its own has a mean image",
        )
        for row, what in ((_PSNR, "PSNR"), (_SSIM, "SSIM"))
    ),
    Metric(
        "label_accuracy", "share of labels found, in any order", "higher", "inversion", "fraction", header="labels (%)"
    ),
    *(
        Metric(name, about, better, "inversion", "fraction", header=header, baseline=baseline)
        for name, about, better, header, baseline in TEXTS
    ),
    Metric("recovered", "share of images recovered", "higher", "inversion", "fraction", header="recovered (%)"),
    replace(
        _membership("membership_auc", "membership AUC (blind)", "share of pairs whose member scores higher", "number"),
        baseline="membership_auc_blind",
    ),
    Metric(
        "membership_auc_blind",
        "the same of a judge that sees no model: above 0.5, members and non-members differ by themselves",
        "neither",
        "audit",
        low=0.0,
        high=1.0,
        missing="nobody audits membership",
    ),
    _membership("membership_tpr_at_1pct_fpr", "members found at 1% FPR (%)", "share of members found at 1% FPR"),
    _membership("membership_tpr_at_01pct_fpr", "members found at 0.1% FPR (%)", "share of members found at 0.1% FPR"),
    *_ABOUT_CLIENTS,
    *_ABOUT_LABELS,
    Metric("group_recovered", _OF_ALL, "higher", "observation", "fraction", header="of the group (%)", missing=_SUMS),
    _count("rounds_reconstructed", "rounds that were reconstructed", source="observation"),
)

METRICS: Mapping[str, Metric] = {row.name: row for row in _ROWS}
"""Name -> metric, in the order that lists of metrics have. Bytes and operations are means over clients and rounds; the
direction of what an inversion reconstructed is the attacker's: closer to the original."""


def described(name: str, own: Mapping[str, Metric] | None = None) -> Metric:
    """What is known of a metric.

    Args:
        name: of the metric.
        own: metrics that have no row here, by name, as installed packages bring them.

    Returns:
        Its row; for the worst value of another metric that one's; for a name that nobody described a number without
        direction or bounds.
    """
    known = {**(own or {}), **METRICS}
    if name not in known:
        bases = [*known.values()]
        known |= {
            row.name: row for base in bases for row in (base.worst_of_last, base.worst_client, *base.over_clients)
        }
    return known.get(name) or Metric(name, name)


def of_source(*sources: Source) -> tuple[str, ...]:
    """The names of all metrics that somebody measures, in the table's order."""
    return tuple(name for name, row in METRICS.items() if row.source in sources)
