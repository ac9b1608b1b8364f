"""Updates, and sums of them, of which a curious server could make nothing: refused before anything is trained."""

import torch

from fedsec.errors import InputError
from fedsec.federation.algorithms.personal.layers import last_layers
from fedsec.federation.updates import Federation
from fedsec.inversion.personal_layers import names_at_home
from fedsec.inversion.server_view import has_batch_statistics, replayable_steps
from fedsec.scenario.inversion_config import KnowledgeConfig
from fedsec.threat import Inversion, MaliciousServer

__all__ = ["check_updates"]


def check_updates(federation: Federation, inversion: Inversion, client: int, knowledge: KnowledgeConfig) -> None:
    """Refuse what cannot be inverted.

    Args:
        federation: that is about to begin.
        inversion: of its server.
        client: whose update is looked at.
        knowledge: what the server knows.

    Raises:
        InputError: the model has not what the server is said to know, the client's training cannot be replayed, its
            labels cannot be read, or nothing is known of what defenses leave of a sum.
    """
    word = knowledge.bn_statistics
    if word in ("batch", "sent") and not has_batch_statistics(federation.module):
        raise InputError(
            f"inversion.knowledge.bn_statistics: the model has no batch normalization; expected none, got {word}"
        )
    if word == "sent" and not federation.sends_statistics:
        raise InputError(
            f"inversion.knowledge.bn_statistics: with federation.bn: {federation.bn} clients send no running "
            "statistics of their training; expected federation.bn average or reset, or none or running here"
        )
    local, clients = federation.algorithm.training, [client]
    if federation.secure_aggregation is not None and not isinstance(inversion, MaliciousServer):
        clients = list(range(federation.num_clients))  # any of them may share the target's sum
    if local is not None:
        try:
            for images in federation.data.sizes(clients).tolist():
                replayable_steps(local, images)
        except InputError as error:
            raise InputError(f"inversion: {error}") from error
    _check_labels(federation, inversion, knowledge)
    if federation.secure_aggregation is not None:
        _check_sums(federation, inversion, knowledge)


def _check_labels(federation: Federation, inversion: Inversion, knowledge: KnowledgeConfig) -> None:
    home = names_at_home(federation)
    if not home or not (inversion.tells_labels_only or (inversion.reads_labels and not knowledge.labels)):
        return
    if home.isdisjoint(last_layers(federation.module, 1)):
        return
    where = f"labels are read from the last layer, which {type(federation.algorithm).__name__} leaves with its clients"
    if inversion.tells_labels_only:
        raise InputError(f"inversion: {where}; expected an inversion of images, with granted labels or one like dlg")
    raise InputError(
        f"inversion.knowledge.labels: {where}; expected labels: true, or an inversion that searches for them, such as "
        "dlg"
    )


def _check_sums(federation: Federation, inversion: Inversion, knowledge: KnowledgeConfig) -> None:
    known = federation.client_defenses.known_of_sum(torch.ones(1))
    if not isinstance(inversion, MaliciousServer) and (federation.privacy is not None or known is None):
        raise InputError(
            "inversion: what these defenses of single updates leave of a sum of clients is not worked out for "
            "servers that follow the protocol; expected clip, noise that is not relative, local_dp or "
            "distributed_dp, or a server that makes the model it sends (imprint, loki)"
        )
    if knowledge.bn_statistics in ("batch", "sent"):
        raise InputError(
            "inversion.knowledge.bn_statistics: statistics of single clients are no part of a sum; expected none "
            f"or running beside federation.secure_aggregation, got {knowledge.bn_statistics}"
        )
    if knowledge.personal_layers == "known":
        raise InputError(
            "inversion.knowledge.personal_layers: each client of a sum has layers of its own, and one model is tried; "
            "expected initial beside federation.secure_aggregation, got known"
        )
