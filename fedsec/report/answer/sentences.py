"""The answer of a run: how far it came, what held and what broke, what leaked, how sure that is, what is not known."""

from collections import Counter
from collections.abc import Iterator, Sequence

from fedsec.errors import count_of
from fedsec.report.answer.leakage import audits, leakage, privacy
from fedsec.report.answer.robustness import robustness
from fedsec.report.answer.words import listed
from fedsec.report.best_inversions import trained_once
from fedsec.report.intervals import spans
from fedsec.report.missing_values import inverted
from fedsec.report.summary import Record, summarize

__all__ = ["answer"]

_FEWEST_SEEDS = 3
_NOTHING = {
    "failed": "of {} every one failed",
    "refused": "of {} every one was refused, since its rule cannot withstand so many Byzantine clients",
    "pending": "of {} none is finished",
}


def answer(records: Sequence[Record], *, interrupted: bool = False, met: int = 0, judged: int = 0) -> list[str]:
    """What a run found, sentence by sentence.

    Args:
        records: the cells' records, in the matrix's order.
        interrupted: whether the run was stopped before its end.
        met: of its author's expectations.
        judged: how many expectations there were.
    """
    done = [record for record in records if record["status"] == "done"]
    sentences = list(_extent(records, interrupted=interrupted))
    if not done:
        return sentences
    trained = trained_once(records)
    models, threats = robustness(trained), [*leakage(records), *audits(records)]
    # Where nobody attacks the model, what was looked at is the question.
    attacked = any(group.attacked for group in summarize(trained).groups)
    sentences += [*models, *privacy(done), *threats] if attacked else [*threats, *models, *privacy(done)]
    if judged:
        sentences.append(f"Of what its author expected {met} of {count_of(judged, 'statement')} came true.")
    sentences += _certainty(trained)
    sentences += _unmeasured(done)
    return sentences


def _extent(records: Sequence[Record], *, interrupted: bool) -> Iterator[str]:
    """How many cells there are numbers of, where that is not all."""
    counts = Counter(record["status"] for record in records)
    missing = [
        f"{counts[status]} {words}"
        for status, words in (
            ("failed", "failed"),
            ("refused", "refused (a rule cannot withstand so many Byzantine clients)"),
            ("pending", "not finished"),
        )
        if counts[status]
    ]
    if interrupted:
        yield "The run was stopped before its end; running the same command again goes on."
    if not counts["done"] and len(missing) == 1:
        yield f"No cell has numbers: {_NOTHING[next(iter(counts))].format(count_of(len(records), 'cell'))}."
    elif not counts["done"]:
        yield f"No cell has numbers: of {count_of(len(records), 'cell')} {listed(missing)}."
    elif missing:
        yield (
            f"There are numbers of {counts['done']} of {count_of(len(records), 'cell')}, {listed(missing)}; what "
            "follows is about those alone."
        )


def _certainty(trained: Sequence[Record]) -> Iterator[str]:
    """On how many seeds the numbers rest."""
    seeds = {group.n for group in summarize(trained).groups if group.n}
    if not seeds:
        return
    least, most = min(seeds), max(seeds)
    if most == 1:
        yield "Every number is of a single seed: another seed may give another, and no difference is told from chance."
        return
    number = f"{most}" if least == most else f"{least} to {most}"
    few = "; fewer than three tell nothing apart" if least < _FEWEST_SEEDS else ""
    yield f"Numbers are means over {number} seeds ({spans(most)}{few})."


def _unmeasured(done: Sequence[Record]) -> Iterator[str]:
    """What readers might take the run for, and it is not."""
    attacked = [group.attacked for group in summarize(done).groups]
    open_questions = []
    if not any(attacked):
        open_questions.append("what attackers could do to the model, since nobody attacked it")
    if not any(map(inverted, done)):
        labels = any((record.get("metrics") or {}).get("label_leak_auc") is not None for record in done)
        open_questions.append(
            "what inputs messages reveal, since no inversion looked at them: an audit asked for labels alone"
            if labels
            else "what messages reveal, since no inversion looked at them"
        )
    if not any(record.get("privacy") for record in done):
        open_questions.append("any guarantee of privacy, since nothing claims one")
    if any(attacked) and not all(attacked):
        yield "Attacks that were not tried may do more than these."
    elif any(attacked):
        yield "Every cell is under attack, so that nothing says what models reach without; other attacks may do more."
    if open_questions:
        yield f"Not measured: {listed(open_questions)}."
