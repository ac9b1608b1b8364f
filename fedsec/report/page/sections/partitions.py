"""How the examples are spread over the clients."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsec.errors import count_of
from fedsec.report.page.parts import Drawing, Folded, PageSection, Part
from fedsec.report.page.svg import inline_svg
from fedsec.report.partition_figure import MOST_CIRCLES, distinct_partitions, draw_partition

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["partitions"]

_SHOWN = 3


def partitions(view: "RunView") -> PageSection | None:
    """A picture of each partition, that of its first seed."""
    drawings = [
        Drawing(inline_svg(draw_partition(partition), f"partition-{number}"), *_words(partition))
        for number, partition in enumerate(distinct_partitions(view.root, view.done), start=1)
    ]
    if not drawings:
        return None
    parts: list[Part] = [*drawings[:_SHOWN]]
    if rest := drawings[_SHOWN:]:
        parts.append(Folded(f"{count_of(len(rest), 'more partition')}", rest))
    return PageSection("partitions", "Who holds what", parts)


def _words(partition: Mapping[str, Any]) -> tuple[str, str]:
    """What a picture shows, and the caption that says how to read it."""
    counts = np.asarray(partition["counts"], dtype=np.float64)
    sizes = counts.sum(axis=1)
    held = counts[sizes > 0]
    main = (held.max(axis=1) / held.sum(axis=1)).mean() if len(held) else 0.0
    spread = (
        f"{int(sizes[0]):,} each"
        if sizes.min() == sizes.max()
        else f"{int(sizes.min()):,} to {int(sizes.max()):,} each, half of them at least {np.median(sizes):,.0f}"
    )
    quantiles = bool((partition.get("partition") or {}).get("quantiles"))
    kind, kinds = ("quantile", "quantiles") if quantiles else ("class", "classes")
    several = counts.shape[1] > 1
    of_kinds = f" of {counts.shape[1]} {kinds}" if several else ""
    description = f"{int(sizes.sum()):,} examples{of_kinds} over {count_of(len(sizes), 'client')}: {spread}."
    if several:
        description += f" Of a client's examples {100 * main:.0f}% are of its most frequent {kind} on average."
    how = (
        "A circle's area is the number of examples" if len(sizes) <= MOST_CIRCLES else "The darker, the larger a share"
    )
    return description, f"{description} {how}." if several else description
