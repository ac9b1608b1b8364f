"""`fedsec show`: all about one thing that a scenario can name."""

from typing import Annotated

import typer

from fedsec.cli.machine import print_json
from fedsec.errors import InputError

__all__ = ["show"]


def _names(incomplete: str) -> list[str]:
    """For shell completion: the names of every kind."""
    return [name for name in _kinds_of_names() if name.startswith(incomplete)]


def _kinds(incomplete: str) -> list[str]:
    from fedsec.plugins import registry

    return [kind for kind in registry.KINDS if kind.startswith(incomplete)]


def show(
    name: Annotated[
        str, typer.Argument(help="As in a scenario, such as krum.", autocompletion=_names, show_default=False)
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Where something of another kind is called the same: attack, defense, model, ...",
            autocompletion=_kinds,
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show all about one attack, inversion, defense, model, ...: formula, options, cost, limits, paper, examples."""
    kinds = _kinds_of_names()
    known = kinds.get(name, [])
    if not known:
        raise InputError(_unknown(name, kinds))
    if kind is not None and kind not in (every := _kinds("")):
        raise InputError(f"--kind {kind}: is no kind; expected {', '.join(every)}")
    if kind is not None and kind not in known:
        raise InputError(f"--kind {kind}: {name} is {_a(known[0])}; expected no --kind, or --kind {known[0]}")
    if kind is None and len(known) > 1:
        ways = " or ".join(f"--kind {one}" for one in known)
        raise InputError(f"{name}: there is {' and '.join(map(_a, known))} of this name; expected {ways} beside it")
    chosen = known[0] if kind is None else kind
    if chosen == "metric" and name not in _measures():
        from fedsec.cli.display.metric_text import as_json as metric_json
        from fedsec.cli.display.metric_text import print_metric

        if as_json:
            print_json(metric_json(name))
        else:
            print_metric(name)
        return

    from fedsec.plugins.method_page import method_page

    page = method_page(chosen, name)
    if as_json:
        from fedsec.cli.display.method_text import page_json

        print_json(page_json(page))
        return

    from fedsec.cli.display.method_text import print_page

    print_page(page)


def _kinds_of_names() -> dict[str, list[str]]:
    """Everything that has a name -> its kinds."""
    from fedsec.metrics.metric import METRICS
    from fedsec.plugins import registry

    kinds: dict[str, list[str]] = {}
    for kind in registry.KINDS:
        for name in registry.names(kind):
            kinds.setdefault(name, []).append(kind)
    for name in METRICS:
        if "metric" not in kinds.setdefault(name, []):
            kinds[name].append("metric")
    return kinds


def _measures() -> list[str]:
    """The metrics that are classes."""
    from fedsec.plugins import registry

    return list(registry.entries("metric"))


def _unknown(name: str, kinds: dict[str, list[str]]) -> str:
    import difflib

    from fedsec.plugins.paper_names import PAPERS_NAMES

    if name.lower() in PAPERS_NAMES:
        option = PAPERS_NAMES[name.lower()]
        return f"nothing is called {name!r}: it is the algorithm {option}; see fedsec show {option.split()[0]}"
    close = difflib.get_close_matches(name.lower(), list(kinds), 3, cutoff=0.55)
    meant = " or ".join(f"{one!r}, {_a(kinds[one][0])}" for one in close)
    hint = f" (did you mean {meant}?)" if close else ""
    short = name if len(name) <= 60 else f"{name[:57]}..."
    return f"nothing is called {short!r}{hint}; fedsec list shows all names"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
