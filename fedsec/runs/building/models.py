"""Federations that exchange models without a server."""

from fedsec.federation.gossip.decentralized import Decentralized
from fedsec.federation.gossip.rounds import GossipFederation
from fedsec.runs.building.parts import Parts, Placement, build_part
from fedsec.scenario.server_rule import server_rule


def gossip_federation(parts: Parts, algorithm: Decentralized, placement: Placement) -> GossipFederation:
    """Clients on a graph, each with a rule for what its neighbors send.

    Raises:
        InputError: settings that contradict each other.
    """
    module = parts.model(parts.config.model, parts.dataset.input_shape, "init")
    rule = server_rule([build_part("defense", part) for part in parts.config.defense])
    return GossipFederation(
        module,
        parts.trainer(module),
        algorithm=algorithm,
        rule=rule,
        linear=[part.name for part in parts.config.defense] == ["mean"],
        **parts.common(),
    )
