"""The machines of a cluster, and what each has."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedsec.cluster.connection import require_ray


@dataclass(frozen=True)
class Node:
    """A machine that Ray runs tasks on.

    Args:
        id: Ray's name of it.
        host: its own name.
        address: its IP address.
        cpus: that Ray may give away.
        gpus: likewise.
        memory: bytes that Ray may give away.
    """

    id: str
    host: str
    address: str
    cpus: float
    gpus: float
    memory: float

    def __str__(self) -> str:
        """What messages call it: several may run on one machine."""
        return _name(self.host, self.address, self.id)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Node":
        """A node as `ray.nodes()` describes it."""
        has = record["Resources"]
        numbers = (float(has.get(name, 0)) for name in ("CPU", "GPU", "memory"))
        return cls(record["NodeID"], record["NodeManagerHostname"], record["NodeManagerAddress"], *numbers)


def name_of_this_node() -> str:
    """What messages call the node that this worker of Ray's runs on."""
    ray = require_ray()
    return _name(socket.gethostname(), ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id())


def _name(host: str, address: str, node_id: str) -> str:
    return f"{host} ({address}, node {node_id[:8]})"


def alive_nodes() -> list[Node]:
    """All nodes that are alive, in a fixed order."""
    records = require_ray().nodes()
    return sorted((Node.of(record) for record in records if record["Alive"]), key=lambda node: (node.address, node.id))
