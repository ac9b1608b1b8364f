"""What each client of a federation has spent, over the whole run."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.privacy.accounting import Accountant, Epsilon, Spending, check_accountant, check_delta, epsilon, merged


class Ledger:
    """One accountant for each client. Clients' data are disjoint, so the federation's epsilon is the largest of theirs.

    Args:
        num_clients: of the federation.
        delta: of everyone's guarantee.
        accountant: see `epsilon`.

    Raises:
        InputError: a number out of range, or an unknown accountant.
    """

    def __init__(self, num_clients: int, delta: float, accountant: Accountant = "rdp") -> None:
        if num_clients < 1:
            raise InputError(f"a ledger needs at least one client, got {num_clients}")
        check_delta(delta)
        check_accountant(accountant)
        self.delta: float = delta
        self.accountant: Accountant = accountant
        self._spent: list[tuple[Spending, ...]] = [()] * num_clients

    @property
    def spent(self) -> tuple[tuple[Spending, ...], ...]:
        """What each client has done, equal steps counted together."""
        return tuple(self._spent)

    def spend(self, client: int, sample_rate: float, noise_multiplier: float, steps: int) -> None:
        """Charge a client with noisy steps.

        Raises:
            InputError: no such client, or a number out of range.
        """
        self._spent[client] = self._after(self._known(client), Spending(noise_multiplier, sample_rate, steps))

    def epsilon(self, client: int) -> Epsilon:
        """What a client has spent; computed once for all clients that did the same.

        Raises:
            InputError: no such client.
        """
        return self._of(self._spent[self._known(client)])

    def maximum(self) -> Epsilon:
        """The largest of all clients' epsilons: the federation's guarantee for each single example."""
        return self._largest()[0]

    @property
    def largest_spending(self) -> tuple[Spending, ...]:
        """The steps that the largest epsilon is of: with them, delta and accountant, anybody can compute it again."""
        return self._largest()[1]

    def _largest(self) -> tuple[Epsilon, tuple[Spending, ...]]:
        histories = list(dict.fromkeys(self._spent))
        if self.accountant != "prv":
            return max(((self._of(history), history) for history in histories), key=lambda pair: _order(pair[0]))
        # prv takes long and never exceeds rdp, which does not: few histories can be the largest.
        bounds = {history: epsilon(history, self.delta).value for history in histories}
        histories.sort(key=lambda history: bounds[history], reverse=True)
        largest = self._of(histories[0]), histories[0]
        for history in histories[1:]:
            if bounds[history] < largest[0].value:
                break
            largest = max(largest, (self._of(history), history), key=lambda pair: _order(pair[0]))
        return largest

    def affords(
        self, client: int, sample_rate: float, noise_multiplier: float, steps: int, budget: float | None
    ) -> bool:
        """Whether a client stays within a budget when it does some more steps; with no budget it does.

        Args:
            client: its number.
            sample_rate: of the steps.
            noise_multiplier: of the steps.
            steps: how many more.
            budget: an epsilon.
        """
        after = self._after(self._known(client), Spending(noise_multiplier, sample_rate, steps))
        if budget is None:
            return True
        if self.accountant == "prv" and epsilon(after, self.delta).value <= budget:
            return True  # prv never exceeds rdp, and takes much longer
        return self._of(after).value <= budget

    def state(self) -> dict[str, Tensor]:
        """The ledger as tensors: it grows with the number of kinds of steps, so shapes differ between rounds."""
        rows = [(client, one) for client, history in enumerate(self._spent) for one in history]
        numbers = [(one.noise_multiplier, one.sample_rate) for _, one in rows]
        counts = [(client, one.steps) for client, one in rows]
        return {
            "spent_steps": torch.tensor(counts, dtype=torch.int64).reshape(-1, 2),
            "spent_noise": torch.tensor(numbers, dtype=torch.float64).reshape(-1, 2),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over exactly what `state` gave.

        Raises:
            InputError: the state is not a ledger's of so many clients.
        """
        steps, noise = state.get("spent_steps"), state.get("spent_noise")
        if steps is None or noise is None:
            raise InputError(f"a kept ledger has spent_steps and spent_noise; got {sorted(state)}")
        kinds = steps.dtype, noise.dtype, steps.ndim, steps.shape
        if kinds != (torch.int64, torch.float64, 2, noise.shape) or steps.shape[1] != 2:
            raise InputError(
                f"a kept ledger has two matrices of two columns and as many rows, int64 and float64; got {steps.dtype} "
                f"of shape {tuple(steps.shape)} and {noise.dtype} of shape {tuple(noise.shape)}"
            )
        restored: list[list[Spending]] = [[] for _ in self._spent]
        for (client, count), (multiplier, rate) in zip(steps.tolist(), noise.tolist(), strict=True):
            restored[self._known(client)].append(Spending(multiplier, rate, count))
        self._spent = [merged(history) for history in restored]

    def _of(self, history: tuple[Spending, ...]) -> Epsilon:
        return epsilon(history, self.delta, self.accountant)

    def _after(self, client: int, more: Spending) -> tuple[Spending, ...]:
        return merged([*self._spent[client], more])

    def _known(self, client: int) -> int:
        if not 0 <= client < len(self._spent):
            raise InputError(f"client must lie in [0, {len(self._spent)}), got {client}")
        return client


def _order(one: Epsilon) -> tuple[float, str]:
    return one.value, one.note
