"""What an observer of a federation sees of candidates: signals of models by rounds, gradients beside updates."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.engine.messages import Start
from fedsec.errors import InputError
from fedsec.federation.updates import Federation
from fedsec.membership.gradients import gradient_products
from fedsec.membership.signals import signals_of
from fedsec.threat import GradientProducts

_SEEN = ("logits", "products", "gradient_norms", "update_norms")
"""What is kept of each model observed."""


class ObservedModels:
    """Watches a federation; nothing that it does changes a round.

    Without a victim the observer sees the global model after each of the rounds; with one, the model that the client
    trained in each of them, as the server receives it: the model that was sent plus the client's update.

    Args:
        federation: observed from now on.
        inputs: of the candidates, as they are stored.
        labels: their classes.
        rounds: that are observed, increasing.
        victim: the client whose updates are seen; None for the global model.
        gradients: whether the candidates' gradients are wanted beside the victim's updates.

    Attributes:
        rounds: that were observed so far.
        start: what the victim started from in the last of them.
    """

    def __init__(
        self,
        federation: Federation,
        inputs: Tensor,
        labels: Int64[Tensor, "examples"],
        rounds: Sequence[int],
        *,
        victim: int | None,
        gradients: bool,
    ) -> None:
        self.federation, self.inputs, self.labels = federation, inputs, labels
        self.wanted, self.victim, self.gradients = tuple(rounds), victim, gradients
        self._seen: dict[str, list[Tensor]] = {name: [] for name in _SEEN}
        self.rounds: tuple[int, ...] = ()
        self.start: Start | None = None
        self._last: Start | None = None
        if victim is not None:  # the global model needs no look at rows, which secure aggregation forbids
            federation.row_observers.append(self._see)

    @property
    def logits(self) -> Float[Tensor, "rounds examples"]:
        """Rescaled logits of the candidates under each model observed."""
        return torch.stack(self._seen["logits"])

    @property
    def updates(self) -> GradientProducts | None:
        """The candidates' gradients beside the victim's updates; None where none was seen."""
        if not self._seen["products"]:
            return None
        products, norms, lengths = (self._seen[name] for name in ("products", "gradient_norms", "update_norms"))
        return GradientProducts(torch.stack(products), torch.stack(norms), torch.stack(lengths))

    def last_signals(self, inputs: Tensor, labels: Int64[Tensor, "examples"]) -> Float[Tensor, "examples"]:
        """Rescaled logits of other examples under the last model observed."""
        assert self._last is not None
        return signals_of(self.federation.trainer, self._last, inputs, labels)[0]

    def after(self) -> None:
        """A round has been played: look at the global model, if it is wanted."""
        if self.victim is None and not self.federation.diverged:
            self._global(self.federation.round)

    def finish(self) -> None:
        """The last round has been played: where it ended before a round that was wanted, the last model is seen."""
        federation = self.federation
        self.after()
        early = 0 < federation.round < self.wanted[-1] and (not self.rounds or self.rounds[-1] < federation.round)
        if self.victim is None and not federation.diverged and early:
            self._remember(federation.round, self._current())

    def _see(self, round_number: int, clients: Sequence[int], rows: Float[Tensor, "clients parameters"]) -> None:
        if self.victim is not None and round_number in self.wanted and self.victim in clients:
            place = list(clients).index(self.victim)
            self._update(round_number, rows[place].detach(), place)

    def _global(self, finished: int) -> None:
        """Look at the global model as it stands after so many rounds, for each wanted round since the last look."""
        before = self.rounds[-1] if self.rounds else 0
        for wanted in self.wanted:
            if before < wanted <= finished:
                self._remember(wanted, self._current())

    def _update(self, round_number: int, row: Float[Tensor, "parameters"], place: int) -> None:
        if not bool(row.isfinite().all()):
            return  # it is thrown away by the server as well
        federation, sent = self.federation, self._current()
        if federation.bn == "local":
            sent = Start(sent.parameters, federation.client_statistics[self.victim])
        returned = federation.received_statistics
        statistics = sent.statistics if returned is None else returned[place].detach()
        local = federation.algorithm.in_round(round_number).training
        trained = sent.parameters + row if local is not None else sent.parameters
        self._remember(round_number, Start(trained, statistics))
        self.start = Start(sent.parameters.clone(), sent.statistics.clone())
        if not self.gradients:
            return
        # Gradients add up to it: what came back less what was sent, over the rate of the steps; FedSGD sends gradients.
        vector = row if local is None else -row / local.lr
        products, lengths = gradient_products(federation.trainer, sent, vector, self.inputs, self.labels)
        for name, value in (("products", products), ("gradient_norms", lengths), ("update_norms", vector.norm())):
            self._seen[name].append(value.cpu())

    def _current(self) -> Start:
        return Start(self.federation.parameters.detach(), self.federation.statistics.detach())

    def _remember(self, round_number: int, model: Start) -> None:
        self._seen["logits"].append(signals_of(self.federation.trainer, model, self.inputs, self.labels)[0])
        self._last = Start(model.parameters.clone(), model.statistics.clone())
        self.rounds = (*self.rounds, round_number)

    def state(self) -> dict[str, Tensor]:
        """What was seen so far."""
        state = {name: torch.stack(values) for name, values in self._seen.items() if values}
        state["rounds"] = torch.tensor(self.rounds, dtype=torch.int64)
        for prefix, model in (("start", self.start), ("last", self._last)):
            if model is not None:
                state |= {f"{prefix}_parameters": model.parameters, f"{prefix}_statistics": model.statistics}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            InputError: it is of other candidates.
        """
        if any(
            state[name].shape[1:] != (len(self.labels),)
            for name in ("logits", "products", "gradient_norms")
            if name in state
        ):
            raise InputError("audit.membership: a kept state is of other candidates")
        rounds = state["rounds"].tolist() if "rounds" in state else []
        # A cell that is given more rounds may not want the one that was its last.
        places = [place for place, one in enumerate(rounds) if one in self.wanted]
        self.rounds = tuple(rounds[place] for place in places)
        self._seen = {
            name: [state[name][place].cpu() for place in places] if name in state else [] for name in self._seen
        }
        device = self.labels.device
        models = [
            Start(state[f"{prefix}_parameters"].to(device), state[f"{prefix}_statistics"].to(device))
            if f"{prefix}_parameters" in state
            else None
            for prefix in ("start", "last")
        ]
        self.start, self._last = models
