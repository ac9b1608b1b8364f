"""Federated averaging.

McMahan, Moore, Ramage, Hampson, Agueera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017, arXiv:1602.05629. The server's learning rate is that of Reddi et al.,
Adaptive Federated Optimization, ICLR 2021, arXiv:2003.00295.
"""

from dataclasses import dataclass
from typing import ClassVar

from fedsec.federation.algorithms.local_steps import StragglingAlgorithm


@dataclass(frozen=True)
class FedAvg(StragglingAlgorithm):
    """Federated averaging: clients train for several local steps, the server averages; one round is one-shot.

    Reference: McMahan et al. 2017, arXiv:1602.05629
    """

    replayable: ClassVar[bool] = True
    private_examples: ClassVar[bool] = True
    private_clients: ClassVar[bool] = True
    first_round_alike: ClassVar[bool] = True
    server_trains: ClassVar[bool] = True
    forgets_rows: ClassVar[bool] = True
