"""Ray: the only place that imports it, and only when something is to run there.

Whoever computes beyond one machine goes through here: `connection` finds or starts a cluster, `nodes` says what it
has, `streams` runs functions on it that answer piece by piece and tells a lost worker from a wrong answer.
"""

from fedsec.cluster.connection import Connection, require_ray
from fedsec.cluster.nodes import Node, alive_nodes

__all__ = ["Connection", "Node", "alive_nodes", "require_ray"]
