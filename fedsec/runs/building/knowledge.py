"""Federations that exchange knowledge: FedGKT's."""

from fedsec.defense.knowledge import compose
from fedsec.federation.knowledge.fedgkt import FedGKT
from fedsec.federation.knowledge.rounds import KnowledgeFederation
from fedsec.models.split import feature_shape
from fedsec.runs.building.parts import Parts, Placement, build_part


def knowledge_federation(parts: Parts, algorithm: FedGKT, placement: Placement) -> KnowledgeFederation:
    """A server with a network of its own that takes the clients' feature maps.

    Raises:
        InputError: networks that do not go together, or settings that contradict each other.
    """
    settings = parts.config.federation
    assert settings.server is not None
    client = parts.model(parts.config.model, parts.dataset.input_shape, "init")
    shape = feature_shape(client, parts.dataset.image_shape)
    defenses = [build_part("defense", part) for part in parts.config.defense]
    return KnowledgeFederation(
        client,
        parts.model(settings.server.model, shape, "server init"),
        parts.trainer(client),
        algorithm=algorithm,
        defense=compose(defenses),
        **parts.common(),
    )
