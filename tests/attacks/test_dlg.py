"""DLG and iDLG: images and labels together, labels first, the published search."""

from typing import Any

import pytest
import torch

from fedsec.attacks import DLG, IDLG
from fedsec.errors import InputError
from fedsec.threat import Snapshot


@pytest.mark.parametrize("attack", [DLG(iterations=25), IDLG(iterations=25)], ids=["dlg", "idlg"])
def test_single_images_and_labels_are_recovered(attack: Any, client: Any, pictures: Any, decibels: Any) -> None:
    seen = [client(pictures(1, seed), torch.tensor([seed])) for seed in range(3)]
    for seed, found in enumerate(attack.reconstruct_many(seen)):
        assert found.labels.tolist() == [seed]
        assert decibels(found.images, pictures(1, seed)) > 25
        assert float(found.losses[-1]) < 1e-6


def test_together_equals_one_by_one(client: Any, pictures: Any) -> None:
    seen = [client(pictures(1, seed), torch.tensor([seed]), granted=True) for seed in range(2)]
    together = DLG(iterations=1).reconstruct_many(seen)
    alone = DLG(iterations=1).reconstruct(seen[0])
    assert alone.images is not None
    assert together[0].images is not None
    assert torch.allclose(alone.images, together[0].images, atol=1e-3)


def test_solved_restarts_end_the_search_of_their_observation(client: Any, pictures: Any) -> None:
    shown: list[Snapshot] = []
    found = DLG(iterations=100, restarts=3, tolerance=1e-4).reconstruct(
        client(pictures(1), torch.tensor([1])), watch=shown.append
    )
    assert found.iterations < 30
    assert float(shown[-1].losses) <= 1e-4


def test_the_published_search_runs_and_shows_its_final_labels(client: Any, pictures: Any) -> None:
    seen = client(pictures(1), torch.tensor([2]))
    generator = torch.Generator().manual_seed(3)
    found = DLG(iterations=15, variant="published", restarts=3).reconstruct(seen, generator=generator)
    assert float(found.losses[-1]) < float(found.losses[0])
    assert found.labels is not None
    assert found.labels.tolist() == [2]


def test_interrupted_searches_keep_the_best(client: Any, pictures: Any) -> None:
    def watch(snapshot: Snapshot) -> None:
        if snapshot.iteration == 2:
            raise KeyboardInterrupt

    for variant in ("robust", "published"):
        found = DLG(iterations=50, variant=variant, tolerance=0).reconstruct(
            client(pictures(1), torch.tensor([2])), watch=watch
        )
        assert found.interrupted
        assert found.iterations == 2


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"restarts": 0}])
@pytest.mark.parametrize("attack", [DLG, IDLG])
def test_numbers_out_of_range(attack: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        attack(**wrong)


def test_unknown_variants_are_refused() -> None:
    with pytest.raises(InputError, match="robust or published"):
        DLG(variant="other")  # type: ignore[arg-type]
