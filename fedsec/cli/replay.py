"""`fedsec replay`: its options as typed. Whatever is heavy is imported when it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fedsec.cli.options import names_of, value_of
from fedsec.errors import InputError

__all__ = ["replay"]

_RULES, _ATTACK, _MODEL, _OUTPUT = "Other rules", "An attack", "The model", "Results"


def replay(
    recording: Annotated[Path, typer.Argument(help="A folder that fedsec.record, or fedsec run --record, wrote.")],
    defense: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|{name: .., ..}|[.., ..]",
            help="A rule, or a list as in a scenario; repeatable. See `fedsec list defenses`.",
            autocompletion=names_of("defense"),
            show_default=False,
            rich_help_panel=_RULES,
        ),
    ] = None,
    rounds: Annotated[
        str | None,
        typer.Option(metavar="3-7|1,4|5-", help="Which rounds.", show_default="all", rich_help_panel=_RULES),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|{name: .., ..}",
            help="Forge rows by it, see `fedsec list attacks`.",
            autocompletion=names_of("attack", "updates"),
            show_default=False,
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    byzantine: Annotated[
        str | None,
        typer.Option(
            metavar="ID,ID,..", help="Whose rows are forged.", show_default="the first ones", rich_help_panel=_ATTACK
        ),
    ] = None,
    num_byzantine: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many forge; and what rules are told that want a number.",
            show_default="as --byzantine names, or as recorded",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PACKAGE.MODULE:FACTORY",
            help="Whose parameters were recorded; your own code is run.",
            autocompletion=names_of("model"),
            show_default="as recorded",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    model_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of the model; repeatable.", show_default=False, rich_help_panel=_MODEL),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(metavar="1,28,28", help="Of one input.", show_default="as recorded", rich_help_panel=_MODEL),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Of the model.", show_default="as recorded", rich_help_panel=_MODEL)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose test set judges the next models.",
            autocompletion=names_of("dataset"),
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of everything random.", show_default="as recorded, or 0", rich_help_panel=_OUTPUT),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for replay.json.", show_default="none", rich_help_panel=_OUTPUT),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print replay.json and nothing else.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Look back at what a server received: who moved the model, and what another rule would have done.

    Each round starts from the recorded model, so that what another rule would have done is one step of its own.

    Exit codes: 0 done, 2 bad input.
    """
    from fedsec.replays import replay as look_back

    told = look_back(
        recording,
        defense=[value_of("--defense", text) for text in defense or ()],
        attack=None if attack is None else value_of("--attack", attack),
        byzantine=None if byzantine is None else _ids(byzantine),
        num_byzantine=num_byzantine,
        rounds=rounds,
        model=model,
        model_options=None if not model_option else _options(model_option),
        input_shape=None if input_shape is None else _shape(input_shape),
        num_classes=num_classes,
        test=dataset,
        seed=seed,
    )
    if out is not None:
        from fedsec.files import write_json

        _make_folder(out)
        write_json(out / "replay.json", told.as_json())
    if as_json:
        import json

        typer.echo(json.dumps(told.as_json(), indent=2, allow_nan=False))
        return

    from rich.console import Console

    from fedsec.replays.tables import show

    show(Console(), told)
    if out is not None:
        typer.echo(f"written to {out / 'replay.json'}")


def _ids(text: str) -> list[int | str]:
    ids: list[int | str] = [part.strip() for part in text.split(",") if part.strip()]
    if not ids:
        raise InputError(f"--byzantine {text!r}: expected ids, such as 3,7")
    return ids


def _shape(text: str) -> list[int]:
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--input-shape {text!r}: expected whole numbers, such as 1,28,28")
    return [int(part) for part in parts]


def _options(texts: list[str]) -> dict[str, Any]:
    from fedsec.cli.options import options_of

    return options_of("--model-option", texts)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be used as a folder ({error.strerror or error})") from error
