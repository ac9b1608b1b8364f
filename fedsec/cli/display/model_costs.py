"""What models cost on a dataset's images, as `fedsec list models --dataset` shows it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console

from fedsec.cli.display.tables import Column, print_note, print_table
from fedsec.errors import InputError
from fedsec.plugins import registry

if TYPE_CHECKING:
    from fedsec.models.catalog import EdgeRatio, Listed

__all__ = ["fixed_shape", "show_costs"]


def fixed_shape(dataset: str) -> tuple[tuple[int, int, int], int]:
    """Shape of an image and number of classes of a dataset by name, without loading it.

    Raises:
        InputError: unknown name, or a dataset whose shape depends on the files.
    """
    registry.entry("dataset", dataset)
    source = registry.load("dataset", dataset)
    if source.input_shape is None or source.num_classes is None:
        raise InputError(
            f"dataset {dataset!r}: its images' shape and classes depend on its files; expected a dataset of one shape, "
            "such as cifar10"
        )
    if len(source.input_shape) != 3 or not source.num_classes:
        raise InputError(
            f"dataset {dataset!r} holds {'vectors' if len(source.input_shape) != 3 else 'no classes'}; expected a "
            "dataset of images with classes, such as cifar10"
        )
    return source.input_shape, source.num_classes


def show_costs(
    dataset: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    listed: Iterable["Listed"],
    ratios: Iterable["EdgeRatio"],
) -> None:
    """Print what models cost for one image of a dataset, and what FedGKT spares its clients.

    Args:
        dataset: its name.
        input_shape: (channels, height, width) of an image.
        num_classes: number of logits.
        listed: the models.
        ratios: the networks of FedGKT's paper over its client.
    """
    from fedsec.models.catalog import CLIENT

    console = Console()
    rows = []
    for item in listed:
        note = f"on {_by(item.input_shape)} feature maps" if item.on_features else ""
        if item.costs is None:
            rows.append((item.name, "", "", "", " ".join([note, item.refused]).strip()))
            continue
        forward, training = item.costs.forward_flops / 1e6, item.costs.training_flops / 1e6
        rows.append((item.name, f"{item.costs.parameters:,}", f"{forward:,.3f}", f"{training:,.3f}", note))
    title = f"models on {dataset} ({_by(input_shape)}, {num_classes} classes), for one image"
    columns = (
        Column("name"),
        *(Column(header, right=True) for header in ("parameters", "MFLOPs forward", "MFLOPs training")),
        Column("note", comfort=14),
    )
    print_table(console, title, columns, rows)

    ratio_rows = [
        (
            ratio.network,
            f"{ratio.forward_flops:.1f}x",
            f"{ratio.training_flops:.1f}x",
            f"{ratio.paper_flops}x",
            f"{ratio.parameters:.1f}x",
            f"{ratio.paper_parameters}x",
        )
        for ratio in ratios
    ]
    headers = ("FLOPs forward", "FLOPs training", "paper", "parameters", "paper ")
    ratio_columns = (Column("network"), *(Column(header, right=True) for header in headers))
    print_table(console, f"what FedGKT spares its clients: a whole network over {CLIENT}", ratio_columns, ratio_rows)
    explanations = (
        "FLOPs: a multiplication with its addition counts two; training is forward and backward pass.",
        "The paper's ratios are those of 3x32x32 images; its parameter ratios divide by 11K, rounded from 10,586.",
    )
    for line in explanations:
        print_note(console, line)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
