"""A replay in print: who moved the model, what other rules would have done, what attackers would have made of it."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from fedsec.metrics.metric import described
from fedsec.recording.round_file import ClientId
from fedsec.replays.hindsight import Replay, RoundReplay
from fedsec.replays.leak import Leak
from fedsec.replays.movers import ClientPart
from fedsec.replays.trials import RuleStep
from fedsec.report.console import say
from fedsec.report.table_layout import Layout

__all__ = ["as_text", "show", "show_leak"]

_MOST_CLIENTS = 15
_MARK = " !"
_Part = TypeVar("_Part")


def show(console: Console, outcome: Replay) -> None:
    """Print a replay: means over the rounds, where there are several.

    Args:
        console: where.
        outcome: what to print.
    """
    manifest = outcome.recording.manifest
    numbers = [one.round for one in outcome.rounds]
    over = f"round {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} rounds, {numbers[0]} to {numbers[-1]}"
    cohort = fmean(len(one.clients) for one in outcome.rounds)
    of_all = "" if manifest.num_clients is None else f" of {manifest.num_clients:,}"
    clients = "client" if cohort == 1 and not of_all else "clients"
    say(
        console,
        f"{outcome.recording.folder}: {over}; {cohort:,.4g}{of_all} {clients} a round sent "
        f"{outcome.recording.num_parameters:,} parameters as {manifest.holds}",
    )
    if cell := outcome.recording.about.get("cell"):
        say(console, f"recorded from a run of fedsec: {', '.join(f'{axis} {value}' for axis, value in cell.items())}")
    _show_movers(console, outcome, over)
    _show_rules(console, outcome.rounds, over)
    if outcome.attack:
        _show_attacked(console, outcome, over)
    for remark in outcome.remarks:
        say(console, f"note: {remark}")


def as_text(outcome: Replay | Leak) -> str:
    """What is printed of a replay or a leak, in a hundred columns."""
    console = Console(file=io.StringIO(), width=100, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        if isinstance(outcome, Replay):
            show(console, outcome)
        else:
            show_leak(console, outcome)
    return captured.get().strip("\n")


def show_leak(console: Console, leak: Leak) -> None:
    """Print what an inversion made of one message.

    Args:
        console: where.
        leak: what to print.
    """
    number = 0 if leak.images is None else len(leak.images)
    count = f"{number or 'no'} image{'' if number == 1 else 's'}"
    say(console, f"{leak.inversion} on what client {leak.client} sent in round {leak.round}: {count}")
    if leak.labels is not None:
        say(console, f"labels, as recovered: {', '.join(map(str, leak.labels.tolist()))}")
    psnr = None if leak.scores is None else leak.scores.metrics.get("psnr")
    if psnr is not None:
        say(console, f"PSNR beside the originals: {psnr:.1f} dB")
    elif leak.images is not None:
        say(console, "no originals were given: how much can be seen is for the picture to tell")
    for remark in leak.remarks:
        say(console, f"note: {remark}")


def _show_movers(console: Console, outcome: Replay, over: str) -> None:
    parts: dict[ClientId, list[ClientPart]] = {}
    for one in outcome.rounds:
        for part in one.clients:
            parts.setdefault(part.client, []).append(part)
    blamed = Counter(client for one in outcome.rounds for rule in one.rules for client in _blamed(rule))
    asked = sum(rule.suspected is not None for rule in outcome.rounds[-1].rules)

    def prominence(client: ClientId) -> float:
        # Whoever moves the model as its weight says is nothing to look at.
        differences = [abs(part.share - part.weight) for part in parts[client] if part.share is not None]
        return fmean(differences) if differences else float("inf")

    order = sorted(parts, key=prominence, reverse=True)
    shown = order[:_MOST_CLIENTS]
    columns: list[list[str]] = [
        [f"{client}{_MARK if any(part.byzantine for part in parts[client]) else ''}" for client in shown],
        [f"{len(parts[client])}" for client in shown],
        [_percent(_mean(parts[client], lambda part: part.share)) for client in shown],
        [_percent(_mean(parts[client], lambda part: part.weight)) for client in shown],
        [_number(_mean(parts[client], lambda part: part.norm)) for client in shown],
        [_fixed(_mean(parts[client], lambda part: part.cosine)) for client in shown],
        [_times(_mean(parts[client], lambda part: part.distance)) for client in shown],
    ]
    names = ["client", "rounds", "share of step", "weight", "length", "cosine", "distance"]
    if asked:
        names.append("suspected")
        columns.append([f"{blamed[client]} of {asked * len(parts[client])}" for client in shown])
    caption = "share: of the step, in a weighted mean; distance: from the median of the rows, 1x is typical"
    if len(order) > len(shown):
        caption = f"{len(order) - len(shown)} further clients are in --json; {caption}"
    if any(part.byzantine for rows in parts.values() for part in rows):
        caption += f";{_MARK} known to be Byzantine"
    _print(console, f"who moved the model ({over})", names, columns, caption)


def _show_rules(console: Console, rounds: Sequence[RoundReplay], over: str) -> None:
    rules = [[one.rules[place] for one in rounds] for place in range(len(rounds[0].rules))]
    taken = "recorded step" if all(one.step == "recorded" for one in rounds) else "step"
    names = ["rule", "length", f"cosine to {taken}", f"distance to {taken}"]
    rows = [[steps[0].defense, *_usual(steps)] for steps in rules]
    if any(step.suspected is not None for steps in rules for step in steps):
        names.append("suspected (rounds)")
        for row, steps in zip(rows, rules, strict=True):
            row.append(_suspects(steps))
    for metric in _metrics(rules):
        names.append(f"{described(metric).title} after it")
        for row, steps in zip(rows, rules, strict=True):
            row.append(_measured(steps, metric))
    by_metric = {
        name: [one.metrics[name] for one in rounds if name in one.metrics] for one in rounds for name in one.metrics
    }
    caption = "; ".join(
        f"{name} as the loop told it: {_value(name, fmean(values))}" for name, values in by_metric.items() if values
    )
    _print(console, f"what each rule would have done ({over})", names, _transposed(rows), caption)
    _show_refusals(console, rules)


def _show_attacked(console: Console, outcome: Replay, over: str) -> None:
    rules = [[one.attacked[place] for one in outcome.rounds] for place in range(len(outcome.rounds[0].attacked))]
    attackers = list(dict.fromkeys(client for one in outcome.rounds for client in one.byzantine))
    names = ["rule", "moved by", "cosine", "their influence", "suspected (rounds)"]
    rows = []
    for steps in rules:
        shares = [
            sum(step.influence[place] for place, part in enumerate(one.clients) if part.client in one.byzantine)
            for step, one in zip(steps, outcome.rounds, strict=True)
            if step.refused is None
        ]
        rows.append(
            [
                steps[0].defense,
                _times(_mean(steps, lambda step: step.damage)),
                _fixed(_mean(steps, lambda step: step.cosine)),
                _percent(_mean_of(shares)),
                _suspects(steps),
            ]
        )
    for metric in _metrics(rules):
        names.append(f"{described(metric).title} after it")
        for row, steps in zip(rows, rules, strict=True):
            row.append(_measured(steps, metric))
    who = ", ".join(map(str, attackers[:10])) + (", ..." if len(attackers) > 10 else "")
    caption = "moved by: distance from the rule's own step without the attack, in lengths of that one"
    _print(
        console,
        f"what {outcome.attack} by {who or 'nobody'} would have done ({over})",
        names,
        _transposed(rows),
        caption,
    )
    _show_refusals(console, rules)
    reports = {str(one.attack["remark"]) for one in outcome.rounds if "remark" in one.attack}
    for remark in sorted(reports):
        say(console, f"note: {outcome.attack}: {remark}")


def _show_refusals(console: Console, rules: Sequence[Sequence[RuleStep]]) -> None:
    for steps in rules:
        reasons = Counter(step.refused for step in steps if step.refused is not None)
        for reason, count in reasons.items():
            where = "" if count == len(steps) else f" in {count} of {len(steps)} rounds"
            say(console, f"not tried: {steps[0].defense}{where}: {reason}")


def _usual(steps: Sequence[RuleStep]) -> list[str]:
    return [
        _number(_mean(steps, lambda step: step.norm)),
        _fixed(_mean(steps, lambda step: step.cosine)),
        _percent(_mean(steps, lambda step: step.distance)),
    ]


def _suspects(steps: Sequence[RuleStep]) -> str:
    counts = Counter(client for step in steps for client in _blamed(step))
    if all(step.suspected is None and not step.rejected for step in steps):
        return "-"
    named = [f"{client} ({count})" if count < len(steps) else f"{client}" for client, count in counts.most_common(6)]
    return ", ".join(named) + (", ..." if len(counts) > 6 else "") or "nobody"


def _blamed(step: RuleStep) -> Iterable[ClientId]:
    return step.rejected if step.suspected is None else step.suspected


def _metrics(rules: Sequence[Sequence[RuleStep]]) -> list[str]:
    return list(dict.fromkeys(name for steps in rules for step in steps for name in step.metrics))


def _measured(steps: Sequence[RuleStep], metric: str) -> str:
    values = [step.metrics[metric] for step in steps if metric in step.metrics]
    return _value(metric, fmean(values)) if values else "-"


def _value(metric: str, value: float) -> str:
    return described(metric).write(value)


def _mean(parts: Sequence[_Part], of: Callable[[_Part], float | None]) -> float | None:
    return _mean_of([value for part in parts if (value := of(part)) is not None])


def _mean_of(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x" if value < 1000 else f"{value:.2g}x"


def _transposed(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _print(console: Console, title: str, names: Sequence[str], columns: Sequence[Sequence[str]], caption: str) -> None:
    layout = Layout(tuple(names), tuple(columns), 1)
    console.print()
    console.print(layout.draw(title, Text(caption), console.width))
