"""One row for each attack, inversion, inference and defense; every row gets every check that its kind has.

A new one is one file, one entry in `ATTACKS`, `INVERSIONS`, `INFERENCES` or `DEFENSES`, and one row here.
"""

from typing import Any

import pytest
import torch
from torch import nn

from fedsec.attacks import ATTACKS, INFERENCES, INVERSIONS
from fedsec.defense import RuleWrapper
from fedsec.defenses import DEFENSES, Median
from fedsec.errors import InputError
from fedsec.models import build
from fedsec.testing import check_attack, check_defense
from fedsec.threat import FeatureInversion, HijackingServer
from fedsec.threat.texts import TextInversion


def victim(name: str | None) -> nn.Module | None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return None if name is None else build(name, (1, 16, 16), 10)


# name, options, what the check needs to know about it
ATTACK_ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("label_flip", {}, {}),
    ("label_flip", {"mode": "pair", "source": 1, "target": 7}, {}),
    ("label_flip", {"mode": "random"}, {}),
    ("label_flip", {"mode": "all_to_one", "target": 1, "spared": 2}, {}),
    ("label_flip", {"mode": "shift", "flipped_fraction": 0.5}, {}),
    ("target_shift", {}, {"num_classes": None}),
    ("noise_inputs", {}, {"changes_images": True}),
    ("noise_inputs", {"std": 5.0}, {"changes_images": True, "num_classes": None}),
    ("backdoor", {}, {"changes_images": True}),
    ("backdoor", {"pattern": "blended", "target": 9, "boost": 10.0}, {"changes_images": True}),
    ("dba", {"length": 2}, {"changes_images": True}),
    ("dba", {"length": 2, "parts": 3, "boost": 4.0}, {"changes_images": True}),
    ("edge_case", {"source": 1, "target": 2, "boost": 2.0}, {}),
    ("edge_case", {"source": 1, "target": 2, "feature": "green"}, {}),
    ("model_replacement", {}, {"changes_images": True}),
    (
        "model_replacement",
        {"stealth": 0.5, "max_norm": 1.0},
        {"changes_images": True, "positively_homogeneous": False},
    ),
    ("neurotoxin", {"avoided_fraction": 0.5}, {"changes_images": True, "positively_homogeneous": False}),
    ("alternating_minimization", {}, {"positively_homogeneous": False}),
    ("alternating_minimization", {"boost": 3.0, "rho": 0.1}, {"positively_homogeneous": False}),
    ("a3fl", {"trigger_steps": 3}, {"positively_homogeneous": False}),
    ("a3fl", {"trigger_steps": 2, "unlearning": 0.0}, {"positively_homogeneous": False}),
    ("sign_flip", {}, {}),
    ("sign_flip", {"scale": 10.0}, {}),
    ("bit_flip", {}, {}),
    ("bit_flip", {"bits": [22, 30, 31, 32]}, {"positively_homogeneous": False}),
    ("gaussian", {}, {"positively_homogeneous": False}),
    ("gaussian", {"std": 0.0, "mean": 3.0, "added": True, "colluding": True}, {"positively_homogeneous": False}),
    ("zero", {}, {}),
    ("free_rider", {}, {"positively_homogeneous": False}),
    ("free_rider", {"mode": "disguise", "std": 0.1, "decay": 0.0}, {"positively_homogeneous": False}),
    ("infinity", {}, {}),
    ("infinity", {"num_values": 3}, {}),
    ("nan", {}, {}),
    ("nan", {"num_values": 1}, {}),
    ("alie", {}, {}),
    ("alie", {"z": "v1", "knowledge": "own"}, {}),
    ("alie", {"z": "auto"}, {}),
    ("alie", {"z": -1.5}, {}),
    ("ipm", {}, {}),
    ("ipm", {"epsilon": 10.0, "knowledge": "own"}, {}),
    ("ipm", {"scatter": 0.5}, {}),
    ("mimic", {}, {}),
    ("mimic", {"warmup": 1}, {}),
    ("min_max", {}, {}),
    ("min_max", {"direction": "unit"}, {}),
    ("min_max", {"direction": "sign", "knowledge": "own"}, {}),
    ("min_sum", {}, {}),
    ("min_sum", {"direction": "unit", "knowledge": "own"}, {}),
    ("min_sum", {"direction": "sign"}, {}),
    ("fang", {}, {}),
    ("fang", {"target": "median", "knowledge": "own"}, {}),
    ("fang", {"target": "krum"}, {}),
    ("fang", {"target": "krum", "knowledge": "own", "epsilon": 0.0}, {}),
    ("rop", {}, {}),
    ("rop", {"relative": False, "angle": 45.0, "relocation": 0.5}, {"positively_homogeneous": False}),
    ("rop", {"knowledge": "own"}, {}),
    ("sparse", {}, {}),
    ("sparse", {"density": 0.5, "z": 0.3, "knowledge": "own"}, {}),
    ("adaptive", {}, {}),
    ("adaptive", {"knowledge": "own", "directions": ["mean", "std"], "layout": "equal"}, {}),
    ("adaptive", {"objective": "opposition"}, {}),
    ("auto", {}, {}),
    ("auto", {"knowledge": "own", "objective": "opposition", "attacks": ["alie", "min_sum"]}, {}),
    ("feature_poison", {}, {"changes": ("features",)}),
    ("feature_poison", {"mode": "shuffle"}, {"changes": ("features",)}),
    ("feature_poison", {"mode": "scale"}, {"changes": ("features",)}),
    ("feature_poison", {"mode": "scale", "scale": -1.0}, {"changes": ("features",)}),
    ("gradient_replacement", {"target": 1}, {}),
    ("logit_poison", {}, {"changes": ("logits",)}),
    ("logit_poison", {"mode": "negate", "scale": 3.0}, {"changes": ("logits",)}),
    ("logit_poison", {"mode": "confident"}, {"changes": ("logits",)}),
]
INVERSION_ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("token_rows", {}, {"reads_texts": False}),
    ("dager", {}, {}),
    ("dlg", {"iterations": 30}, {"labels_granted": False}),
    ("dlg", {"iterations": 30, "restarts": 2}, {}),
    ("dlg", {"iterations": 3, "variant": "published"}, {"gain": None}),
    ("idlg", {"iterations": 30}, {"labels_granted": False}),
    ("inverting_gradients", {"iterations": 400}, {"labels_granted": False}),
    ("inverting_gradients", {"iterations": 40, "restarts": 3, "at_once": 1, "plateau": 10}, {"gain": None}),
    ("grad_inversion", {"iterations": 200, "restarts": 2}, {"labels_granted": False}),
    ("analytic", {}, {"model": "mlp"}),
    ("labels", {}, {"batch_size": 3, "labels_granted": False}),
    ("decoupled", {"iterations": 8}, {"batch_size": 2}),
    ("decoupled", {"iterations": 2, "restarts": 2}, {"batch_size": 2, "labels_granted": False, "gain": None}),
    ("imprint", {"bins": 64}, {"batch_size": 4, "gain": 40.0}),
    ("imprint", {"bins": 64, "variant": "sparse"}, {"batch_size": 4, "gain": 40.0, "labels_granted": False}),
    ("loki", {"bins": 64}, {"batch_size": 4, "gain": 40.0, "labels_granted": False}),
    ("spear", {}, {"model": "mlp", "batch_size": 2, "gain": 60.0}),
    ("trap_weights", {}, {"model": "mlp", "batch_size": 2, "gain": 20.0, "labels_granted": False}),
    ("fishing", {"target_class": 5, "iterations": 60}, {"batch_size": 3, "gain": None}),
    ("seer", {"target_class": 5, "steps": 2, "coordinates": 200}, {"batch_size": 3, "gain": None}),
    ("feature_hijacking", {"width": 8}, {}),
    ("feature_inversion", {"iterations": 100}, {"gain": 30.0}),
    ("feature_inversion", {"iterations": 120}, {"gain": 15.0, "exact": False}),
    ("feature_inversion", {"iterations": 60, "refine": False}, {"gain": 6.0, "exact": False}),
]
INFERENCE_ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("loss_threshold", {}, {}),
    ("lira_online", {}, {"auc": 0.8}),
    ("lira_online", {"variance": "per_example"}, {"auc": 0.75}),
    ("lira_offline", {}, {"auc": 0.8}),
    ("lira_offline", {"variance": "per_example"}, {"auc": 0.75}),
    ("rmia", {}, {"auc": 0.7}),
    ("rmia", {"mode": "offline", "gamma": 1.0, "a": 0.5}, {"auc": 0.7}),
    ("trajectory", {}, {}),
    ("trajectory", {"signal": "confidence"}, {}),
    ("trajectory", {"signal": "rescaled_logit"}, {}),
    ("gradient_cosine", {}, {}),
    ("gradient_difference", {}, {}),
    ("site", {}, {}),
    ("class_mix", {}, {}),
    ("label_norm", {}, {}),
    ("label_direction", {}, {}),
    ("model_completion", {}, {}),
    ("model_completion", {"adapt": True, "steps": 20}, {}),
]
DEFENSE_ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("mean", {}, {}),
    ("median", {}, {"num_byzantine": 5}),
    ("median", {}, {"num_clients": 2}),
    ("median", {}, {"num_clients": 20, "num_byzantine": 9}),
    ("median", {"weighted": True}, {"num_byzantine": 5}),
    ("trimmed_mean", {"trim_per_side": 0.2, "weighted": True}, {"num_byzantine": 2}),
    ("trimmed_mean", {"num_trimmed_per_side": 3, "weighted": True}, {"num_byzantine": 3}),
    ("trimmed_mean", {"trim_per_side": 0.2}, {"num_byzantine": 2}),
    ("trimmed_mean", {"trim_per_side": 0.0}, {}),
    ("trimmed_mean", {"num_trimmed_per_side": 5}, {"num_byzantine": 5}),
    ("multi_krum", {"num_byzantine": 3}, {}),
    ("multi_krum", {"num_byzantine": 4, "num_selected": 1}, {}),
    ("mda", {"num_byzantine": 3}, {}),
    ("mda", {"num_byzantine": 0}, {"num_clients": 2}),
    ("mda", {"num_byzantine": 3, "max_visits": 0}, {}),
    ("smea", {"num_byzantine": 3}, {}),
    ("smea", {"num_byzantine": 3, "max_subsets": 0}, {}),
    ("gas", {"num_byzantine": 3}, {}),
    ("gas", {"num_byzantine": 2, "num_groups": 3, "groups": "contiguous"}, {"num_clients": 7}),
    ("bulyan", {"num_byzantine": 2}, {"num_byzantine": 2}),
    ("bulyan", {"num_byzantine": 1}, {"num_clients": 8, "num_byzantine": 1}),
    ("caf", {"num_byzantine": 3}, {}),
    ("dnc", {"num_byzantine": 3}, {}),
    ("dnc", {"num_byzantine": 2, "num_iters": 1, "sub_dim": 20, "filter_frac": 1.5}, {"num_clients": 7}),
    ("meamed", {"num_byzantine": 3}, {"num_byzantine": 3}),
    ("meamed", {"num_byzantine": 2}, {"num_clients": 5, "num_byzantine": 2}),
    ("sign_majority", {}, {"translation_equivariant": False}),
    ("sign_majority", {"scale": 0.01}, {"translation_equivariant": False}),
    ("rlr", {"threshold": 4}, {"translation_equivariant": False}),
    ("krum", {"num_byzantine": 4}, {}),
    ("geometric_median", {}, {}),
    ("geometric_median", {"weighted": True}, {"num_clients": 6}),
    ("centered_clipping", {"radius": 3.0}, {"translation_equivariant": False}),
    ("centered_clipping", {"radius": 3.0, "num_iterations": 2, "weighted": True}, {"translation_equivariant": False}),
    (
        "centered_clipping",
        {"radius": 3.0, "sequential": True, "bucket_size": 4},
        {"translation_equivariant": False, "permutation_invariant": False},
    ),
    ("cge", {"num_byzantine": 4}, {"translation_equivariant": False}),
    ("monna", {"num_byzantine": 4}, {"translation_equivariant": False}),
    ("monna", {"num_byzantine": 4, "trusted": 3}, {"permutation_invariant": False}),
    ("norm_bound", {"bound": 2.0}, {"translation_equivariant": False}),
    ("norm_bound", {"bound": "median", "weighted": True}, {"translation_equivariant": False}),
    ("norm_bound", {"bound": "median", "noise_std": 0.1}, {"translation_equivariant": False}),
    ("fltrust", {}, {"translation_equivariant": False}),
    ("fedgw", {}, {}),
    ("clipped_gossip", {"num_byzantine": 2}, {"translation_equivariant": False}),
    ("clipped_gossip", {"radius": 0.5}, {"translation_equivariant": False}),
    ("foolsgold", {}, {"translation_equivariant": False}),
    ("flame", {}, {"translation_equivariant": False}),
    ("flame", {"noise": 0.0}, {"translation_equivariant": False}),
    ("signguard", {}, {"translation_equivariant": False}),
    ("fldetector", {}, {}),
    ("rflbat", {}, {"translation_equivariant": False}),
    ("foundationfl", {}, {}),
    ("foundationfl", {"num_synthetic": 3}, {}),
    ("lasa", {}, {"translation_equivariant": False}),
    ("lasa", {"sparsity": 0.0, "norm_radius": 2.0}, {"translation_equivariant": False}),
    ("nnm", {"num_byzantine": 3}, {}),
    ("nnm", {"num_byzantine": 0}, {}),
    ("bucketing", {}, {}),
    ("bucketing", {"size": 1}, {}),
    ("bucketing", {"size": 20}, {}),
    ("static_clip", {"max_norm": 1e6}, {}),
    ("static_clip", {"max_norm": 1.0}, {"shortens": True}),
    ("arc", {"num_byzantine": 4}, {"shortens": True}),
    ("arc", {"num_byzantine": 0}, {}),
    ("robust_loss", {}, {}),
    ("robust_loss", {"q": 1.0}, {}),
    ("knowledge_screening", {}, {}),
    ("cut_noise", {}, {}),
    ("cut_clip", {"bound": 0.1}, {}),
    ("max_norm", {}, {}),
    ("marvell", {"power": 4.0}, {}),
    ("distance_correlation", {}, {}),
    ("knowledge_screening", {"agreement": False, "threshold": None, "consistency": None}, {}),
    ("inspect_model", {}, {}),
    ("inspect_model", {"d_snr": None, "exposed": None, "batch": 8, "idle": None}, {}),
    ("inspect_model", {"idle": 0.5, "architecture": False, "moved": None}, {}),
    ("dp_sgd", {"noise_multiplier": 1.0}, {}),
    ("dp_sgd", {"noise_multiplier": 0.0, "max_grad_norm": 0.1, "delta": 1e-5}, {}),
    ("dp_sgd", {"target_epsilon": 2.0, "max_grad_norm": 3.0}, {}),
    ("dp_sgd", {"noise_multiplier": 2.0, "target_epsilon": 1.0, "accountant": "gdp", "when_spent": "run"}, {}),
    ("clip", {"max_norm": 1.0}, {}),
    ("clip", {"max_norm": 1e3}, {"changes": False}),
    ("gaussian_noise", {"std": 0.1}, {}),
    ("gaussian_noise", {"std": 0.5, "relative": True}, {}),
    ("gaussian_noise", {"std": 0.0}, {"changes": False}),
    ("prune", {}, {}),
    ("prune", {"per_tensor": False, "error_feedback": True}, {}),
    ("prune", {"ratio": 0.0}, {"changes": False}),
    ("quantize", {}, {}),
    ("quantize", {"bits": 2, "error_feedback": True}, {}),
    ("quantize", {"bits": 4, "stochastic": False}, {}),
    ("sign", {}, {}),
    ("sign", {"error_feedback": True}, {}),
    ("sign", {"scaled": False}, {}),
    ("soteria", {}, {}),
    ("soteria", {"ratio": 0.3, "layer": "3"}, {}),
    ("percentile_privacy", {}, {}),
    ("percentile_privacy", {"percentile": 50, "gamma": 1e3, "local_steps": 5}, {}),
    ("percentile_privacy", {"percentile": 0, "gamma": 1e3}, {"changes": False}),
    ("svt_privacy", {}, {}),
    ("svt_privacy", {"replace": False, "gamma": 1.0, "epsilon_release": 1e4, "local_steps": 3}, {}),
    ("svt_privacy", {"version": "2.7", "tau": 1e3}, {}),
    ("distributed_dp", {"noise_multiplier": 1.0, "clients": 4}, {}),
    ("local_dp", {"clipping_norm": 1.0, "epsilon": 1.0, "delta": 1e-5}, {}),
    ("dp_fedavg", {"noise_multiplier": 1.0}, {}),
    ("dp_fedavg", {"noise_multiplier": 0.5, "quantile": 0.5, "clip_norm": 0.1, "delta": 1e-3}, {}),
    ("dp_fedavg", {"target_epsilon": 8.0, "accountant": "prv"}, {}),
]


