"""Backdoors: what the attackers train on, what success is, and that it comes about."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from fedsec.attacks import DBA, Backdoor, EdgeCase
from fedsec.cli import app
from fedsec.defenses import Median
from fedsec.errors import InputError
from fedsec.threat import AttackerView, DataPoisoning

IMAGES = torch.randint(0, 200, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4


def poison(attack: DataPoisoning, images: Tensor = IMAGES, seed: int = 0) -> tuple[Tensor, Tensor]:
    return attack.poison(images, LABELS, num_classes=4, generator=torch.Generator().manual_seed(seed))


def test_a_share_of_the_examples_gets_trigger_and_label() -> None:
    images, labels = poison(Backdoor(target=3, poisoned_fraction=0.33))
    marked = (images != IMAGES).flatten(1).any(1)
    assert int(marked.sum()) == 13
    assert (labels[marked] == 3).all()
    assert torch.equal(labels[~marked], LABELS[~marked])
    wanted = IMAGES.clone()
    wanted[marked, :, 5:, 5:] = 255
    assert torch.equal(images, wanted)
    assert not torch.equal(poison(Backdoor(target=3, poisoned_fraction=0.33), seed=1)[0], images)
    # As little as there is: one example.
    assert int((poison(Backdoor(target=3, poisoned_fraction=1e-9))[0] != IMAGES).flatten(1).any(1).sum()) == 1


def test_the_published_square() -> None:
    """The 3x3 white corner with target 1 and share 0.15 of the public study on Fashion-MNIST."""
    images, labels = poison(Backdoor(target=1, poisoned_fraction=0.15, size=3, value=1.0))
    assert int((images[:, :, 5:, 5:] == 255).flatten(1).all(1).sum()) == 6
    assert int((labels != LABELS).sum()) <= 6


def test_blended() -> None:
    images, _ = poison(Backdoor(pattern="blended", opacity=0.5, poisoned_fraction=1.0))
    other, _ = poison(Backdoor(pattern="blended", opacity=0.5, poisoned_fraction=1.0), seed=5)
    assert torch.equal(images, other)
    # Half of the image is the key: where it is told twice from two images, it is the same.
    keys = 2 * images.float() - IMAGES.float()
    assert (keys - keys[0]).abs().max() <= 2


def probe_of(attack: DataPoisoning) -> Any:
    (probe,) = attack.probes(IMAGES, LABELS, num_classes=4, generator=torch.Generator())
    assert probe.name == "attack_success_rate"
    return probe


def test_success_is_measured_on_what_is_not_of_the_target_class() -> None:
    probe = probe_of(Backdoor(target=2))
    assert len(probe.inputs) == 30
    assert (probe.targets == 2).all()
    rest = IMAGES[LABELS != 2].clone()
    rest[..., 5:, 5:] = 255
    assert torch.equal(probe.inputs, rest)
    with pytest.raises(InputError, match="every test example is of class 2"):
        Backdoor(target=2).probes(IMAGES, LABELS * 0 + 2, num_classes=4, generator=torch.Generator())


def strips(attack: DBA) -> set[tuple[int, int]]:
    images, _ = attack.poison(
        torch.zeros(1, 1, 8, 12, dtype=torch.uint8), LABELS[:1], num_classes=4, generator=torch.Generator()
    )
    return {(row, column) for row, column in images[0, 0].nonzero().tolist()}


def test_dba_divides_what_is_measured_whole() -> None:
    attack = DBA(target=1, poisoned_fraction=1.0)
    whole = {(row, column) for row in (0, 3) for start in (0, 6) for column in range(start, start + 4)}
    assert strips(attack) == whole
    for count in (1, 2, 3, 4, 7):
        own = [strips(attack.part(place, count)) for place in range(count)]
        assert set().union(*own) == whole
        assert len({frozenset(one) for one in own}) == min(count, 4)
        if count <= 4:
            assert sum(map(len, own)) == len(whole)
    assert strips(attack.part(2, 4)) == {(3, column) for column in range(4)}
    (probe,) = attack.part(0, 4).probes(
        torch.zeros(4, 1, 8, 12, dtype=torch.uint8), LABELS[:4], num_classes=4, generator=torch.Generator()
    )
    assert {tuple(place) for place in probe.inputs[0, 0].nonzero().tolist()} == whole


def test_edge_cases_are_the_tail_of_a_class() -> None:
    distances = [
        float((IMAGES[i].double() - IMAGES[LABELS == 1].double().mean(0)).norm()) for i in range(40) if LABELS[i] == 1
    ]
    own = (LABELS == 1).nonzero().squeeze(1)
    rarest = {int(own[i]) for i in sorted(range(10), key=lambda i: -distances[i])[:3]}
    images, labels = poison(EdgeCase(1, 3, tail=0.3))
    assert images is IMAGES
    assert set((labels != LABELS).nonzero().squeeze(1).tolist()) == rarest
    assert (labels[list(rarest)] == 3).all()
    probe = probe_of(EdgeCase(1, 3, tail=0.3))
    assert torch.equal(probe.inputs, IMAGES[sorted(rarest)])
    # Nobody has an image of the class: nothing is mislabeled.
    bright = EdgeCase(1, 3, "bright").poison(IMAGES, LABELS * 0, num_classes=4, generator=torch.Generator())[1]
    assert not bright.any()
    with pytest.raises(InputError, match="no test example is of class 1"):
        EdgeCase(1, 3).probes(IMAGES, LABELS * 0, num_classes=4, generator=torch.Generator())


def test_semantic_features() -> None:
    images = torch.zeros(40, 3, 2, 2, dtype=torch.uint8)
    images[0, 0], images[4, 1], images[8, 2], images[12] = 90, 90, 90, 200
    rare = {}
    for feature in ("red", "green", "blue", "bright", "dark"):
        _, labels = poison(EdgeCase(0, 1, feature, tail=0.1), images)  # type: ignore[arg-type]
        rare[feature] = (labels != LABELS).nonzero().flatten().tolist()
    assert rare == {"red": [0], "green": [4], "blue": [8], "bright": [12], "dark": [16]}
    with pytest.raises(InputError, match="images of three colors"):
        poison(EdgeCase(0, 1, "red"))


@pytest.mark.parametrize("attack", [Backdoor(boost=5.0), DBA(boost=5.0), EdgeCase(0, 1, boost=5.0)])
def test_boosted_updates(attack: Any) -> None:
    own = torch.tensor([[1.0, -2.0]])
    view = AttackerView(own, own[:0], own[0], 3, 1, 1, torch.Generator())
    assert attack.forges
    assert attack.craft(view).tolist() == [[5.0, -10.0]]
    assert not type(attack)(*((0, 1) if isinstance(attack, EdgeCase) else ())).forges


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Backdoor, {"poisoned_fraction": 0.0}, "poisoned_fraction must lie in"),
        (Backdoor, {"target": -1}, "target must be a class"),
        (Backdoor, {"pattern": "cross"}, "pattern must be pixels or blended"),
        (Backdoor, {"pattern": "blended", "size": 2, "value": 0.5}, "size and value go with pattern pixels"),
        (Backdoor, {"size": 0}, "size must be at least 1"),
        (Backdoor, {"position": "middle"}, "position must be one of"),
        (Backdoor, {"value": 255}, r"value must lie in \[0, 1\], where 1 is white, not 255"),
        (Backdoor, {"opacity": 0.0}, "opacity must lie in"),
        (Backdoor, {"boost": 0.0}, "Backdoor: boost must be positive"),
        (DBA, {"parts": 1}, "at least 2 parts"),
        (DBA, {"value": 2.0}, "value must lie in"),
        (DBA, {"boost": float("inf")}, "DBA: boost must be positive"),
        (EdgeCase, {"source": 1, "target": 1}, "two different classes"),
        (EdgeCase, {"source": 1, "target": 2, "feature": "rare"}, "feature must be"),
        (EdgeCase, {"source": 1, "target": 2, "tail": 0.0}, "tail must lie in"),
    ],
)
def test_malformed_options(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**options)


def test_classes_by_name_and_classes_that_do_not_exist() -> None:
    names = ["cat", "dog", "car", "bird"]
    with pytest.raises(InputError, match="target='car': names of classes need a dataset"):
        poison(Backdoor(target="car"))
    assert Backdoor(target="car").resolve(names.index).target == 2  # type: ignore[arg-type]
    both = EdgeCase("car", "bird").resolve(names.index)  # type: ignore[arg-type]
    assert (both.source, both.target) == (2, 3)
    with pytest.raises(InputError, match="both class 1"):
        EdgeCase("dog", 1).resolve(lambda one: 1)
    with pytest.raises(InputError, match="target=4 must be a class, below 4"):
        poison(Backdoor(target=4))
    with pytest.raises(InputError, match="this task has none"):
        Backdoor().poison(IMAGES, LABELS.float(), num_classes=None, generator=torch.Generator())


def test_data_that_do_not_fit_are_refused_before_a_run(tmp_path: Path) -> None:
    for attack, message in (
        (Backdoor(size=9), "a patch of 9 x 9 pixels at row -1, column -1 does not fit images of 8 x 8"),
        (DBA(), "a patch of 1 x 4 pixels at row 0, column 6 does not fit images of 8 x 8"),
        (Backdoor(target=10), "target=10 must be a class, below 10"),
        (EdgeCase(1, 2, "red"), "needs images of three colors"),
    ):
        with pytest.raises(InputError, match=message):
            attack.check_data((1, 8, 8), 10)
    Backdoor().check_data((1, 8, 8), 10)
    file = tmp_path / "large.yaml"
    file.write_text("dataset: digits\nattack: {name: backdoor, size: 9, fraction: 0.2}\n")
    result = CliRunner().invoke(app, ["run", str(file), "--dry-run"])
    assert result.exit_code == 2
    assert "attack: trigger: a patch of 9 x 9 pixels" in " ".join(result.output.split())


def success(federation: Any) -> tuple[float, float]:
    """Attack success and accuracy in the end."""
    *_, last = federation.run()
    return last.metrics["attack_success_rate"] or 0.0, last.metrics["accuracy"] or 0.0


@pytest.mark.parametrize(
    ("attack", "attackers"),
    [
        (Backdoor(target=2, size=2, position="top_right", poisoned_fraction=0.3), {0, 1}),
        (Backdoor(target=2, pattern="blended", opacity=0.5, poisoned_fraction=0.3), {0, 1}),
        (DBA(target=2, poisoned_fraction=0.4), {0, 1, 2, 3}),
        (Backdoor(target=2, size=2, position="top_right", poisoned_fraction=0.3, boost=3.0), {0}),
    ],
    ids=["pixels", "blended", "dba", "boosted"],
)
def test_backdoors_work(attack: DataPoisoning, attackers: set[int], backdoored: Any) -> None:
    rate, accuracy = success(backdoored(attack, attackers))
    honest_rate, honest_accuracy = success(backdoored(attack))
    assert rate > 0.8
    assert honest_rate < 0.2
    assert accuracy > 0.9
    assert honest_accuracy > 0.9


def test_one_attacker_of_six_does_not_get_past_the_median(backdoored: Any) -> None:
    attack = Backdoor(target=2, size=2, position="top_right", poisoned_fraction=0.3, boost=3.0)
    assert success(backdoored(attack, {0}, aggregator=Median()))[0] < 0.2
