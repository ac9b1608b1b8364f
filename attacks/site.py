"""Which site sent an update: the one whose other updates it resembles most.

Reference: source inference by what a server sees: Hu, Zhang, Salcic, Sun, Dobbie, Zhang, Source inference attacks:
beyond membership inference attacks in federated learning, 2021 and IEEE TDSC 2024, arXiv:2109.05659. There the source
of an example is asked; here that of an update, by the nearest centroid of earlier ones.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fedsec.threat import PropertyInference, PropertyView


class Site(PropertyInference):
    """Takes an update to come from the site to whose other updates it lies closest, by cosine.

    score(u, s) = mean of <u, v> / (||u|| ||v||) over the known updates v of site s

    Updates are taken less what all sites of their round have in common. It needs updates whose site is known: a server
    that saw the site before, or knows it from another channel. A site without known updates scores -1.

    Cost:
        A product of each update, or sketch of it, with each known one.

    Limits:
        A server that receives updates under the names of its clients need not ask. Under secure aggregation there are
        no single updates; noise of differential privacy hides what tells sites apart (docs/deployed_filters.md).

    Reference: cf. Hu et al., 2021, arXiv:2109.05659
    """

    asks = "site"
    needs = ("known",)
    tasks = ()

    def score(self, view: PropertyView) -> Float[Tensor, "candidates sites"]:
        assert view.known is not None
        assert view.known_values is not None
        similar = normalize(view.updates.double(), eps=1e-300) @ normalize(view.known.double(), eps=1e-300).T
        of_site = (view.known_values[:, None] == similar.new_tensor(range(view.num_values)).long()).to(similar)
        counts = of_site.sum(0)
        return ((similar @ of_site) / counts.clamp_min(1)).masked_fill(counts == 0, -1.0)