def named(rows: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[Any]:
    return [pytest.param(*row, id=f"{row[0]}-{row[1]}-{row[2]}") for row in rows]


@pytest.mark.parametrize(("name", "options", "needs"), named(ATTACK_ROWS))
def test_attack(name: str, options: dict[str, Any], needs: dict[str, Any]) -> None:
    check_attack(ATTACKS[name](**options), **needs)


@pytest.mark.parametrize(("name", "options", "needs"), named(INVERSION_ROWS))
def test_inversion(name: str, options: dict[str, Any], needs: dict[str, Any]) -> None:
    inversion = INVERSIONS[name](**options)
    if not issubclass(INVERSIONS[name], (FeatureInversion, HijackingServer, TextInversion)):
        needs = {**needs, "model": victim(needs.get("model"))}
    check_attack(inversion, **needs)


@pytest.mark.parametrize(("name", "options", "needs"), named(INFERENCE_ROWS))
def test_inference(name: str, options: dict[str, Any], needs: dict[str, Any]) -> None:
    check_attack(INFERENCES[name](**options), **needs)


@pytest.mark.parametrize(("name", "options", "needs"), named(DEFENSE_ROWS))
def test_defense(name: str, options: dict[str, Any], needs: dict[str, Any]) -> None:
    defense = DEFENSES[name](**options)
    check_defense(defense.around(Median()) if isinstance(defense, RuleWrapper) else defense, **needs)


@pytest.mark.parametrize("check", [check_attack, check_defense])
def test_what_is_of_no_kind_is_refused(check: Any) -> None:
    with pytest.raises(InputError, match="expected a subclass of"):
        check("nonsense")


def test_every_entry_has_a_row() -> None:
    assert {row[0] for row in ATTACK_ROWS} == set(ATTACKS)
    assert {row[0] for row in INVERSION_ROWS} == set(INVERSIONS)
    assert {row[0] for row in INFERENCE_ROWS} == set(INFERENCES)
    assert {row[0] for row in DEFENSE_ROWS} == set(DEFENSES)


@pytest.mark.parametrize(
    "table",
    [ATTACKS, INVERSIONS, INFERENCES, DEFENSES],
    ids=["attacks", "inversions", "inferences", "defenses"],
)
def test_an_entry_is_named_like_its_file_and_documented(table: dict[str, type]) -> None:
    for name, entry in table.items():
        assert entry.__module__.rsplit(".", 1)[-1] == name
        lines = [line.strip() for line in (entry.__doc__ or "").splitlines()]
        assert lines[0].endswith(".")
        assert any(line.startswith("Reference: ") for line in lines)
