"""`fedsec replay`: its options as typed. Whatever is heavy is imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsec.cli.option_words import in_option_words
from fedsec.cli.options import names_of, options_of, value_of
from fedsec.errors import InputError

if TYPE_CHECKING:
    from fedsec.replays import Leak

__all__ = ["replay"]

_PARAMETERS = (
    *("defense", "attack", "byzantine", "num_byzantine", "rounds", "client", "inversion", "batch_size", "seed"),
    *("model", "input_shape", "num_classes"),
)
"""Of `fedsec.replay` and `fedsec.invert_recorded`, those that are options here."""
_RENAMED = {
    "test": "--dataset",
    "originals": "--images",
    "pixels": "--normalization",
    "model_options": "--model-option",
}

_RULES, _ATTACK, _LEAK = "Other rules", "An attack", "What leaked"
_MODEL, _OUTPUT = "The model", "Results"


def replay(
    recording: Annotated[Path, typer.Argument(help="Folder of a recording, of fedsec run --record or of Python.")],
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
    inversion: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|{name: .., ..}",
            help="Recover a client's images from what it sent, see `fedsec list inversions`.",
            autocompletion=names_of("inversion", "updates"),
            show_default=False,
            rich_help_panel=_LEAK,
        ),
    ] = None,
    client: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose.", show_default=False, rich_help_panel=_LEAK)
    ] = None,
    round_number: Annotated[
        int | None,
        typer.Option("--round", min=1, help="In which round.", show_default="its first", rich_help_panel=_LEAK),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Its images.", show_default="its examples", rich_help_panel=_LEAK),
    ] = None,
    local_lr: Annotated[
        float | None, typer.Option(help="Its learning rate.", show_default="as recorded", rich_help_panel=_LEAK)
    ] = None,
    local_steps: Annotated[
        int | None, typer.Option(min=1, help="Its SGD steps.", show_default="as recorded", rich_help_panel=_LEAK)
    ] = None,
    local_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in a step.", show_default="as recorded", rich_help_panel=_LEAK)
    ] = None,
    pixels: Annotated[
        str | None,
        typer.Option(
            "--normalization",
            metavar="SPEC",
            help="Of pixels: unit, half, or {mean: [..], std: [..]}.",
            show_default="as recorded",
            rich_help_panel=_LEAK,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="The original files, to measure against; repeatable.",
            show_default=False,
            rich_help_panel=_LEAK,
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
        typer.Option(
            metavar="DIR",
            help="Folder for replay.json and pictures.",
            show_default="none, or replays/<name>",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show only where the files are.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print replay.json and nothing else.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Look back at what a server received: who moved the model, and what another rule would have done.

    Each round starts from the recorded model, so that what another rule would have done is one step of its own.

    Exit codes: 0 done, 2 bad input.
    """
    if inversion is None and client is not None:
        raise InputError("--client: names whose message is inverted; expected --inversion NAME beside it")
    if inversion is not None and client is None:
        raise InputError("--inversion: expected --client ID, whose message is to be inverted")
    from fedsec.report.console import open_console, say
    from fedsec.report.progress_lines import activity

    console = open_console(quiet=quiet, as_json=as_json)
    with activity(console, "loading PyTorch"):
        from fedsec.replays import invert_recorded
        from fedsec.replays import replay as look_back
        from fedsec.replays.tables import show, show_leak

    source: dict[str, Any] = {
        "model": model,
        "model_options": None if not model_option else options_of("--model-option", model_option),
        "input_shape": None if input_shape is None else _shape(input_shape),
        "num_classes": num_classes,
        "seed": seed,
    }
    outcome = leak = None
    if inversion is None or defense or attack is not None:
        rules = [value_of("--defense", text) for text in defense or ()]
        forger = None if attack is None else value_of("--attack", attack)
        with in_option_words(_PARAMETERS, _RENAMED):
            outcome = look_back(
                recording,
                defense=rules,
                attack=forger,
                byzantine=None if byzantine is None else _ids(byzantine),
                num_byzantine=num_byzantine,
                rounds=rounds,
                test=dataset,
                console=console,
                **source,
            )
    if inversion is not None and client is not None:
        method, constants = value_of("--inversion", inversion), None
        if pixels is not None:
            constants = value_of("--normalization", pixels)
        with in_option_words(_PARAMETERS, _RENAMED):
            leak = invert_recorded(
                recording,
                console=console,
                client=client,
                round=round_number,
                inversion=method,
                batch_size=batch_size,
                local={"lr": local_lr, "steps": local_steps, "batch_size": local_batch_size},
                pixels=constants,
                originals=None if not images else _decoded(images),
                **source,
            )
        out = Path("replays") / recording.resolve().name if out is None else out
    content = {**({} if outcome is None else outcome.as_json()), **({} if leak is None else {"leak": leak.as_json()})}
    written = [] if out is None else _write(out, content, leak)
    if as_json:
        import json

        typer.echo(json.dumps(content, indent=2, allow_nan=False))
        return

    if outcome is not None:
        show(console, outcome)
    if leak is not None:
        show_leak(console, leak)
    if written:
        say(console, f"results in {out}: {', '.join(written)}", essential=True)


def _write(folder: Path, content: dict[str, Any], leak: "Leak | None") -> list[str]:
    """Leave files in a folder; returns their names."""
    from fedsec.files import made_folder, write_json
    from fedsec.replays.pictures import write_leak

    made_folder(folder, "--out")
    files = [] if leak is None else write_leak(folder, leak)
    write_json(folder / "replay.json", content)
    return [*(path.name for path in files), "replay.json"]


def _decoded(paths: list[Path]) -> Any:
    from fedsec.data.image_files import decode_all

    return decode_all([str(path) for path in paths])


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
