"""What a formal epsilon of examples is worth to the server, which sees every update and not the last model alone."""

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.probes.epsilon import EpsilonProbe

__all__ = ["ServerEpsilonProbe"]


class ServerEpsilonProbe(EpsilonProbe):
    """The same canaries, told apart by what each leaves in its client's updates of all rounds."""

    name = "epsilon-server"
    title = "Epsilon, audited from updates"
    position = "the server, curious: it follows the protocol"
    granted = (
        "what the server receives of every client's update in every round, and the models that it sent",
        "the canaries, half of which take part by a coin that is not known",
        "how clients train, and what noise they add",
    )
    value = 3.0
    score = "white_box"

    def obstacle(self, deployed: Deployment) -> str | None:
        """See `AuditProbe`."""
        if deployed.config.federation.secure_aggregation is not None:
            return "the server sees sums of clients only, and no single updates"
        if self.unit(deployed) == "client":
            return "whole clients are protected, and what is released to all bounds that"
        return super().obstacle(deployed)
