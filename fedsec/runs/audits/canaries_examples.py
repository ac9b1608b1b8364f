"""Canary examples among clients' own, and what the server and the final model tell of them.

**What stays as it is.** Canaries take the place of examples that the client has, so that n, the sampling rate, delta
and the noise are those of the run without an audit; all other clients, the initial model and everybody's streams are,
too. With DP-SGD a canary that is not included keeps its slot, and the slot stays empty in every batch: its gradient is
zero, which is what removing an example means in DP-SGD's account (zero-out, see `fedsec.defenses.DpSgd`). Without
DP-SGD there is no account to keep: the client has fewer examples.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from fedsec.data import Dataset
from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError
from fedsec.federation.updates import Federation
from fedsec.privacy import Epsilon, epsilon
from fedsec.runs.audits.canaries_evidence import Evidence
from fedsec.runs.audits.canaries_gradients import CanaryGradients, clipped
from fedsec.runs.audits.canaries_kinds import canary_examples
from fedsec.runs.audits.canaries_part import CanaryPart, checked
from fedsec.scenario import CellConfig

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment


class ExampleCanaries(CanaryPart):
    """Examples that are included by chance.

    The white-box score is what a server tells that sees every update and knows all but the coins: a client's update is

        u = k (sum of others' clipped gradients + sum_i s_i g_i) + noise,

    s_i being 1 for a canary that is included, g_i its clipped gradient at the model that the client received, and k the
    length of the client's step. The score is the linear estimate of s_i - 1/2 from all rounds together of least squared
    error, (sum_t k^2 G G^T / v + 4)^-1 sum_t k G r / v: r is the update without what the others and half of all
    canaries make of it, v the variance of a coordinate of r. For a single canary that is the sum of <g, r> over rounds;
    of several whose gradients resemble each other it takes care that none is scored by another's presence. The
    black-box score is minus the loss of the final model.

    Args:
        config: of the cell.
    """

    metric = "epsilon_lower"

    def __init__(self, config: CellConfig) -> None:
        super().__init__(config)
        self._evidence = {
            client: Evidence.none(number) for client, number in self.settings.shares(config.partition.clients).items()
        }
        self._num_classes = 0
        self.numbers = np.zeros(self.settings.count, np.int64)
        self.client_of = np.zeros(self.settings.count, np.int64)

    def shares(self, shares: Sequence[np.ndarray], dataset: Dataset) -> list[np.ndarray]:
        message = self.settings.no_room([len(share) for share in shares])
        if message is not None:
            raise InputError(f"audit.canaries.count: {message}")
        self._num_classes = dataset.num_classes
        return list(shares)

    def enter(self, data: ResidentData) -> None:
        by_client = self.settings.shares(len(data.clients))
        places = {
            client: np.sort(self._rng("client", client).choice(len(data.clients[client]), number, replace=False))
            for client, number in by_client.items()
        }
        old = np.concatenate([data.clients[client][places[client]] for client in places])
        images, labels = canary_examples(
            self.settings.kind,
            *data.examples(old),
            self._num_classes,
            self._rng(self.settings.kind),
        )
        private = any(part.role == "local" for part in self.config.defense)
        begin = 0
        for client, chosen in places.items():
            mine = slice(begin, begin + len(chosen))
            begin = mine.stop
            numbers = data.replace_slots(client, chosen, images[mine], labels[mine])
            self.numbers[mine], self.client_of[mine] = numbers, client
            absent = numbers[~self.included[mine]]
            if private:
                data.absent[client] = absent
            else:
                data.clients[client] = data.clients[client][~np.isin(data.clients[client], absent)]

    def attach(self, experiment: "Experiment", folder: Path) -> None:
        federation = experiment.federation
        assert isinstance(federation, Federation)
        clients = set(self.client_of.tolist())
        if attacked := sorted(clients & experiment.threat.byzantine):
            raise InputError(
                f"audit.canaries.client: client {attacked[0]} is Byzantine, and what it sends need not come from its "
                f"examples; expected others than {', '.join(map(str, sorted(experiment.threat.byzantine)))}"
            )
        self.federation = federation
        self._gradients = CanaryGradients(federation.module, federation.trainer.layout, federation.trainer.task)
        private = federation.algorithm.private
        self._bound = None if private is None else private.max_grad_norm
        self.check()
        if "white_box" in self.settings.score:
            self.check_room(max(np.bincount(self.client_of)), copies=3)
            federation.row_observers.append(self._see)

    def state(self) -> dict[str, Tensor]:
        if "white_box" not in self.settings.score:
            return {}
        return {
            f"{name}.{client}": tensor for client, one in self._evidence.items() for name, tensor in one.state().items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        state = checked(state, self.state())
        for client, one in self._evidence.items() if state else ():
            one.restore({name: state[f"{name}.{client}"] for name in one.state()})

    def scores(self) -> Mapping[str, Float64[np.ndarray, "canaries"]]:
        values = {"white_box": self._coins, "loss": self._losses}
        return {score: values[score]() for score in self.settings.score}

    def claim(self, delta: float | None) -> Epsilon | None:
        account = self.federation.privacy
        if account is None:
            return None
        ledger = account.ledger
        delta = ledger.delta if delta is None else delta
        spent = {ledger.spent[client] for client in set(self.client_of.tolist())}
        return max((epsilon(history, delta, ledger.accountant) for history in spent), key=lambda one: one.value)

    def about(self, delta: float) -> Mapping[str, Any]:
        return {"clients": self.client_of.tolist()}

    def _see(self, round_number: int, clients: Sequence[int], rows: Float[Tensor, "clients parameters"]) -> None:
        for row, client in zip(rows, clients, strict=True):
            if client not in self._evidence:
                continue
            if bool(row.isfinite().all()):
                self._look(row, client, round_number)

    def _look(self, row: Float[Tensor, "parameters"], client: int, round_number: int) -> None:
        """Take up what a client's update tells of its canaries.

        A mechanism that does not clip is not what it claims to be, and who believed it would see nothing: of clipped
        gradients and of those as they are the ones count that explain the update better.
        """
        mine = self.numbers[self.client_of == client]
        own = torch.cat([*self._rows(mine)])
        bounds = dict.fromkeys((self._bound, None))
        sums = {bound: clipped(own, bound).sum(0) / 2 for bound in bounds}
        for some in self._rows(np.setdiff1d(self.federation.data.clients[client], mine)):
            for bound, total in sums.items():
                total += clipped(some, bound).sum(0)
        steps = {bound: self._step(client, total, row, round_number) for bound, total in sums.items()}
        residuals = {bound: row - steps[bound] * total for bound, total in sums.items()}
        best = min(bounds, key=lambda bound: float(residuals[bound].double().square().sum()))
        self._evidence[client].add(clipped(own, best), residuals[best], steps[best])

    def _step(self, client: int, expected: Tensor, row: Tensor, round_number: int) -> float:
        """By how much a client's update grows with the sum of its gradients.

        The formula is that of `RunPrivacy.known`: small steps of SGD. Clipped gradients take small steps, and a single
        step is as long as it is; of others the update itself must tell.
        """
        count = len(self.federation.data.clients[client])
        local = self.federation.algorithm.in_round(round_number).training
        if local is None:
            return 1 / count
        steps = local.steps_of(count)
        if local.optimizer == "sgd" and local.clip_norm is None and (local.private is not None or steps == 1):
            reaches = sum(1 - local.momentum**left for left in range(1, steps + 1)) / (1 - local.momentum)
            return -local.lr * reaches / count
        length = float(expected.double().square().sum())
        return float(expected.double() @ row.double()) / length if length else 0.0

    def _coins(self) -> Float64[np.ndarray, "canaries"]:
        values = np.zeros(self.settings.count)
        for client, one in self._evidence.items():
            values[self.client_of == client] = one.coins()
        return values

    def _rows(self, numbers: Int64[np.ndarray, "some"]) -> Iterator[Float[Tensor, "some parameters"]]:
        federation = self.federation
        inputs, targets = federation.data.batch(torch.from_numpy(numbers).to(federation.data.device))
        buffers = dict(federation.module.named_buffers())
        return self._gradients.rows(federation.parameters, buffers, inputs, targets)

    def _losses(self) -> Float64[np.ndarray, "canaries"]:
        federation = self.federation
        inputs, targets = federation.data.batch(torch.from_numpy(self.numbers).to(federation.data.device))
        buffers = dict(federation.module.named_buffers())
        losses = self._gradients.losses(federation.parameters, buffers, inputs, targets)
        return -losses.double().cpu().numpy()

    def _rng(self, *name: str | int) -> np.random.Generator:
        return self.streams.numpy("audit", "canaries", *name)
