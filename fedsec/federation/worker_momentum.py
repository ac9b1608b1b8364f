"""Worker momentum: clients send a running average of their updates, in whose smaller noise less can be hidden.

Karimireddy, He, Jaggi: Learning from History for Byzantine Robust Optimization. ICML 2021, arXiv:2012.10333; first
El Mhamdi, Guerraoui, Rouault: Distributed Momentum for Byzantine-resilient Stochastic Gradient Descent. ICLR 2021,
arXiv:2003.00010. There an update is one stochastic gradient; here it is whatever a round's training led to, so with
one local step (or `fedsgd`) it is theirs, and with several the average is of the whole local differences.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.federation.algorithms.update_algorithm import rows_of_clients
from fedsec.threat.rows import finite_rows

__all__ = ["WorkerMomentum"]


class WorkerMomentum:
    """Each client's running average of its own updates, in the rounds in which it takes part.

    m_i <- beta m_i + (1 - beta) u_i, from m_i = 0; the client sends m_i, which its defenses then act on.

    What is sent depends on the client's data through its updates alone. So under DP-SGD it is computed from what was
    released already, and the account of single examples holds as it stands.

    Args:
        beta: in [0, 1); 0 for none, and then there is no memory.
        parameters: of the global model.
        num_clients: of the federation.

    Attributes:
        averages: m_i of every client, [clients, parameters]; no rows without momentum.

    Raises:
        InputError: there is no room for so many vectors.

    Reference: Karimireddy et al., ICML 2021, arXiv:2012.10333
    """

    def __init__(self, beta: float, parameters: Float[Tensor, "parameters"], num_clients: int) -> None:
        self.beta = beta
        self.averages = rows_of_clients(parameters, num_clients if beta else 0)
        self._sent = False  # whether what was sent is the very same tensor

    def __call__(
        self, rows: Float[Tensor, "clients parameters"], clients: Sequence[int]
    ) -> Float[Tensor, "clients parameters"]:
        """What the clients send instead of a round's updates; the very same rows without momentum.

        A row that is not finite is sent as it is, for the server's gate to reject, and changes no average.

        Args:
            rows: one update a client; left unchanged.
            clients: of the round.
        """
        if not self.beta:
            return rows
        places = torch.tensor(list(clients), device=rows.device)
        everybody = list(clients) == list(range(len(self.averages)))
        earlier = self.averages if everybody else self.averages[places]
        averages = torch.lerp(rows, earlier, self.beta)
        finite = finite_rows(averages)  # that of a row which is not finite is none, either
        if bool(finite.all()) and everybody:
            self.averages, self._sent = averages, True
            return averages
        if self._sent:  # it stays as it was
            self.averages, self._sent = self.averages.clone(), False
        self.averages[places[finite]] = averages[finite]
        return torch.where(finite[:, None], averages, rows)

    def state(self) -> dict[str, Tensor]:
        """What the next rounds depend on; nothing without momentum."""
        # A copy: rounds write into it, client by client.
        return {"momentum": self.averages.clone()} if self.beta else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        if self.beta:
            self.averages, self._sent = state["momentum"].clone(), False
