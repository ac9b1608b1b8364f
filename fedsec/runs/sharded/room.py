"""Whether a cluster has room for the actors of a cell."""

from fedsec.cluster import alive_nodes
from fedsec.errors import InputError

__all__ = ["check_room"]


def check_room(actors: int, cpus: int, *, gpus: bool = False) -> None:
    """Refuse what would wait for ever; what others use at present is not looked at.

    Args:
        actors: how many.
        cpus: of each.
        gpus: whether each has a GPU as well.

    Raises:
        InputError: the cluster is too small for them.
    """
    nodes = alive_nodes()
    places = sum(int(min(node.cpus // cpus, node.gpus if gpus else node.cpus)) for node in nodes)
    if places < actors:
        needs = f"{cpus} CPUs{' and a GPU' if gpus else ''}"
        has = "; ".join(f"{node}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes) or "no node is left"
        raise InputError(
            f"actors_per_cell: {actors} actors of {needs} each do not fit the cluster ({has}); expected fewer actors, "
            "fewer cpus_per_cell, or more nodes"
        )
