"""What a rule may know beside its rows: clients' numbers, the server's update, shapes, points of its own, a memory."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, Gram, GramRule, Pipeline
from fedsec.defenses import NNM, Median
from fedsec.errors import InputError
from fedsec.testing import check_aggregator


class Halfway(GramRule):
    """Half of the way from the server's update to the first row of longest norm; a negative share of the others."""

    normalized = False
    needs_server_update = True

    def max_rejected(self, num_clients: int) -> int:
        return num_clients - 1

    def references(self, cohort: Cohort) -> Tensor:
        assert cohort.server_update is not None
        return cohort.server_update[None]

    def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
        norms = gram.squared_norms()
        weights = torch.full((len(gram) + 1,), -0.1, dtype=torch.float64)
        weights[int(norms.argmax())], weights[-1] = 0.5, 0.5
        return weights


class Newcomers(GramRule):
    """The mean of the clients that it has not seen before, or of all."""

    detects = True

    def __init__(self) -> None:
        self.seen: list[int] = []

    def max_rejected(self, num_clients: int) -> int:
        return 1

    def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
        fresh = torch.tensor([float(client not in self.seen) for client in cohort.clients])
        return fresh if bool(fresh.any()) else torch.ones(len(fresh))

    def remember(self, cohort: Cohort, vector: Tensor) -> None:
        self.seen += cohort.clients

    def state(self) -> dict[str, Tensor]:
        return {"seen": torch.tensor(self.seen, dtype=torch.int64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() != {"seen"}:
            raise InputError(f"expected whom it has seen, got {sorted(state)}")
        self.seen = state["seen"].tolist()


def test_rules_of_these_kinds_keep_the_contract() -> None:
    check_aggregator(Halfway(), translation_equivariant=False)
    check_aggregator(Newcomers())


@pytest.mark.parametrize("mixed", [False, True])
def test_a_reference_counts_like_a_row_and_nobody_mixes_it(mixed: bool) -> None:
    updates, server = torch.randn(7, 50), torch.randn(50)
    rule: Aggregator = Pipeline([NNM(2), Halfway()]) if mixed else Halfway()
    rows = NNM(2)(updates) if mixed else updates
    longest = int(rows.norm(dim=1).argmax())
    factors = torch.full((7,), -0.1)
    factors[longest] = 0.5
    aggregate = rule.aggregate(updates, server_update=server)
    torch.testing.assert_close(aggregate.vector, factors @ rows + server / 2)
    assert float(aggregate.influence.sum()) == pytest.approx(1)
    with pytest.raises(InputError, match="server_update"):
        rule(updates)


def test_inner_products_and_cosines_are_those_of_vectors_from_the_origin() -> None:
    updates, references = torch.randn(5, 40) * 1e-3 + 1, torch.randn(2, 40)
    points = torch.cat([updates, references]).double()
    gram = Gram.of(updates, references)
    torch.testing.assert_close(gram.inner_products(references=True), points @ points.T)
    unit = points / points.norm(dim=1, keepdim=True)
    torch.testing.assert_close(gram.cosines(references=True), unit @ unit.T)
    torch.testing.assert_close(gram.squared_norms(references=True), points.square().sum(1))
    mixing = torch.rand(3, 5, dtype=torch.float64) / 5
    mixed = torch.cat([mixing @ updates.double(), references.double()])
    torch.testing.assert_close(gram.mixed(mixing).inner_products(references=True), mixed @ mixed.T)
    assert gram.mixed(mixing).cosines().shape == (3, 3)
    zeros = Gram.of(torch.tensor([[0.0, 0.0], [1.0, 1.0]])).cosines()
    assert zeros.tolist() == [[0, 0], [0, 1]]


def test_clients_are_remembered_by_their_numbers_once_a_call() -> None:
    rule, updates = Pipeline([Newcomers()]), torch.eye(4)
    assert rule.aggregate(updates, clients=[3, 4, 5, 6]).suspected == ()
    updates[1] = torch.nan
    aggregate = rule.aggregate(updates, clients=[6, 9, 8, 3])
    assert aggregate.suspected == (0, 1, 3)
    assert aggregate.rejected == (1,)
    assert aggregate.vector.tolist() == [0, 0, 1, 0]
    assert rule.state()["0.seen"].tolist() == [3, 4, 5, 6, 6, 8, 3]
    assert Median().aggregate(torch.eye(3)).suspected is None


def test_of_mixed_rows_a_client_in_no_row_that_counts_is_suspected() -> None:
    from fedsec.defenses import Bucketing

    class Second(Newcomers):
        def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
            return torch.arange(len(gram)).eq(1).double()

    pipeline = Pipeline([Bucketing(2), Second()])
    aggregate = pipeline.aggregate(torch.randn(6, 3), generator=torch.Generator().manual_seed(1))
    assert aggregate.suspected is not None
    assert len(aggregate.suspected) == 4
    assert float(aggregate.influence[list(aggregate.suspected)].sum()) == 0


def test_what_does_not_go_with_the_rows_is_named() -> None:
    updates = torch.randn(3, 4)
    wrong = {
        "clients": [[1, 2], [1, 1, 2]],
        "server_update": [torch.zeros(3), torch.zeros(4, dtype=torch.float64), torch.full((4,), torch.nan)],
        "shapes": [{"a": (2, 2), "b": (1,)}],
    }
    for key, values in wrong.items():
        for value in values:
            with pytest.raises(InputError, match=f"Median: {key}"):
                partial(Median(), updates, **{key: value})()


def test_references_and_weights_out_of_contract_are_refused() -> None:
    class Crooked(Halfway):
        def references(self, cohort: Cohort) -> Tensor:
            return torch.zeros(1, 3)

    class Unfinished(Halfway):
        def weights(self, gram: Gram, cohort: Cohort) -> Tensor:
            return torch.full((len(gram),), torch.nan)

    for rule, part in ((Crooked(), "references"), (Unfinished(), "weights")):
        with pytest.raises(InputError, match=part):
            rule(torch.randn(4, 5), server_update=torch.zeros(5))
