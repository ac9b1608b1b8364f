"""Updates that are no numbers: what a server must notice before its rule does.

A faulty client sends the like without malice; a mean that takes one of them in is lost. Named as a Byzantine failure in
Blanchard, El Mhamdi, Guerraoui, Stainer, NeurIPS 2017, arXiv:1703.02757.
"""

import torch

from fedsec.attacks.infinity import Infinity


class NaN(Infinity):
    """Sends NaN, in whole or hidden in an honest update.

    Args:
        num_values: how many numbers of its own honest update an attacker replaces, at places drawn at random; null:
            all of them.

    Raises:
        InputError: a number that is not positive.

    Cost:
        Nothing.

    Limits:
        Every rule's gate rejects such a row, counts it as Byzantine and reports it. It harms servers that do not look.

    Reference: Blanchard et al., NeurIPS 2017, arXiv:1703.02757
    """

    value = torch.nan
