"""`fedsec invert`: its options as typed. Whatever is heavy is imported when it runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsec.cli.options import BnStatistics, ClientMode, Device, LpipsNetwork, names_of, options_of, value_of
from fedsec.errors import InputError
from fedsec.plugins import registry

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["invert"]

_INTERRUPTED = 130
_ATTACK, _CLIENT, _LOCAL, _OUTPUT = "The inversion", "The client", "The client's local training", "Results"


def invert(
    inversion: Annotated[
        str | None,
        typer.Option(
            help="See `fedsec list inversions`.",
            metavar="NAME",
            autocompletion=names_of("inversion", "updates"),
            show_default="decoupled where it applies, else inverting_gradients or dlg; of texts dager",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels/--no-labels", help="Whether it knows the labels.", rich_help_panel=_ATTACK)
    ] = False,
    bn_statistics: Annotated[
        BnStatistics | None,
        typer.Option(
            help="What it has of batch normalization: nothing, the broadcast averages, what the sent ones tell of the "
            "batch, or the batch's own.",
            show_default="none; running with --client-mode eval",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    defense_known: Annotated[
        bool,
        typer.Option(
            "--defense-known/--defense-unknown",
            help="Whether it knows the client's defense.",
            rich_help_panel=_ATTACK,
        ),
    ] = True,
    auxiliary: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="How many other images of the dataset a server has that makes the model it sends (imprint, ...).",
            rich_help_panel=_ATTACK,
        ),
    ] = 0,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, help="Its budget.", show_default="the inversion's", rich_help_panel=_ATTACK),
    ] = None,
    restarts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Random starts; the matching loss picks one.",
            show_default="the inversion's",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    inversion_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Another option of the inversion; repeatable.",
            show_default=False,
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PACKAGE.MODULE:FACTORY",
            autocompletion=names_of("model"),
            help="See `fedsec list models`; or your own, whose code this runs.",
            show_default="lenet; of texts char_transformer",
            rich_help_panel=_CLIENT,
        ),
    ] = None,
    model_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="An option of the model; repeatable.", show_default=False, rich_help_panel=_CLIENT
        ),
    ] = None,
    train_epochs: Annotated[
        int, typer.Option(min=0, help="Train the model before it is attacked.", rich_help_panel=_CLIENT)
    ] = 0,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose test images are attacked, or texts (shakespeare).",
            show_default="photos",
            rich_help_panel=_CLIENT,
            autocompletion=names_of("dataset"),
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(min=1, help="Of texts, in characters.", show_default="20", rich_help_panel=_CLIENT),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...",
            help="Your own files and folders in its place; in order.",
            show_default=False,
            rich_help_panel=_CLIENT,
        ),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(hidden=True, metavar="PATH")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="To which they are resized, in pixels.", show_default="32", rich_help_panel=_CLIENT),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(help="Of the model attacked with them.", show_default="10", rich_help_panel=_CLIENT),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images (or texts) of the client.", show_default="2", rich_help_panel=_CLIENT),
    ] = None,
    same_class: Annotated[
        bool, typer.Option("--same-class", help="All images of a batch from one class.", rich_help_panel=_CLIENT)
    ] = False,
    distinct_classes: Annotated[
        bool,
        typer.Option(
            "--distinct-classes", help="All from different ones (as photos do by default).", rich_help_panel=_CLIENT
        ),
    ] = False,
    normalization: Annotated[
        str,
        typer.Option(
            metavar="SPEC", help="Of pixels: unit, half, or {mean: [..], std: [..]}.", rich_help_panel=_CLIENT
        ),
    ] = "unit",
    client_mode: Annotated[
        ClientMode, typer.Option(help="Of its batch normalization.", rich_help_panel=_CLIENT)
    ] = ClientMode.train,
    defense: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|{name: .., ..}",
            help="Of its update, e.g. prune or '{name: prune, ratio: 0.9}'; repeatable, in order. See `fedsec list "
            "defenses`.",
            show_default=False,
            rich_help_panel=_CLIENT,
        ),
    ] = None,
    local_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="SGD steps; the update is what they change.", show_default="a gradient", rich_help_panel=_LOCAL
        ),
    ] = None,
    local_lr: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="0.01", rich_help_panel=_LOCAL)
    ] = None,
    local_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in a step.", show_default="all", rich_help_panel=_LOCAL)
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Disjoint batches, attacked together.", rich_help_panel=_OUTPUT)
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.", rich_help_panel=_OUTPUT)] = 0,
    device: Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=_OUTPUT)] = Device.auto,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads.",
            show_default="one, or all where these are faster",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    lpips: Annotated[
        LpipsNetwork | None,
        typer.Option(
            help="Backbone of LPIPS; downloaded if need be.",
            show_default="alex, if it is there",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the results.",
            show_default="inversions/<inversion>-<model>-<hash>",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    gif: Annotated[bool, typer.Option("--gif", help="Animate the recovery.", rich_help_panel=_OUTPUT)] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Show only what went wrong, and where the results are.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print result.json and nothing else.", rich_help_panel=_OUTPUT)
    ] = False,
    attack: Annotated[str | None, typer.Option(hidden=True)] = None,
    attack_option: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    adaptive: Annotated[bool | None, typer.Option("--adaptive/--naive", hidden=True)] = None,
) -> None:
    """Show what a server sees: recover a client's images and labels, or its texts, from its update.

    Without options: two embedded photographs, an untrained LeNet, the best inversion of it, nothing to download.
    With --dataset shakespeare: two texts of 20 characters, an untrained transformer, DAGER.

    Exit codes: 0 done (whatever was recovered), 2 bad input, 130 interrupted (the best so far is kept).
    """
    _refuse_old_names(attack, attack_option, adaptive)
    if more and not images:
        flag = "; --labels takes no word: the attacker knows them with it" if str(more[0]) in ("known", "infer") else ""
        raise InputError(f"unexpected argument {str(more[0])!r}; image files go with --images{flag}")
    if images and dataset is not None:
        raise InputError("--images and --dataset exclude each other: the images are the client's, or the dataset's are")
    if same_class and distinct_classes:
        raise InputError("--same-class and --distinct-classes exclude each other")
    from fedsec.report.console import open_console
    from fedsec.report.progress_lines import activity

    console = open_console(quiet=quiet, as_json=as_json)
    if dataset is not None and _holds_texts(dataset):
        _refuse_for_texts(
            dataset,
            {
                "--labels": labels,
                "--bn-statistics": bn_statistics,
                "--defense-unknown": not defense_known,
                "--auxiliary": auxiliary,
                "--iterations": iterations,
                "--restarts": restarts,
                "--train-epochs": train_epochs,
                "--image-size": image_size,
                "--num-classes": num_classes,
                "--same-class": same_class,
                "--distinct-classes": distinct_classes,
                "--normalization": normalization != "unit",
                "--client-mode": client_mode != ClientMode.train,
                "--local-batch-size": local_batch_size,
                "--lpips": lpips,
                "--gif": gif,
            },
        )
        given = {
            "length": length,
            "batch_size": batch_size,
            "inversion": inversion,
            "inversion_options": options_of("--inversion-option", inversion_option or ()),
            "model": model,
            "model_options": options_of("--model-option", model_option or ()),
            "local_steps": local_steps,
            "local_lr": local_lr,
            "defense": tuple(value_of("--defense", text) for text in defense or ()),
            "trials": trials,
            "seed": seed,
            "device": device.value,
            "threads": threads,
            "out": out,
        }
        _invert_texts(console, dataset, given, as_json=as_json)
        return
    if length is not None:
        raise InputError("--length is that of texts; expected --dataset shakespeare, or another one of texts, too")
    with activity(console, "loading PyTorch"):
        from fedsec.data.normalization import normalization as constants
        from fedsec.inversion.run import run
        from fedsec.inversion.settings import DEFAULT_DATASET, DEFAULT_MODEL, InversionSettings

    settings = InversionSettings(
        inversion=inversion,
        model=model or DEFAULT_MODEL,
        dataset=dataset or DEFAULT_DATASET,
        images=(*(images or ()), *(more or ())),
        image_size=image_size,
        num_classes=num_classes,
        batch_size=batch_size,
        classes="same" if same_class else "distinct" if distinct_classes else None,
        labels=labels,
        local_steps=local_steps,
        local_lr=local_lr,
        local_batch_size=local_batch_size,
        client_mode=client_mode.value,
        bn_statistics=None if bn_statistics is None else bn_statistics.value,
        train_epochs=train_epochs,
        trials=trials,
        seed=seed,
        iterations=iterations,
        restarts=restarts,
        inversion_options=options_of("--inversion-option", inversion_option or ()),
        model_options=options_of("--model-option", model_option or ()),
        normalization=constants(value_of("--normalization", normalization)),
        defense=tuple(value_of("--defense", text) for text in defense or ()),
        defense_known=defense_known,
        auxiliary=auxiliary,
        device=device.value,
        threads=threads,
        lpips=None if lpips is None else lpips.value,
        out=out,
        gif=gif,
    )
    result = run(settings, console=console)
    if as_json:
        typer.echo(result.files[-1].read_text(), nl=False)
    if result.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _holds_texts(dataset: str) -> bool:
    known = registry.entries("dataset")
    return dataset in known and known[dataset].traits["task"] == "next_token"


def _refuse_for_texts(dataset: str, options: Mapping[str, Any]) -> None:
    """Options about images, which nothing would come of."""
    for option, value in options.items():
        if value:
            raise InputError(
                f"{option}: is not for texts, which {dataset} has; expected --inversion, --model, --length, "
                "--batch-size, --local-steps, --local-lr, --defense, --trials, --seed or --out"
            )


def _invert_texts(console: "Console", dataset: str, given: Mapping[str, Any], *, as_json: bool) -> None:
    from fedsec.report.progress_lines import activity

    with activity(console, "loading PyTorch"):
        from fedsec.inversion.texts.run import run_texts
        from fedsec.inversion.texts.settings import TextSettings

    stated = {name: value for name, value in given.items() if value is not None}
    result = run_texts(TextSettings(dataset=dataset, **stated), console=console)
    if as_json:
        typer.echo(result.files[-1].read_text(), nl=False)


def _refuse_old_names(attack: str | None, options: Sequence[str] | None, adaptive: bool | None) -> None:
    """An attack is what Byzantine clients do; what a curious server does is an inversion, here and in scenarios."""
    if attack is not None:
        raise InputError(f"--attack is called --inversion now: --inversion {attack}")
    if options:
        raise InputError(f"--attack-option is called --inversion-option now: --inversion-option {options[0]}")
    if adaptive is not None:
        old, new = ("--adaptive", "--defense-known") if adaptive else ("--naive", "--defense-unknown")
        raise InputError(f"{old} is called {new} now")
