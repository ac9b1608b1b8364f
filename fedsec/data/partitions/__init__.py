"""Ways to share a dataset's examples out among clients, one a file. Needs NumPy only."""

from fedsec.data.partitions.by_group import ByGroup
from fedsec.data.partitions.classes_per_client import ClassesPerClient
from fedsec.data.partitions.dirichlet import Dirichlet
from fedsec.data.partitions.given import client_indices
from fedsec.data.partitions.iid import Iid
from fedsec.data.partitions.pachinko import Pachinko
from fedsec.data.partitions.partition import Ints, Partition
from fedsec.data.partitions.quantity_skew import QuantitySkew
from fedsec.data.partitions.shards import Shards
from fedsec.data.partitions.strata import check_strata, class_counts, quantile_strata

__all__ = [
    "PARTITIONS",
    "ByGroup",
    "ClassesPerClient",
    "Dirichlet",
    "Iid",
    "Ints",
    "Pachinko",
    "Partition",
    "QuantitySkew",
    "Shards",
    "check_strata",
    "class_counts",
    "client_indices",
    "quantile_strata",
]

PARTITIONS: dict[str, type[Partition]] = {
    "iid": Iid,
    "dirichlet": Dirichlet,
    "shards": Shards,
    "classes_per_client": ClassesPerClient,
    "quantity_skew": QuantitySkew,
    "pachinko": Pachinko,
    "by_group": ByGroup,
}
